//! Parser from a request's path to an endpoint. Pure, and linear in the length of the path.
//!
//! Repository names contain slashes and may contain components called `blobs` or `manifests`, so the
//! endpoint's own components are matched from the right (distribution-spec, section Endpoints).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use quinistry_oci::{DigestError, NameError, RepositoryName};

/// Endpoint with its parameters. Names are parsed; references are left to the handlers, whose responses to a
/// malformed one differ.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// end-1
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// end-2, end-10
    Blob { name: RepositoryName, digest: String },
    /// end-3, end-7, end-9
    Manifest { name: RepositoryName, reference: String },
    /// end-4, end-11
    Uploads { name: RepositoryName },
    /// end-5, end-6, end-13, end-14
    Upload { name: RepositoryName, id: String },
    /// end-8
    Tags { name: RepositoryName },
    /// end-12
    Referrers { name: RepositoryName, digest: String },
}

/// Reason for which a path is not an endpoint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    /// Path that the specification does not define.
    #[error("no such endpoint")]
    Unknown,
    /// Endpoint of a repository whose name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Endpoint with a digest that contains a slash.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// Last components of a path, which name an endpoint, before the repository's name is parsed.
enum PathSuffix<'a> {
    Blob(&'a str),
    Manifest(&'a str),
    Uploads,
    Upload(&'a str),
    Tags,
    Referrers(&'a str),
}

impl Route {
    /// Parses the path of a request, still percent-encoded.
    pub(crate) fn parse(path: &str) -> Result<Self, RouteError> {
        let path = path.strip_prefix("/v2").ok_or(RouteError::Unknown)?;
        if matches!(path, "" | "/") {
            return Ok(Self::Base);
        }
        let path = path.strip_prefix('/').ok_or(RouteError::Unknown)?;
        if !path.contains('%') {
            return Self::from_components(&path.split('/').collect::<Vec<_>>());
        }
        // Split, then decode, each once: an encoded slash belongs to a component, where no grammar allows a
        // slash.
        let components: Vec<Cow<'_, str>> =
            path.split('/').map(decode).collect::<Option<_>>().ok_or(NameError::Malformed)?;
        Self::from_components(&components.iter().map(AsRef::as_ref).collect::<Vec<_>>())
    }

    /// Parses the decoded components of a path below `/v2/`.
    fn from_components(parts: &[&str]) -> Result<Self, RouteError> {
        let (name, suffix) = match *parts {
            ["_catalog"] => return Ok(Self::Catalog),
            [ref name @ .., "blobs", "uploads"] | [ref name @ .., "blobs", "uploads", ""] => {
                (name, PathSuffix::Uploads)
            }
            [ref name @ .., "blobs", "uploads", id] => (name, PathSuffix::Upload(id)),
            [ref name @ .., "tags", "list"] => (name, PathSuffix::Tags),
            [ref name @ .., "blobs", digest] => (name, PathSuffix::Blob(digest)),
            [ref name @ .., "manifests", reference] => (name, PathSuffix::Manifest(reference)),
            [ref name @ .., "referrers", digest] => (name, PathSuffix::Referrers(digest)),
            // Only digests contain a colon, so the client meant a digest.
            _ if parts.iter().any(|part| part.contains(':')) => return Err(DigestError::Malformed.into()),
            _ => return Err(RouteError::Unknown),
        };
        // A decoded slash would otherwise split one component into two, and change the name.
        if name.iter().any(|part| part.contains('/')) {
            return Err(NameError::Malformed.into());
        }
        let name: RepositoryName = match name {
            [name] => name.parse()?,
            name => name.join("/").parse()?,
        };
        Ok(match suffix {
            PathSuffix::Blob(digest) => Self::Blob { name, digest: digest.into() },
            PathSuffix::Manifest(reference) => Self::Manifest { name, reference: reference.into() },
            PathSuffix::Uploads => Self::Uploads { name },
            PathSuffix::Upload(id) => Self::Upload { name, id: id.into() },
            PathSuffix::Tags => Self::Tags { name },
            PathSuffix::Referrers(digest) => Self::Referrers { name, digest: digest.into() },
        })
    }
}

impl Route {
    /// Replaces the repository of the endpoint, if it has one.
    pub(crate) fn replace_name(&mut self, new: RepositoryName) {
        match self {
            Self::Base | Self::Catalog => {}
            Self::Blob { name, .. }
            | Self::Manifest { name, .. }
            | Self::Uploads { name }
            | Self::Upload { name, .. }
            | Self::Tags { name }
            | Self::Referrers { name, .. } => *name = new,
        }
    }

    /// Returns the repository of the endpoint, if it has one.
    pub(crate) const fn name(&self) -> Option<&RepositoryName> {
        match self {
            Self::Base | Self::Catalog => None,
            Self::Blob { name, .. }
            | Self::Manifest { name, .. }
            | Self::Uploads { name }
            | Self::Upload { name, .. }
            | Self::Tags { name }
            | Self::Referrers { name, .. } => Some(name),
        }
    }
}

/// Percent-decodes a component; `None` if the decoded bytes are not UTF-8.
fn decode(part: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(part).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn knows_the_endpoints() {
        let manifest = |n: &str, r: &str| Route::Manifest { name: name(n), reference: r.into() };
        let blob = |n: &str, d: &str| Route::Blob { name: name(n), digest: d.into() };
        for (path, route) in [
            ("/v2/", Route::Base),
            ("/v2", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/quinistry/manifests/latest", manifest("quinistry", "latest")),
            ("/v2/a/b/c/manifests/sha256%3Aab", manifest("a/b/c", "sha256:ab")),
            ("/v2/a/blobs/sha256:ab", blob("a", "sha256:ab")),
            ("/v2/a/blobs/uploads/", Route::Uploads { name: name("a") }),
            ("/v2/a/blobs/uploads", Route::Uploads { name: name("a") }),
            ("/v2/a/blobs/uploads/0-1", Route::Upload { name: name("a"), id: "0-1".into() }),
            ("/v2/a/tags/list", Route::Tags { name: name("a") }),
            ("/v2/a/referrers/sha256:ab", Route::Referrers { name: name("a"), digest: "sha256:ab".into() }),
        ] {
            assert_eq!(Route::parse(path), Ok(route), "{path}");
        }
    }

    #[test]
    fn reads_names_that_look_like_endpoints_from_the_right() {
        assert_eq!(
            Route::parse("/v2/blobs/uploads/manifests/x"),
            Ok(Route::Manifest { name: name("blobs/uploads"), reference: "x".into() })
        );
        assert_eq!(
            Route::parse("/v2/manifests/manifests/manifests"),
            Ok(Route::Manifest { name: name("manifests"), reference: "manifests".into() })
        );
        assert_eq!(Route::parse("/v2/tags/list/tags/list"), Ok(Route::Tags { name: name("tags/list") }));
    }

    #[test]
    fn refuses_names_outside_the_grammar() {
        for path in [
            "/v2/../../etc/passwd/manifests/x",
            "/v2/%2e%2e/manifests/x",
            "/v2/a%2Fb/manifests/x",
            "/v2/%252e%252e/manifests/x",
            "/v2/a%00/manifests/x",
            "/v2/A/manifests/x",
            "/v2//manifests/x",
            "/v2/a//b/manifests/x",
            "/v2//a/manifests/x",
            "/v2/a//manifests/x",
            "/v2/manifests/x",
            "/v2/%c0%af/manifests/x",
            "/v2/_uploads/manifests/x",
        ] {
            assert!(matches!(Route::parse(path), Err(RouteError::Name(NameError::Malformed))), "{path}");
        }
        let long = format!("/v2/{}/manifests/x", vec!["a"; 4000].join("/"));
        assert_eq!(Route::parse(&long), Err(RouteError::Name(NameError::TooLong)));
    }

    #[test]
    fn a_digest_has_no_slash() {
        for path in ["/v2/a/blobs/sha256:../../x", "/v2/a/manifests/sha256:a/b"] {
            assert_eq!(Route::parse(path), Err(RouteError::Digest(DigestError::Malformed)), "{path}");
        }
    }

    #[test]
    fn refuses_unknown_paths() {
        for path in [
            "",
            "/",
            "*",
            "/v1/",
            "/v2x",
            "/v2/a",
            "/v2/a/b",
            "/v2/a/tags",
            "/v2/_catalog/",
            "/favicon.ico",
            "/V2/",
        ] {
            assert_eq!(Route::parse(path), Err(RouteError::Unknown), "{path}");
        }
    }
}
