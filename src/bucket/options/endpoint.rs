//! URLs of stores.

use std::fmt;

use http::Uri;

/// URL of a store: scheme `http` or `https`, host, and port and path if there are any, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

/// Error of a text that is no endpoint. The text may hold a password, and is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// The text is no URL with a host.
    #[error("must be a URL such as https://HOST:PORT, or HOST:PORT")]
    NoUrl,
    /// The URL has a user, a query or a fragment.
    #[error("must not hold a user, a query or a fragment; remove them")]
    TooMuch,
    /// The URL has a path.
    #[error("must not have a path; remove it")]
    Path,
}

impl Endpoint {
    /// Reads an endpoint without a path. Where the text has no scheme, `is_secure` chooses `https`.
    pub fn of_host(text: &str, is_secure: bool) -> Result<Self, InvalidEndpoint> {
        let endpoint = Self::with_path(text, is_secure)?;
        let (_, host) = endpoint.0.split_once("://").expect("an endpoint has a scheme");
        if host.contains('/') { Err(InvalidEndpoint::Path) } else { Ok(endpoint) }
    }

    /// Reads an endpoint that may have a path, as the emulator of Azure has.
    pub fn with_path(text: &str, is_secure: bool) -> Result<Self, InvalidEndpoint> {
        let scheme = if is_secure { "https" } else { "http" };
        let text = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") };
        if text.contains(['@', '?', '#']) {
            return Err(InvalidEndpoint::TooMuch);
        }
        let uri: Uri = text.parse().map_err(|_| InvalidEndpoint::NoUrl)?;
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let (Some(scheme), Some(authority)) = (scheme, authority) else { return Err(InvalidEndpoint::NoUrl) };
        let path = uri.path().trim_end_matches('/');
        Ok(Self(format!("{scheme}://{authority}{path}")))
    }

    /// Returns the URL, without a slash at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if requests are encrypted on their way.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_a_scheme_whether_it_is_written_or_not() {
        for (text, is_secure, expected) in [
            ("minio.example.com:9000", true, "https://minio.example.com:9000"),
            ("minio.example.com:9000", false, "http://minio.example.com:9000"),
            ("http://127.0.0.1:9000/", true, "http://127.0.0.1:9000"),
            ("https://[::1]:9000", false, "https://[::1]:9000"),
        ] {
            let endpoint = Endpoint::of_host(text, is_secure).unwrap();
            assert_eq!(endpoint.as_str(), expected);
            assert_eq!(endpoint.is_secure(), expected.starts_with("https"));
        }
        let account = Endpoint::with_path("http://127.0.0.1:10000/devstoreaccount1", true).unwrap();
        assert_eq!(account.as_str(), "http://127.0.0.1:10000/devstoreaccount1");
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, problem) in [
            ("", InvalidEndpoint::NoUrl),
            ("ftp://a", InvalidEndpoint::NoUrl),
            ("https://", InvalidEndpoint::NoUrl),
            ("https://a b", InvalidEndpoint::NoUrl),
            ("https://user:password@host", InvalidEndpoint::TooMuch),
            ("https://host?x", InvalidEndpoint::TooMuch),
            ("https://host#x", InvalidEndpoint::TooMuch),
            ("https://host/path", InvalidEndpoint::Path),
        ] {
            assert_eq!(Endpoint::of_host(text, true), Err(problem), "{text}");
        }
    }
}
