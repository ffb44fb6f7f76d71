//! What can be wrong with a request, and how the wire says so.
//!
//! `Display` is for logs and for the `message` of the body; the codes are the specification's.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use quinistry_oci::{DigestError, ErrorBody, ErrorCode, ErrorDetail, ManifestError, TagError, to_json};
use quinistry_store::{StorageError, StoreError};

use super::served_content::ascii;
use crate::api::route::RouteError;

/// After how many seconds a client may try again what was too much, or could not be kept.
const RETRY: HeaderValue = HeaderValue::from_static("5");

/// A request that is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The method would change what cannot be changed, or is none that this endpoint has.
    #[error("{why}; what can be done here is {allow}")]
    Method { why: &'static str, allow: &'static str },
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
    #[error("the digest of the blob is missing: PUT needs ?digest=")]
    NoDigest,
    #[error(transparent)]
    Tag(TagError),
    #[error("more than {0} tags in one request")]
    TooManyTags(usize),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("manifest is longer than 4 MiB, and many clients could not pull it")]
    ManifestTooLong,
    #[error("too many manifests are coming in at once; try again in a moment")]
    TooMuchAtOnce,
    /// Clients that do not read hold the memory for long answers.
    #[error("too many long answers are on their way; try again in a moment")]
    Crowded,
    #[error("the body's Transfer-Encoding is not supported; send it as 'chunked', or with a Content-Length")]
    TransferEncoding,
    /// No byte of the wanted range exists.
    #[error("range lies outside the blob's {total} bytes")]
    Range { total: u64 },
    #[error("Content-Range is not of the form first-last")]
    ContentRange,
    /// A chunk that does not go on where the session is.
    #[error("the upload goes on elsewhere: {range} is there, or another request is at it")]
    OutOfOrder { location: String, range: String },
    #[error("{expected} bytes were announced, and {came} came")]
    Length { expected: u64, came: u64 },
    #[error("the body comes too slowly")]
    SlowBody,
    #[error("the body was cut off")]
    CutOff,
    #[error("page size 'n' is not a number")]
    PageSize,
    #[error(transparent)]
    Store(#[from] StoreError),
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
            Self::Route(RouteError::Name(_)) | Self::Tag(_) => (S::BAD_REQUEST, C::NameInvalid),
            Self::Method { .. } => (S::METHOD_NOT_ALLOWED, C::Unsupported),
            Self::ManifestUnknown => (S::NOT_FOUND, C::ManifestUnknown),
            Self::BlobUnknown => (S::NOT_FOUND, C::BlobUnknown),
            Self::UploadUnknown => (S::NOT_FOUND, C::BlobUploadUnknown),
            Self::Route(RouteError::Digest(_)) | Self::Digest(_) | Self::NoDigest => {
                (S::BAD_REQUEST, C::DigestInvalid)
            }
            Self::TooManyTags(_) => (S::URI_TOO_LONG, C::NameInvalid),
            Self::Manifest(_) => (S::BAD_REQUEST, C::ManifestInvalid),
            Self::ManifestTooLong => (S::PAYLOAD_TOO_LARGE, C::ManifestInvalid),
            Self::TooMuchAtOnce | Self::Crowded => (S::TOO_MANY_REQUESTS, C::TooManyRequests),
            // No code of the specification speaks of ranges; MANIFEST_INVALID would make clients try again in
            // another manifest format, this one makes none do anything.
            Self::Range { .. } | Self::OutOfOrder { .. } => (S::RANGE_NOT_SATISFIABLE, C::BlobUploadInvalid),
            Self::ContentRange => (S::BAD_REQUEST, C::BlobUploadInvalid),
            Self::Length { .. } | Self::CutOff => (S::BAD_REQUEST, C::SizeInvalid),
            Self::SlowBody => (S::REQUEST_TIMEOUT, C::BlobUploadInvalid),
            Self::PageSize | Self::TransferEncoding => (S::BAD_REQUEST, C::Unsupported),
            Self::Store(error) => of_store(error),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, C::Unsupported),
        }
    }

    /// What is told: nothing of where things lie here.
    fn details(&self, code: ErrorCode) -> Vec<ErrorDetail> {
        let told = |message: String| ErrorDetail { code, message };
        match self {
            Self::Store(StoreError::Missing(digests)) => {
                digests.iter().map(|digest| told(format!("{digest} is not in this repository"))).collect()
            }
            Self::Store(StoreError::Storage(error @ (StorageError::Full | StorageError::Stopped))) => {
                vec![told(error.to_string())]
            }
            Self::Store(StoreError::Storage(_)) => vec![told(Self::Internal.to_string())],
            error => vec![told(error.to_string())],
        }
    }
}

fn of_store(error: &StoreError) -> (StatusCode, ErrorCode) {
    use ErrorCode as C;
    use StatusCode as S;
    match error {
        StoreError::RepositoryUnknown => (S::NOT_FOUND, C::NameUnknown),
        // What is damaged is as good as absent: whoever looks before pushing pushes it again, which mends it.
        StoreError::ManifestUnknown | StoreError::Damaged(_) => (S::NOT_FOUND, C::ManifestUnknown),
        StoreError::BlobUnknown => (S::NOT_FOUND, C::BlobUnknown),
        StoreError::UploadUnknown => (S::NOT_FOUND, C::BlobUploadUnknown),
        StoreError::UploadBusy => (S::RANGE_NOT_SATISFIABLE, C::BlobUploadInvalid),
        StoreError::TooManyUploads => (S::TOO_MANY_REQUESTS, C::TooManyRequests),
        StoreError::Differs { .. } => (S::BAD_REQUEST, C::DigestInvalid),
        StoreError::Missing(_) => (S::BAD_REQUEST, C::ManifestBlobUnknown),
        StoreError::Size { .. } => (S::BAD_REQUEST, C::ManifestInvalid),
        StoreError::Storage(StorageError::Full) => (S::INSUFFICIENT_STORAGE, C::Denied),
        StoreError::Storage(StorageError::Stopped) => (S::SERVICE_UNAVAILABLE, C::Denied),
        StoreError::Storage(StorageError::ReadOnly) => (S::METHOD_NOT_ALLOWED, C::Unsupported),
        // The first three only collection comes across.
        StoreError::DamagedIn { .. }
        | StoreError::Torn(_)
        | StoreError::Foreign(_)
        | StoreError::Storage(_) => (S::INTERNAL_SERVER_ERROR, C::Unsupported),
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Self::Store(error @ (StoreError::Storage(_) | StoreError::Damaged(_))) = &self {
            // With what the client is not told.
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(%error, %cause, "the storage fails");
        }
        let (status, code) = self.status_and_code();
        let body = ErrorBody { errors: self.details(code) };
        let mut response = (status, Body::from(to_json(&body))).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(RETRY_AFTER, RETRY);
        }
        match self {
            Self::Method { allow, .. } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::Range { total } => {
                headers.insert(CONTENT_RANGE, ascii(format!("bytes */{total}")));
            }
            // From these two a client can resume.
            Self::OutOfOrder { location, range } => {
                headers.insert(LOCATION, ascii(location));
                headers.insert(RANGE, ascii(range));
            }
            Self::SlowBody | Self::CutOff | Self::TransferEncoding => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
