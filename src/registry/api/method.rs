//! Which methods there are where: what an `Allow` header says (RFC 9110, 15.5.6). Pure.

use super::response::error::Error;
use super::route::Route;
use crate::Options;

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// GET and HEAD.
    Read,
    Post,
    Patch,
    Put,
    Delete,
}

/// What is said of what can never be changed.
pub(crate) const READ_ONLY: Error =
    Error::Method { why: "this repository is built in, and read-only", allow: "GET, HEAD" };

impl Method {
    /// The method, if it may be used anywhere here.
    pub(crate) fn of(method: &http::Method, options: Option<&Options>) -> Result<Self, Error> {
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
            _ => return refuse("no endpoint has this method"),
        };
        if options.read_only { refuse("this registry is read-only for now") } else { Ok(found) }
    }
}

/// The endpoint has other methods than this one.
pub(crate) fn not_here(route: &Route, options: &Options) -> Error {
    let allow = match route {
        Route::Manifest { .. } if options.delete => "GET, HEAD, PUT, DELETE",
        Route::Manifest { .. } => "GET, HEAD, PUT",
        Route::Blob { .. } if options.delete => "GET, HEAD, DELETE",
        Route::Uploads { .. } => "POST",
        Route::Upload { .. } => "GET, HEAD, PATCH, PUT, DELETE",
        _ => "GET, HEAD",
    };
    let why = if options.delete {
        "no such method at this endpoint"
    } else {
        "not at this endpoint; deleting is disabled"
    };
    Error::Method { why, allow }
}
