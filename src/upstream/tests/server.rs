//! HTTP servers that answer by a function, and record all requests.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use reqwest::header::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// Addresses of servers, by their class in the network of the tests.
pub(super) const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
pub(super) const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 2);
pub(super) const PRIVATE: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 1);
pub(super) const LINK: Ipv4Addr = Ipv4Addr::new(127, 0, 3, 1);

pub(super) type Response = hyper::Response<BoxBody<Bytes, std::io::Error>>;

/// Request that a server has received.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Number of earlier requests.
    pub(super) number: usize,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(super) type Connected = Pin<Box<dyn Connection>>;

pub(super) trait Connection: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Connection for T {}

/// Server on a free port, until the runtime of the test ends.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// Starts a server by plain HTTP.
    pub(super) async fn start(
        address: Ipv4Addr,
        answer: impl Fn(&Received) -> Response + Send + Sync + 'static,
    ) -> Self {
        let answer = Arc::new(answer);
        Self::start_with(
            address,
            async |stream| Some(Box::pin(stream) as Connected),
            move |received| {
                let answer = answer.clone();
                async move { answer(&received) }
            },
        )
        .await
    }

    /// Starts a server on connections that `accept` makes of those of TCP.
    pub(super) async fn start_with<A, F>(
        address: Ipv4Addr,
        accept: impl Fn(tokio::net::TcpStream) -> A + Send + Sync + 'static,
        answer: impl Fn(Received) -> F + Send + Sync + 'static,
    ) -> Self
    where
        A: Future<Output = Option<Connected>> + Send + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), received: Arc::default() };
        let received = server.received.clone();
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let accepting = accept(stream);
                let (received, answer) = (received.clone(), answer.clone());
                tokio::spawn(async move {
                    let Some(stream) = accepting.await else { return };
                    let service = service_fn(move |request| {
                        let (received, answer) = (received.clone(), answer.clone());
                        async move {
                            let request = record(request, &received).await;
                            Ok::<_, Infallible>(answer(request).await)
                        }
                    });
                    let io = TokioIo::new(stream);
                    // A client that goes away is none of the test's business.
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                });
            }
        });
        server
    }

    pub(super) fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    pub(super) fn requests(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Returns `METHOD path` of all requests, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    /// Returns the `Authorization` headers of all requests.
    pub(super) fn authorizations(&self) -> Vec<Option<String>> {
        self.requests().iter().map(|request| request.header("authorization").map(str::to_owned)).collect()
    }
}

async fn record(request: hyper::Request<Incoming>, all: &Mutex<Vec<Received>>) -> Received {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut all = all.lock().unwrap();
    let received = Received {
        method: head.method.to_string(),
        path: head.uri.path().into(),
        query: head.uri.query().unwrap_or_default().into(),
        headers: head.headers,
        body,
        number: all.len(),
    };
    all.push(received.clone());
    received
}

/// Creates an answer with a whole body.
pub(super) fn answer(status: u16, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Response {
    let body = Full::new(body.into()).map_err(|error| match error {}).boxed();
    with_body(status, fields, body)
}

/// Creates an answer whose body is a stream of pieces, in chunks.
pub(super) fn streamed(
    fields: &[(&str, &str)],
    pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
) -> Response {
    with_body(200, fields, BodyExt::boxed(StreamBody::new(pieces.map(|piece| piece.map(Frame::data)))))
}

/// Creates an answer without end.
pub(super) fn endless(fields: &[(&str, &str)]) -> Response {
    let piece = Bytes::from(vec![b' '; 64 * 1024]);
    streamed(fields, stream::repeat_with(move || Ok(piece.clone())))
}

fn with_body(status: u16, fields: &[(&str, &str)], body: BoxBody<Bytes, std::io::Error>) -> Response {
    let mut response = hyper::Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(body).unwrap()
}

/// Creates a redirect.
pub(super) fn redirect(to: &str) -> Response {
    answer(307, &[("location", to)], "")
}
