//! Methods that each endpoint allows, as the `Allow` header of a 405 lists them (RFC 9110, 15.5.6). Pure.

use super::response::error::Error;
use super::route::Route;
use crate::RegistryOptions;

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

/// Refusal of every write to the built-in repository.
pub(crate) const BUILTIN_IS_READ_ONLY: Error =
    Error::Method { why: "the built-in repository is read-only", allow: "GET, HEAD" };

impl Method {
    /// Parses a method, and refuses it if no endpoint of this registry allows it.
    pub(crate) fn from_http(method: &http::Method, options: Option<&RegistryOptions>) -> Result<Self, Error> {
        let refuse = |why| Err(Error::Method { why, allow: "GET, HEAD" });
        if matches!(*method, http::Method::GET | http::Method::HEAD) {
            return Ok(Self::Read);
        }
        let Some(options) = options else {
            return refuse("this registry has no storage to write to (start it with --storage DIR)");
        };
        let found = match *method {
            http::Method::POST => Self::Post,
            http::Method::PATCH => Self::Patch,
            http::Method::PUT => Self::Put,
            http::Method::DELETE => Self::Delete,
            _ => return refuse("no endpoint supports this method"),
        };
        if options.read_only { refuse("this registry is read-only") } else { Ok(found) }
    }
}

/// Returns the error for an endpoint that does not support the request's method.
pub(crate) fn method_not_allowed(route: &Route, options: &RegistryOptions) -> Error {
    let allow = match route {
        Route::Manifest { .. } if options.delete => "GET, HEAD, PUT, DELETE",
        Route::Manifest { .. } => "GET, HEAD, PUT",
        Route::Blob { .. } if options.delete => "GET, HEAD, DELETE",
        Route::Uploads { .. } => "POST",
        Route::Upload { .. } => "GET, HEAD, PATCH, PUT, DELETE",
        _ => "GET, HEAD",
    };
    let why = if options.delete {
        "this endpoint does not support this method"
    } else {
        "this endpoint does not support this method, and deletion is disabled"
    };
    Error::Method { why, allow }
}
