//! Support for the fuzz targets: a registry in memory that receives requests without a socket, and checks
//! that apply to every response.
//!
//! Each target checks the endpoints itself. A panic anywhere ends the process, also where the registry would
//! turn it into a 500: libfuzzer-sys aborts in its panic hook.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a panic is how a target says what it has found"
)]

pub mod configuration;
pub mod step;
pub mod token;
pub mod upload;

use std::ops::Range;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body::Frame;
use http_body_util::BodyExt as _;
use quinistry::oci::{Digest, ErrorBody, ErrorCode, RepositoryName};
use quinistry::registry::{Settings, State, router};
use quinistry::store::{Memory, Store};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

/// Size of the storage in bytes, more than any input can fill: the models expect no full storage.
const STORAGE_BYTES: u64 = 64 << 20;

/// Length of the content that [`content`] slices, in bytes.
pub const CONTENT_BYTES: usize = 4 << 20;

/// Header with the digest of the content.
pub const DIGEST: &str = "docker-content-digest";

/// Runs one input to its end. The runtime is created once: a waiting thread costs more than most inputs.
pub fn run(input: impl Future<Output = ()>) {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(input));
}

/// A registry and its store.
#[derive(Clone, Debug)]
pub struct Registry {
    router: Router,
    /// Store behind the registry.
    pub store: Store,
}

impl Registry {
    /// Creates an empty registry; `sparse` accepts manifests with missing parts.
    #[must_use]
    pub fn new(sparse: bool) -> Self {
        Self::of(Store::open(Memory::new(STORAGE_BYTES), sparse).unwrap(), Settings::default())
    }

    /// Creates a registry over an existing store.
    #[must_use]
    pub fn of(store: Store, settings: Settings) -> Self {
        Self { router: router(State::stored(store.clone(), settings)), store }
    }

    /// Puts a blob into the store, without a request.
    #[must_use]
    pub fn with_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let mut receiver = self.store.receive(&digest, None).unwrap();
        // As from a socket, so that a long blob is stored in several chunks.
        bytes.chunks(40_000).for_each(|chunk| receiver.append(chunk).unwrap());
        let name: RepositoryName = repository.parse().unwrap();
        self.store.commit(&name, &mut receiver, &digest).unwrap();
        digest
    }

    /// Sends a request, and checks the response against the rules for all responses.
    pub async fn ask(&self, request: Request<Body>) -> Answer {
        let method = request.method().clone();
        let response = self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("what is in memory can be read").to_bytes();
        let answer = Answer { status: parts.status, headers: parts.headers, body };
        answer.check(&method);
        answer
    }

    /// Sends a request without headers or a body.
    pub async fn ask_for(&self, method: Method, path: &str) -> Answer {
        self.ask(request(method, path.parse().unwrap(), &[], BodyTransfer::Sized(Bytes::new()))).await
    }
}

/// Transfer of a request body.
#[derive(Clone, Debug)]
pub enum BodyTransfer {
    /// The complete body with its length.
    Sized(Bytes),
    /// The complete body in chunks, without a length.
    Chunked(Vec<Bytes>),
    /// The announced length, and the chunks before the connection breaks.
    Truncated(u64, Vec<Bytes>),
}

impl BodyTransfer {
    /// Returns the bytes that are transferred.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Sized(bytes) => bytes.to_vec(),
            Self::Chunked(chunks) | Self::Truncated(_, chunks) => chunks.concat(),
        }
    }
}

/// Builds a request as the server would pass it on.
#[must_use]
pub fn request(method: Method, uri: Uri, headers: &[(&str, &[u8])], sent: BodyTransfer) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let length = match &sent {
        BodyTransfer::Sized(bytes) => Some(bytes.len() as u64),
        BodyTransfer::Chunked(_) => None,
        BodyTransfer::Truncated(announced, _) => Some(*announced),
    };
    if let Some(length) = length {
        request = request.header(CONTENT_LENGTH, length);
    }
    let body = match sent {
        BodyTransfer::Sized(bytes) => Body::from(bytes),
        BodyTransfer::Chunked(chunks) => {
            Body::new(BodyChunks { chunks: chunks.into_iter(), is_truncated: false })
        }
        BodyTransfer::Truncated(_, chunks) => {
            Body::new(BodyChunks { chunks: chunks.into_iter(), is_truncated: true })
        }
    };
    request.body(body).unwrap()
}

struct BodyChunks {
    chunks: std::vec::IntoIter<Bytes>,
    is_truncated: bool,
}

impl http_body::Body for BodyChunks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(match self.chunks.next() {
            Some(chunk) => Some(Ok(Frame::data(chunk))),
            None if std::mem::take(&mut self.is_truncated) => {
                Some(Err(std::io::ErrorKind::ConnectionReset.into()))
            }
            None => None,
        })
    }
}

/// A complete response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// Returns a header that occurs at most once.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} stands twice: {self:?}");
        Some(value.to_str().unwrap())
    }

    /// Returns the code of the first error.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        let body: ErrorBody = serde_json::from_slice(&self.body).ok()?;
        body.errors.first().map(|error| error.code)
    }

    /// Checks that the response is an error with one of these statuses and this code.
    #[track_caller]
    pub fn assert_refused(&self, status: &[u16], code: ErrorCode) {
        assert!(status.contains(&self.status.as_u16()), "{status:?} was expected: {self:?}");
        assert_eq!(self.code(), Some(code), "{self:?}");
    }

    #[track_caller]
    fn check(&self, method: &Method) {
        let Self { status, headers, body } = self;
        assert!(status.as_u16() < 500, "a fault of ours: {self:?}");
        assert_eq!(self.header("docker-distribution-api-version"), Some("registry/2.0"));
        for (name, value) in headers {
            let printable = value.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~'));
            assert!(printable, "{name} holds what is no text: {self:?}");
        }
        if *method == Method::HEAD || matches!(status.as_u16(), 204 | 304) {
            assert!(body.is_empty(), "a body where none can be: {self:?}");
        } else if let Some(length) = self.header(CONTENT_LENGTH.as_str()) {
            assert_eq!(length, body.len().to_string(), "{self:?}");
        }
        if status.is_success() && matches!(*method, Method::GET | Method::HEAD) && *status != 204 {
            let typed = self.header(CONTENT_TYPE.as_str()).expect("content has a type");
            assert!(!typed.starts_with("text/"), "{self:?}");
        }
        if let Some(location) = self.header(LOCATION.as_str()) {
            assert!(location.starts_with("/v2/"), "a Location is a path: {self:?}");
        }
        if let Some(digest) = self.header(DIGEST) {
            let digest: Digest = digest.parse().expect("the name of content is a digest");
            if *status == 200 && *method == Method::GET {
                assert!(digest.matches(body), "content under another's name: {self:?}");
            }
        }
        if status.is_client_error() {
            assert_eq!(self.header(CONTENT_TYPE.as_str()), Some("application/json"), "{self:?}");
            if *method != Method::HEAD {
                let errors: ErrorBody =
                    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
                assert!(!errors.errors.is_empty(), "{self:?}");
            }
        }
        match status.as_u16() {
            405 => assert!(self.header(ALLOW.as_str()).is_some(), "{self:?}"),
            429 => assert!(self.header(RETRY_AFTER.as_str()).is_some(), "{self:?}"),
            202 if self.header(LOCATION.as_str()).is_some() => {
                assert!(self.header(RANGE.as_str()).is_some(), "{self:?}");
            }
            _ => {}
        }
    }
}

/// Returns a slice of content in which no two slices are alike for long. The content is made once: bytes made
/// one by one are compared one by one, and the fuzzer traces every comparison.
#[must_use]
pub fn content(range: Range<usize>) -> Bytes {
    static ALL: LazyLock<Bytes> = LazyLock::new(|| (0_u8..251).cycle().take(CONTENT_BYTES).collect());
    ALL.slice(range)
}

/// Splits an input at its first line break.
#[must_use]
pub fn line(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[]),
    }
}
