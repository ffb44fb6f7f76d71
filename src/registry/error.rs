//! What can be wrong with a request, and how the wire says so.
//!
//! `Display` is for logs and for the `message` of the body; the codes are the specification's.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};

use super::route::RouteError;
use crate::oci::{DigestError, ErrorBody, ErrorCode, ErrorDetail, to_json};

/// A request that is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The method would change what cannot be changed, or is none that this endpoint has.
    #[error("the built-in repository is read-only: only GET and HEAD are supported here")]
    Method,
    #[error("repository is not known to this registry")]
    NameUnknown,
    #[error("manifest is not known to this repository")]
    ManifestUnknown,
    #[error("blob is not known to this repository")]
    BlobUnknown,
    #[error("upload session is not known to this repository")]
    UploadUnknown,
    #[error(transparent)]
    Digest(DigestError),
    /// No byte of the wanted range exists.
    #[error("range lies outside the blob's {total} bytes")]
    Range { total: u64 },
    #[error("page size 'n' is not a number")]
    PageSize,
    /// A fault of ours.
    #[error("internal error; the server's log says more")]
    Internal,
}

impl Error {
    fn status_and_code(&self) -> (StatusCode, ErrorCode) {
        use ErrorCode as C;
        use StatusCode as S;
        match self {
            // The specification has no code for a path outside it; the nearest is a name that nobody knows.
            Self::Route(RouteError::Unknown) | Self::NameUnknown => (S::NOT_FOUND, C::NameUnknown),
            Self::Route(RouteError::Name(_)) => (S::BAD_REQUEST, C::NameInvalid),
            Self::Method => (S::METHOD_NOT_ALLOWED, C::Unsupported),
            Self::ManifestUnknown => (S::NOT_FOUND, C::ManifestUnknown),
            Self::BlobUnknown => (S::NOT_FOUND, C::BlobUnknown),
            Self::UploadUnknown => (S::NOT_FOUND, C::BlobUploadUnknown),
            Self::Route(RouteError::Digest(_)) | Self::Digest(_) => (S::BAD_REQUEST, C::DigestInvalid),
            // No code of the specification speaks of ranges; MANIFEST_INVALID would make clients try again in
            // another manifest format, this one makes none do anything.
            Self::Range { .. } => (S::RANGE_NOT_SATISFIABLE, C::BlobUploadInvalid),
            Self::PageSize => (S::BAD_REQUEST, C::Unsupported),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, C::Unsupported),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let body = ErrorBody { errors: vec![ErrorDetail { code, message: self.to_string() }] };
        let mut response = (status, Body::from(to_json(&body))).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            Self::Range { total } => {
                let range = format!("bytes */{total}");
                headers.insert(CONTENT_RANGE, range.try_into().expect("digits are a header value"));
            }
            _ => {}
        }
        response
    }
}
