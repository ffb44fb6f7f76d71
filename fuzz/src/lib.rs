//! What the fuzz targets share: a registry in memory that is spoken to without a socket, and what must hold of every
//! answer, whatever the question.
//!
//! Knows nothing of single endpoints: what they should say is each target's own affair. A panic anywhere ends the process,
//! also where the registry would make a 500 of it: libfuzzer-sys aborts in its panic hook.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a panic is how a target says what it has found"
)]

pub mod step;
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
use quinistry::registry::{RegistryOptions, State, router};
use quinistry::store::{Memory, Store};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

/// More than any input can fill: a full storage would be an answer that no model expects.
const ROOM: u64 = 64 << 20;

/// All that [`content`] has.
pub const MOST_CONTENT: usize = 4 << 20;

/// The header that names content.
pub const DIGEST: &str = "docker-content-digest";

/// Runs one input to its end. The runtime is made once: a thread that waits costs more than most inputs.
pub fn run(input: impl Future<Output = ()>) {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(input));
}

/// A registry, and its store behind its back.
#[derive(Clone, Debug)]
pub struct Registry {
    router: Router,
    /// What it keeps.
    pub store: Store,
}

impl Registry {
    /// An empty one; `sparse` takes manifests whose parts are not there.
    #[must_use]
    pub fn new(sparse: bool) -> Self {
        Self::of(Store::open(Memory::new(ROOM), sparse).unwrap(), RegistryOptions::default())
    }

    /// Another one in front of a store.
    #[must_use]
    pub fn of(store: Store, options: RegistryOptions) -> Self {
        Self { router: router(State::stored(store.clone(), options)), store }
    }

    /// Puts a blob into the store, without a request.
    #[must_use]
    pub fn with_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let mut receiver = self.store.receive(&digest, None).unwrap();
        // As from a socket, so that a long one lies there in several pieces.
        bytes.chunks(40_000).for_each(|piece| receiver.append(piece).unwrap());
        let name: RepositoryName = repository.parse().unwrap();
        self.store.commit(&name, &mut receiver, &digest).unwrap();
        digest
    }

    /// Asks, and holds the answer against what must hold of all.
    pub async fn ask(&self, request: Request<Body>) -> Answer {
        let method = request.method().clone();
        let response = self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("what is in memory can be read").to_bytes();
        let answer = Answer { status: parts.status, headers: parts.headers, body };
        answer.check(&method);
        answer
    }

    /// Asks without headers or a body.
    pub async fn ask_for(&self, method: Method, path: &str) -> Answer {
        self.ask(request(method, path.parse().unwrap(), &[], Sent::Whole(Bytes::new()))).await
    }
}

/// How a body comes.
#[derive(Clone, Debug)]
pub enum Sent {
    /// With its length.
    Whole(Bytes),
    /// Without one, in pieces.
    Chunked(Vec<Bytes>),
    /// So many bytes are announced, these come, then the connection is gone.
    Cut(u64, Vec<Bytes>),
}

impl Sent {
    /// What comes of it.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Whole(bytes) => bytes.to_vec(),
            Self::Chunked(pieces) | Self::Cut(_, pieces) => pieces.concat(),
        }
    }
}

/// A request, as the server would hand it over.
#[must_use]
pub fn request(method: Method, uri: Uri, headers: &[(&str, &[u8])], sent: Sent) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let length = match &sent {
        Sent::Whole(bytes) => Some(bytes.len() as u64),
        Sent::Chunked(_) => None,
        Sent::Cut(announced, _) => Some(*announced),
    };
    if let Some(length) = length {
        request = request.header(CONTENT_LENGTH, length);
    }
    let body = match sent {
        Sent::Whole(bytes) => Body::from(bytes),
        Sent::Chunked(pieces) => Body::new(Pieces { pieces: pieces.into_iter(), cut: false }),
        Sent::Cut(_, pieces) => Body::new(Pieces { pieces: pieces.into_iter(), cut: true }),
    };
    request.body(body).unwrap()
}

struct Pieces {
    pieces: std::vec::IntoIter<Bytes>,
    cut: bool,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(match self.pieces.next() {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None if std::mem::take(&mut self.cut) => Some(Err(std::io::ErrorKind::ConnectionReset.into())),
            None => None,
        })
    }
}

/// What came back.
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
    /// A header that stands once at most.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} stands twice: {self:?}");
        Some(value.to_str().unwrap())
    }

    /// The code of the first error.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        let body: ErrorBody = serde_json::from_slice(&self.body).ok()?;
        body.errors.first().map(|error| error.code)
    }

    /// It is a refusal of that kind.
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

/// A stretch of content of which no two stretches are alike for long. All of it is made once: what is made byte by byte is
/// compared byte by byte, and the fuzzer looks at every comparison.
#[must_use]
pub fn content(range: Range<usize>) -> Bytes {
    static ALL: LazyLock<Bytes> = LazyLock::new(|| (0_u8..251).cycle().take(MOST_CONTENT).collect());
    ALL.slice(range)
}

/// A line of an input, without its end; and the rest.
#[must_use]
pub fn line(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[]),
    }
}
