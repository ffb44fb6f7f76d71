//! Prefix of all paths of a registry, for a proxy that passes a part of its paths on (distribution's
//! `http.prefix`). Pure.
//!
//! A registry with the prefix `/registry/` answers `/registry/v2/…`; every other path is 404. All its URLs are
//! paths, and begin with the prefix.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::header::{LINK, LOCATION};
use http::{HeaderMap, HeaderValue};

/// Prefix of all paths of a registry. The default is `/`. Clones share the text, since each request of a registry with
/// users takes one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathPrefix {
    /// Prefix without its last slash, such as `/registry`; `None` for `/`.
    text: Option<Arc<str>>,
}

/// Reason why a text is not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathPrefixError {
    /// The first or last slash is missing.
    #[error("prefix does not begin and end with '/'")]
    Slash,
    /// Component that is empty or a dot segment, or a character that a path cannot have as it is.
    #[error("prefix is not a path: use letters, digits and '-._~!$&()*+,;=:@' between single slashes")]
    Malformed,
}

impl PathPrefix {
    /// Returns the text to put before a path: empty, or `/registry`.
    pub(crate) fn without_slash(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// Returns the path behind the prefix, which begins with a slash; `None` if the path lies elsewhere.
    pub(crate) fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        // Without a prefix, any path is passed on.
        let Some(text) = &self.text else { return Some(path) };
        // `/registryx` has another prefix.
        path.strip_prefix(&**text).filter(|rest| rest.starts_with('/'))
    }

    /// Puts the prefix before the paths in the `Location` and `Link` headers of a response.
    pub(crate) fn prepend_to(&self, headers: &mut HeaderMap) {
        let Some(text) = &self.text else { return };
        for (name, mark) in [(LOCATION, ""), (LINK, "<")] {
            let Some(value) = headers.get_mut(name) else { continue };
            let before = value.to_str().ok().and_then(|text| text.strip_prefix(mark));
            // Other values are URLs of other servers.
            if let Some(path) = before.filter(|path| path.starts_with('/')) {
                *value = HeaderValue::try_from(format!("{mark}{text}{path}"))
                    .expect("prefix and header are visible ASCII");
            }
        }
    }
}

impl FromStr for PathPrefix {
    type Err = PathPrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(text) = text.strip_suffix('/') else { return Err(PathPrefixError::Slash) };
        if text.is_empty() {
            return Ok(Self::default());
        }
        let components = text.strip_prefix('/').ok_or(PathPrefixError::Slash)?;
        // RFC 3986, 3.3, without percent-encoding, so that one path has one spelling.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$&()*+,;=:@".contains(c);
        let is_component = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(is_plain);
        if components.split('/').all(is_component) {
            Ok(Self { text: Some(text.into()) })
        } else {
            Err(PathPrefixError::Malformed)
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.without_slash())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> PathPrefix {
        text.parse().unwrap()
    }

    #[test]
    fn only_paths_below_the_prefix_are_the_registrys() {
        let registry = prefix("/registry/");
        for (path, rest) in [
            ("/registry/v2/", Some("/v2/")),
            ("/registry/", Some("/")),
            ("/registry", None),
            ("/registryx/v2/", None),
            ("/v2/", None),
            ("/", None),
            ("/Registry/v2/", None),
            ("//registry/v2/", None),
        ] {
            assert_eq!(registry.strip(path), rest, "{path}");
        }
        for path in ["/v2/", "/", "*", "", "/registry/v2/"] {
            assert_eq!(PathPrefix::default().strip(path), Some(path));
        }
        assert_eq!(prefix("/a/b/").strip("/a/b/v2/x"), Some("/v2/x"));
    }

    #[test]
    fn a_prefix_is_a_plain_path_between_slashes() {
        for text in ["/", "/registry/", "/a/b-c_d.e~/", "/v2/"] {
            assert_eq!(prefix(text).to_string(), text);
        }
        assert_eq!(prefix("/"), PathPrefix::default());
        for text in ["", "registry", "/registry", "registry/"] {
            assert_eq!(text.parse::<PathPrefix>(), Err(PathPrefixError::Slash), "{text}");
        }
        for text in
            ["//", "/a//b/", "/../", "/a/./", "/a b/", "/a%2fb/", "/ä/", "/a?/", "/a#/", "/<a>/", "/a\n/"]
        {
            assert_eq!(text.parse::<PathPrefix>(), Err(PathPrefixError::Malformed), "{text}");
        }
    }

    #[test]
    fn urls_of_a_response_carry_the_prefix() {
        let headers = |location: &'static str, link: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_static(location));
            headers.insert(LINK, HeaderValue::from_static(link));
            headers
        };
        let own = headers("/v2/a/blobs/uploads/1", "</v2/_catalog?n=1&last=a>; rel=\"next\"");
        let mut prefixed = own.clone();
        prefix("/registry/").prepend_to(&mut prefixed);
        assert_eq!(prefixed[LOCATION], "/registry/v2/a/blobs/uploads/1");
        assert_eq!(prefixed[LINK], "</registry/v2/_catalog?n=1&last=a>; rel=\"next\"");
        let mut plain = own.clone();
        PathPrefix::default().prepend_to(&mut plain);
        assert_eq!(plain, own);
        let elsewhere = headers("https://bucket.example/x", "<https://x.example/>; rel=\"next\"");
        let mut kept = elsewhere.clone();
        prefix("/registry/").prepend_to(&mut kept);
        assert_eq!(kept, elsewhere);
    }
}
