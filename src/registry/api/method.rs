//! Methods of requests, and the refusal of those that an endpoint does not support (RFC 9110, 15.5.6). Pure.

use std::borrow::Cow;

use super::access::AccessAction;
use super::response::error::Error;
use super::route::Route;
use crate::Settings;

/// Method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// GET or HEAD.
    Read,
    Post,
    Patch,
    Put,
    Delete,
}

/// Value of the `Allow` header of content that can only be read.
const READ: &str = "GET, HEAD";

/// Refusal of every write to the built-in repository.
pub(crate) const BUILTIN_IS_READ_ONLY: Error =
    Error::Method { why: "the built-in repository is read-only", allow: Cow::Borrowed(READ) };

/// Returns the refusal of a write to a repository of an upstream.
pub(crate) fn upstream_is_read_only(route: &Route) -> Error {
    let allow = match route {
        Route::Manifest { .. } | Route::Blob { .. } => "GET, HEAD, DELETE",
        _ => READ,
    };
    Error::Method { why: "repositories of an upstream are read-only", allow: allow.into() }
}

impl Method {
    /// All methods, in the order of the `Allow` header.
    pub(crate) const ALL: [Self; 5] = [Self::Read, Self::Post, Self::Patch, Self::Put, Self::Delete];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => READ,
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// Parses a method, and refuses it if no endpoint of this registry allows it. Without storage there are no
    /// `settings`.
    pub(crate) fn from_http(method: &http::Method, settings: Option<&Settings>) -> Result<Self, Error> {
        let refuse = |why| Err(Error::Method { why, allow: READ.into() });
        if matches!(*method, http::Method::GET | http::Method::HEAD) {
            return Ok(Self::Read);
        }
        let Some(settings) = settings else {
            return refuse("this registry has no storage to write to (start it with --storage DIR)");
        };
        let found = match *method {
            http::Method::POST => Self::Post,
            http::Method::PATCH => Self::Patch,
            http::Method::PUT => Self::Put,
            http::Method::DELETE => Self::Delete,
            _ => return refuse("no endpoint supports this method"),
        };
        // With users, the client's rights are asked first, as in distribution.
        if settings.access.is_none() {
            found.unless_read_only(settings)?;
        }
        Ok(found)
    }

    /// Refuses a write to a registry that is read-only.
    pub(crate) fn unless_read_only(self, settings: &Settings) -> Result<(), Error> {
        if settings.read_only && self != Self::Read {
            return Err(Error::Method { why: "this registry is read-only", allow: READ.into() });
        }
        Ok(())
    }
}

/// Returns the error for an endpoint that does not support the request's method, with those that it supports.
pub(crate) fn method_not_allowed(route: &Route, settings: &Settings) -> Error {
    let is_allowed = |method: &Method| match AccessAction::of(route, *method) {
        Some(AccessAction::Delete) => settings.delete,
        action => action.is_some(),
    };
    let allow: Vec<&str> = Method::ALL.into_iter().filter(is_allowed).map(Method::as_str).collect();
    let why = if settings.delete {
        "this endpoint does not support this method"
    } else {
        "this endpoint does not support this method, and deletion is disabled"
    };
    Error::Method { why, allow: allow.join(", ").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allow_header_lists_what_the_endpoint_supports() {
        let allowed = |path: &str, settings: &Settings| match method_not_allowed(
            &Route::parse(path).unwrap(),
            settings,
        ) {
            Error::Method { allow, .. } => allow.into_owned(),
            other => panic!("{other}"),
        };
        let all = Settings::default();
        let kept = Settings { delete: false, ..Settings::default() };
        for (path, with_delete, without) in [
            ("/v2/", "GET, HEAD", "GET, HEAD"),
            ("/v2/_catalog", "GET, HEAD", "GET, HEAD"),
            ("/v2/a/tags/list", "GET, HEAD", "GET, HEAD"),
            ("/v2/a/manifests/x", "GET, HEAD, PUT, DELETE", "GET, HEAD, PUT"),
            ("/v2/a/blobs/sha256:0", "GET, HEAD, DELETE", "GET, HEAD"),
            ("/v2/a/blobs/uploads/", "POST", "POST"),
            ("/v2/a/blobs/uploads/1", "GET, HEAD, PATCH, PUT, DELETE", "GET, HEAD, PATCH, PUT, DELETE"),
            ("/v2/a/referrers/sha256:0", "GET, HEAD", "GET, HEAD"),
        ] {
            assert_eq!(allowed(path, &all), with_delete, "{path}");
            assert_eq!(allowed(path, &kept), without, "{path}");
        }
    }
}
