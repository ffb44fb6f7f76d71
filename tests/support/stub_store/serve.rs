//! Connections of the stub, and the faults on them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use quinistry_bucket::testing::Fault;
use tokio::net::TcpListener;

use super::answer::{Answer, http_date};
use super::interruption::Moment;
use super::operation::Operation;
use super::request::Request;
use super::timeline::Timeline;
use super::{BUCKET, Store, TOKEN, signature};

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// Serves connections until the future is dropped.
pub(super) async fn serve(listener: TcpListener, store: Arc<Store>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Small answers follow each other on one connection.
        let _ = stream.set_nodelay(true);
        let store = store.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let store = store.clone();
                async move { store.answer(request).await }
            });
            // A client that ends its connection is not this side's concern.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Store {
    /// Answers a request. An error ends the connection without an answer.
    async fn answer(&self, request: http::Request<Incoming>) -> io::Result<http::Response<Body>> {
        let mut response = self.answer_or_fail(request).await?;
        let date = http_date(self.mem.clock().now());
        response.headers_mut().insert("date", date.parse().unwrap());
        Ok(response)
    }

    async fn answer_or_fail(&self, request: http::Request<Incoming>) -> io::Result<http::Response<Body>> {
        let (parts, mut body) = request.into_parts();
        let mut request = Request::new(parts);
        // Google's client asks a server on its machine for a token, where no key is given.
        if request.bucket == "computeMetadata" && request.header("metadata-flavor") == Some("Google") {
            return Ok(response(token(), None));
        }
        if request.bucket == "credentials" {
            self.issued.fetch_add(1, Ordering::Relaxed);
            return Ok(response(plain(signature::issue(self.valid.load(Ordering::Relaxed))), None));
        }
        let Some(operation) = Operation::of(&request) else {
            return Ok(response(Answer::error(501, "NotImplemented", "unknown request"), None));
        };
        let is_upload = matches!(operation, Operation::Put | Operation::PutPart { .. });
        if !is_upload {
            request.body = collect(&mut body).await?;
        }
        let sent = operation.sent(&request, self.shape);
        let fault = sent.as_ref().and_then(|sent| self.plan.decide(sent));
        let begin = sent.as_ref().map(|sent| {
            self.log.record(sent.clone());
            self.timeline.begin(sent.clone())
        });
        // The request also ends where its connection does.
        let _span = begin.map(|begin| RunningSpan { timeline: &self.timeline, begin });
        if is_upload {
            if fault == Some(Fault::CutBody) {
                let _ = body.frame().await;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            request.body = collect(&mut body).await?;
        }
        let agent = request.header("user-agent").unwrap_or_default();
        let interruption = sent.and_then(|sent| self.interruptions.due(agent, &sent));
        if let Some(interruption) = interruption {
            if interruption.moment == Moment::After {
                self.perform(&operation, &request).await;
            }
            (interruption.act)();
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        tokio::time::sleep(Duration::from_micros(self.delay.load(Ordering::Relaxed))).await;
        if request.bucket != BUCKET {
            return Ok(response(Answer::error(404, "NoSuchBucket", &request.bucket), None));
        }
        let valid = self.valid.load(Ordering::Relaxed);
        if let Some(refusal) = signature::refusal(&request, self.shape, valid, self.mem.clock().now()) {
            return Ok(response(refusal, None));
        }
        let refuse = |status, code| Ok(response(Answer::error(status, code, "a fault of the test"), None));
        match fault {
            Some(Fault::Unavailable) => return refuse(503, "SlowDown"),
            Some(Fault::Conflict) => return refuse(409, "ConditionalRequestConflict"),
            Some(Fault::ErrorInSuccess) => return refuse(200, "InternalError"),
            Some(Fault::Absent) => return refuse(404, "NoSuchKey"),
            Some(Fault::Stalled) => self.plan.stall().await,
            _ => {}
        }
        let answer = self.perform(&operation, &request).await;
        match fault {
            Some(Fault::UnavailableAfterSuccess) => return refuse(503, "ServiceUnavailable"),
            Some(Fault::ErrorAfterSuccess) => return refuse(500, "InternalError"),
            Some(Fault::ConflictAfterSuccess) => return refuse(409, "ConditionalRequestConflict"),
            Some(Fault::Held(hold)) => tokio::time::sleep(hold).await,
            _ => {}
        }
        let cut = (fault == Some(Fault::CutBody)).then_some(answer.length / 2);
        Ok(response(answer, cut))
    }
}

/// A request that is under way; its end is noted when this is dropped.
struct RunningSpan<'a> {
    timeline: &'a Timeline,
    begin: usize,
}

impl Drop for RunningSpan<'_> {
    fn drop(&mut self) {
        self.timeline.end(self.begin);
    }
}

async fn collect(body: &mut Incoming) -> io::Result<Bytes> {
    Ok(body.collect().await.map_err(io::Error::other)?.to_bytes())
}

fn plain(text: impl Into<Bytes>) -> Answer {
    let text = text.into();
    let answer = Answer { length: text.len() as u64, body: vec![text], ..Answer::empty(200) };
    answer.with("content-type", "application/json")
}

/// Returns the answer of Google's metadata server to the request for a token.
fn token() -> Answer {
    plain(format!(r#"{{"access_token":"{TOKEN}","token_type":"Bearer","expires_in":3600}}"#))
}

/// Makes the response; with `cut`, the connection ends after that many bytes of the body.
fn response(answer: Answer, cut: Option<u64>) -> http::Response<Body> {
    let mut pieces: Vec<io::Result<Frame<Bytes>>> = Vec::new();
    let mut left = cut.unwrap_or(u64::MAX);
    for mut piece in answer.body {
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= piece.len() as u64;
        pieces.push(Ok(Frame::data(piece)));
    }
    let end = stream::once(async move {
        // The server sends what it has while the body is pending, and nothing more once it has failed.
        tokio::task::yield_now().await;
        cut.map(|_| Err(io::ErrorKind::ConnectionAborted.into()))
    });
    let pieces = stream::iter(pieces).chain(end.filter_map(std::future::ready));
    let has_length = answer.status != 204 && answer.status != 304;
    let body = StreamBody::new(pieces).boxed_unsync();
    let mut response = http::Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(answer.status).unwrap();
    response.headers_mut().extend(answer.headers);
    if has_length {
        response.headers_mut().insert("content-length", answer.length.into());
    }
    response
}
