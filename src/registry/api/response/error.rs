//! Errors of requests, and the responses that report them.
//!
//! `Display` is for logs and for the `message` of the body; the codes are those of the specification.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use quinistry_fetch::hops::MAX_HOPS;
use quinistry_oci::{
    Digest, DigestError, ErrorBody, ErrorCode, ErrorDetail, ManifestError, TagError, WithCauses, to_json,
};
use quinistry_store::{StorageError, StoreError};

use super::served_content::ascii;
use crate::api::route::RouteError;
use crate::auth::InvalidHost;
use crate::auth::issue::TokenRequestError;
use crate::peers::Busy;
use crate::upstreams::NamespaceError;

/// Seconds after which a client may repeat a request that exceeded a limit or could not be stored.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// Reason for refusing a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Route(#[from] RouteError),
    /// Method that this endpoint does not support, or a write to read-only content.
    #[error("{why}; allowed methods: {allow}")]
    Method { why: &'static str, allow: Cow<'static, str> },
    /// Write to a listener that takes reads alone, or a question about an upload session.
    #[error(
        "this address takes no pushes; push to {0} on the host or in the pod of this registry, as `quinistry load` and \
         `kubectl port-forward` do"
    )]
    PushElsewhere(Arc<str>),
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
    #[error("digest of the blob is missing: PUT needs ?digest=")]
    MissingDigest,
    #[error(transparent)]
    Tag(TagError),
    #[error("more than {0} tags in one request")]
    TooManyTags(usize),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Layer that clients would fetch from a place that the registry does not accept.
    #[error("layer {0} has a URL that this registry does not accept")]
    LayerUrl(Digest),
    #[error("this registry does not accept images of class '{0}'")]
    Class(&'static str),
    #[error("manifest is longer than 4 MiB, the limit of many clients")]
    ManifestTooLong,
    #[error("too many manifests are being pushed; try again in a few seconds")]
    TooManyManifests,
    /// Memory budget of responses that slow clients hold.
    #[error("too many long responses are being sent; try again in a few seconds")]
    TooManyResponses,
    /// Peers are busy that may have the content.
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("Transfer-Encoding of the body is not supported; send 'chunked' or a Content-Length")]
    TransferEncoding,
    /// Range without an existing byte.
    #[error("range lies outside the blob's {total} bytes")]
    RangeNotSatisfiable { total: u64 },
    #[error("Content-Range is not of the form first-last")]
    ContentRange,
    /// Chunk that does not continue at the session's offset.
    #[error("chunk does not start behind the received range {range}, or another request uses the session")]
    OutOfOrder { location: String, range: String },
    #[error("received {received} bytes, but {expected} were announced")]
    LengthMismatch { expected: u64, received: u64 },
    #[error("body is sent too slowly")]
    SlowBody,
    #[error("body was cut off")]
    BodyTruncated,
    #[error("page size 'n' is not a number")]
    PageSize,
    /// Cursor of a list from another start of the registry.
    #[error("cursor 'last' is not known any more; begin with the first page again")]
    PageCursor,
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A health check fails. Clients learn no more.
    #[error("a health check of this registry fails; its operator finds the reason at /debug/health")]
    Unhealthy,
    /// Client that must log in, or whose credentials do not suffice.
    #[error("{}", .0.message)]
    Unauthorized(Box<Unauthorized>),
    /// Client that is known, and may not do what it asks for.
    #[error("{message}")]
    Denied { message: Box<str>, asked: Vec<AskedAction> },
    #[error("request has more than one Authorization header")]
    RepeatedAuthorization,
    #[error("form and Authorization header have different credentials")]
    AmbiguousCredentials,
    /// Challenge whose URL depends on a host that the request does not name.
    #[error(transparent)]
    InvalidHost(#[from] InvalidHost),
    #[error("too many attempts to log in; try again in {retry_after_seconds} s")]
    TooManyAttempts { retry_after_seconds: u32 },
    #[error(transparent)]
    TokenRequest(TokenRequestError),
    #[error("tokens for this service are not issued here")]
    UnknownService,
    /// Grant of another kind (RFC 6749, 5.2).
    #[error("unsupported_grant_type: send grant_type=password with user name and password")]
    GrantType,
    #[error("Content-Type is not application/x-www-form-urlencoded")]
    FormType,
    #[error("form is longer than 8 KiB")]
    FormTooLong,
    /// Namespace that is not a host.
    #[error("namespace 'ns' {0}")]
    Namespace(NamespaceError),
    #[error("request has more than one namespace 'ns'")]
    RepeatedNamespace,
    /// Upstream that limits requests, and has given nothing that could be served.
    #[error("the upstream of this repository limits requests; try again in {retry_after_seconds} s")]
    UpstreamLimited { retry_after_seconds: u64 },
    /// Upstream that has given nothing that could be served.
    #[error(
        "the upstream of this repository gives no valid answer, and nothing is stored here; try again later"
    )]
    UpstreamFailed,
    /// Request that has passed too many caches.
    #[error("the request has passed {MAX_HOPS} caches; look for caches that are each other's upstream")]
    TooManyHops,
    /// Fault of the server.
    #[error("internal error; see the server's log")]
    Internal,
}

/// Refusal of a client that can help itself by other credentials.
#[derive(Debug)]
pub(crate) struct Unauthorized {
    pub(crate) message: &'static str,
    /// Value of `WWW-Authenticate`.
    pub(crate) challenge: HeaderValue,
    pub(crate) asked: Vec<AskedAction>,
}

/// Action that a refused request asks for, in the form of distribution's errors.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AskedAction {
    #[serde(rename = "Type")]
    pub(crate) kind: &'static str,
    pub(crate) class: &'static str,
    pub(crate) name: String,
    pub(crate) action: &'static str,
}

impl Error {
    /// Logs a fault of the storage, with the causes, which the client does not get, and the request, by whose ID the
    /// client's error is found in the log.
    pub(crate) fn log_of_storage(&self, request: &Parts, request_id: Option<&str>) {
        if let Self::Store(error @ (StoreError::Storage(_) | StoreError::Damaged(_))) = self
            && !is_of_client(error)
        {
            // Debug formatting escapes control characters of a hostile path.
            tracing::error!(
                method = %request.method,
                path = ?request.uri.path(),
                request_id,
                error = %WithCauses(error),
                "request failed in storage"
            );
        }
    }

    fn status_and_code(&self) -> (StatusCode, ErrorCode) {
        use ErrorCode as C;
        use StatusCode as S;
        match self {
            // The specification has no code for an undefined path; the nearest one is that of an unknown
            // name.
            Self::Route(RouteError::Unknown) | Self::NameUnknown => (S::NOT_FOUND, C::NameUnknown),
            Self::Route(RouteError::Name(_))
            | Self::Tag(_)
            | Self::Namespace(_)
            | Self::RepeatedNamespace => (S::BAD_REQUEST, C::NameInvalid),
            Self::Method { .. } | Self::PushElsewhere(_) => (S::METHOD_NOT_ALLOWED, C::Unsupported),
            Self::ManifestUnknown => (S::NOT_FOUND, C::ManifestUnknown),
            Self::BlobUnknown => (S::NOT_FOUND, C::BlobUnknown),
            Self::UploadUnknown => (S::NOT_FOUND, C::BlobUploadUnknown),
            Self::Route(RouteError::Digest(_)) | Self::Digest(_) | Self::MissingDigest => {
                (S::BAD_REQUEST, C::DigestInvalid)
            }
            Self::TooManyTags(_) => (S::URI_TOO_LONG, C::NameInvalid),
            Self::Manifest(_) | Self::LayerUrl(_) => (S::BAD_REQUEST, C::ManifestInvalid),
            Self::Class(_) | Self::Denied { .. } => (S::FORBIDDEN, C::Denied),
            Self::ManifestTooLong => (S::PAYLOAD_TOO_LARGE, C::ManifestInvalid),
            Self::TooManyManifests
            | Self::TooManyResponses
            | Self::Busy(_)
            | Self::TooManyAttempts { .. }
            | Self::UpstreamLimited { .. } => (S::TOO_MANY_REQUESTS, C::TooManyRequests),
            // The specification has no code for ranges. MANIFEST_INVALID would make clients try again with
            // another manifest format; this code makes no client do so.
            Self::RangeNotSatisfiable { .. } | Self::OutOfOrder { .. } => {
                (S::RANGE_NOT_SATISFIABLE, C::BlobUploadInvalid)
            }
            Self::ContentRange => (S::BAD_REQUEST, C::BlobUploadInvalid),
            Self::LengthMismatch { .. } | Self::BodyTruncated => (S::BAD_REQUEST, C::SizeInvalid),
            Self::SlowBody => (S::REQUEST_TIMEOUT, C::BlobUploadInvalid),
            Self::PageSize
            | Self::PageCursor
            | Self::TransferEncoding
            | Self::RepeatedAuthorization
            | Self::AmbiguousCredentials
            | Self::InvalidHost(_)
            | Self::TokenRequest(_)
            | Self::UnknownService
            | Self::GrantType => (S::BAD_REQUEST, C::Unsupported),
            Self::Store(error) => of_store(error),
            Self::Unhealthy => (S::SERVICE_UNAVAILABLE, C::Unavailable),
            Self::UpstreamFailed => (S::BAD_GATEWAY, C::Unknown),
            // A status of its own: the cache that asks does not take this one to be away.
            Self::TooManyHops => (S::LOOP_DETECTED, C::Unknown),
            Self::Unauthorized(_) => (S::UNAUTHORIZED, C::Unauthorized),
            Self::FormType => (S::UNSUPPORTED_MEDIA_TYPE, C::Unsupported),
            Self::FormTooLong => (S::PAYLOAD_TOO_LARGE, C::Unsupported),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, C::Unsupported),
        }
    }

    /// Returns the details for the client, which contain no paths of the server.
    fn details(&self, code: ErrorCode) -> Vec<ErrorDetail> {
        let detail = |message: String| ErrorDetail { code, message, detail: None };
        match self {
            Self::Store(StoreError::Missing(digests)) => {
                digests.iter().map(|digest| detail(format!("{digest} is not in this repository"))).collect()
            }
            Self::Store(StoreError::Storage(
                error @ (StorageError::Full
                | StorageError::WritesRefused
                | StorageError::Busy
                | StorageError::Overtaken
                | StorageError::TooManyParts { .. }),
            )) => {
                vec![detail(error.to_string())]
            }
            Self::Store(StoreError::Storage(error)) if error.is_temporary() => {
                vec![detail("the storage does not answer; try again in a few seconds".to_owned())]
            }
            Self::Store(StoreError::Storage(_)) => vec![detail(Self::Internal.to_string())],
            Self::Unauthorized(refused) => vec![ErrorDetail {
                detail: serde_json::to_value(&refused.asked).ok(),
                ..detail(self.to_string())
            }],
            Self::Denied { asked, .. } => {
                vec![ErrorDetail { detail: serde_json::to_value(asked).ok(), ..detail(self.to_string()) }]
            }
            error => vec![detail(error.to_string())],
        }
    }
}

fn of_store(error: &StoreError) -> (StatusCode, ErrorCode) {
    use ErrorCode as C;
    use StatusCode as S;
    match error {
        StoreError::RepositoryUnknown => (S::NOT_FOUND, C::NameUnknown),
        // Damaged content counts as absent: a client that checks before it pushes will push again, which
        // repairs it.
        StoreError::ManifestUnknown | StoreError::Damaged(_) => (S::NOT_FOUND, C::ManifestUnknown),
        StoreError::BlobUnknown => (S::NOT_FOUND, C::BlobUnknown),
        StoreError::UploadUnknown => (S::NOT_FOUND, C::BlobUploadUnknown),
        StoreError::UploadBusy | StoreError::Storage(StorageError::Overtaken) => {
            (S::RANGE_NOT_SATISFIABLE, C::BlobUploadInvalid)
        }
        // Handlers answer it by what the client may do.
        StoreError::TagExists(_)
        | StoreError::TypeExists(_)
        | StoreError::TagImmutable { .. }
        | StoreError::TagProtected(_)
        | StoreError::QuotaExceeded(_) => (S::FORBIDDEN, C::Denied),
        StoreError::TooManyUploads => (S::TOO_MANY_REQUESTS, C::TooManyRequests),
        StoreError::Differs { .. } => (S::BAD_REQUEST, C::DigestInvalid),
        StoreError::Missing(_) => (S::BAD_REQUEST, C::ManifestBlobUnknown),
        StoreError::Size { .. } => (S::BAD_REQUEST, C::ManifestInvalid),
        StoreError::Storage(StorageError::Full) => (S::INSUFFICIENT_STORAGE, C::Denied),
        StoreError::Storage(StorageError::WritesRefused) => (S::SERVICE_UNAVAILABLE, C::Denied),
        StoreError::Storage(StorageError::Busy) => (S::SERVICE_UNAVAILABLE, C::TooManyRequests),
        StoreError::Storage(StorageError::TooManyParts { .. }) => (S::PAYLOAD_TOO_LARGE, C::SizeInvalid),
        StoreError::Storage(StorageError::ReadOnly) => (S::METHOD_NOT_ALLOWED, C::Unsupported),
        StoreError::Storage(error) if error.is_temporary() => (S::SERVICE_UNAVAILABLE, C::Unavailable),
        StoreError::Unvouched => (S::SERVICE_UNAVAILABLE, C::Unavailable),
        // Only garbage collection meets the first three, and the last four.
        StoreError::DamagedIn { .. }
        | StoreError::Torn(_)
        | StoreError::Foreign(_)
        | StoreError::FormatUnknown(_)
        | StoreError::FormatTooNew { .. }
        | StoreError::CollectionUnknown(_)
        | StoreError::Unfenced
        | StoreError::GraceTooShort { .. }
        | StoreError::ForeignSession { .. }
        | StoreError::Storage(_) => (S::INTERNAL_SERVER_ERROR, C::Unsupported),
    }
}

/// Returns true for an error that clients cause by the number and the length of their uploads.
fn is_of_client(error: &StoreError) -> bool {
    let StoreError::Storage(error) = error else { return false };
    matches!(error, StorageError::Busy | StorageError::Overtaken | StorageError::TooManyParts { .. })
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let body = to_json(&ErrorBody { errors: self.details(code) });
        let length = body.len();
        let mut response = (status, Body::from(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        match self {
            Self::Method { allow, .. } => {
                headers.insert(ALLOW, ascii(allow.into_owned()));
            }
            Self::PushElsewhere(_) => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            Self::RangeNotSatisfiable { total } => {
                headers.insert(CONTENT_RANGE, ascii(format!("bytes */{total}")));
            }
            // A client resumes the upload with these two headers.
            Self::OutOfOrder { location, range } => {
                headers.insert(LOCATION, ascii(location));
                headers.insert(RANGE, ascii(range));
            }
            Self::Unauthorized(refused) => {
                // The challenge may reflect the Host of this request.
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                headers.insert(WWW_AUTHENTICATE, refused.challenge);
            }
            Self::TooManyAttempts { retry_after_seconds } => {
                headers.insert(RETRY_AFTER, retry_after_seconds.into());
            }
            Self::UpstreamLimited { retry_after_seconds } => {
                headers.insert(RETRY_AFTER, retry_after_seconds.into());
            }
            Self::SlowBody | Self::BodyTruncated | Self::TransferEncoding => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_request_that_a_bucket_cannot_take_tells_why_and_when_to_come_again() {
        let failed = |kind: io::ErrorKind| StorageError::Io {
            what: "write",
            key: "secret/key".to_owned(),
            source: io::Error::new(kind, "cause"),
        };
        let cases = [
            (
                failed(io::ErrorKind::ResourceBusy),
                StatusCode::SERVICE_UNAVAILABLE,
                "try again in a few seconds",
            ),
            (failed(io::ErrorKind::TimedOut), StatusCode::SERVICE_UNAVAILABLE, "does not answer"),
            (failed(io::ErrorKind::Other), StatusCode::INTERNAL_SERVER_ERROR, "see the server's log"),
            (StorageError::Busy, StatusCode::SERVICE_UNAVAILABLE, "too many uploads"),
            (
                StorageError::TooManyParts { max_bytes: 7 },
                StatusCode::PAYLOAD_TOO_LARGE,
                "longer than 7 bytes",
            ),
            (StorageError::Overtaken, StatusCode::RANGE_NOT_SATISFIABLE, "another request"),
        ];
        for (error, status, message) in cases {
            let response = Error::from(StoreError::from(error)).into_response();
            let retries = response.headers().contains_key(RETRY_AFTER);
            assert_eq!(
                (response.status(), retries),
                (status, status == StatusCode::SERVICE_UNAVAILABLE),
                "{message}"
            );
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert!(body.contains(message) && !body.contains("secret/key"), "{body}");
        }
    }
}
