//! Faults of single requests.

use std::io;
use std::pin::pin;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::{Fault, Faulty, RequestKind, SentRequest};
use crate::{Condition, Object, ObjectError, ObjectErrorKind};

/// Returns the description of a request.
pub(super) fn sent(kind: RequestKind, key: &str, condition: Condition<'_>) -> SentRequest {
    SentRequest { kind, key: key.to_owned(), is_conditional: condition != Condition::Always }
}

impl<O: Send + Sync> Faulty<O> {
    /// Records a request, and sends it unless its fault comes first.
    pub(super) async fn spoil<T>(
        &self,
        request: SentRequest,
        send: impl Future<Output = Result<T, ObjectError>> + Send,
    ) -> Result<T, ObjectError> {
        let fault = self.plan.decide(&request);
        self.log.record(request.clone());
        let fail = |kind, reason| Err(failure(&request, kind, reason));
        match fault {
            None => pin!(send).await,
            Some(Fault::Stalled) => {
                self.plan.stall().await;
                pin!(send).await
            }
            // The body of a read is cut by `spoil_body`.
            Some(Fault::CutBody) => {
                fail(ObjectErrorKind::Unknown, "the connection ended within the body of the request")
            }
            Some(Fault::Unavailable) => fail(ObjectErrorKind::Throttled, "503 SlowDown"),
            Some(Fault::Conflict) => fail(ObjectErrorKind::Conflict, "409 ConditionalRequestConflict"),
            Some(Fault::Absent) => fail(ObjectErrorKind::NotFound, "404 NoSuchKey"),
            Some(Fault::Refused) => fail(ObjectErrorKind::Refused, "501 NotImplemented"),
            Some(Fault::ErrorInSuccess) => fail(ObjectErrorKind::Unknown, "200 with InternalError"),
            Some(Fault::ConflictAfterSuccess) => {
                pin!(send).await?;
                fail(ObjectErrorKind::Conflict, "409 ConditionalRequestConflict")
            }
            Some(Fault::UnavailableAfterSuccess) => {
                pin!(send).await?;
                fail(ObjectErrorKind::Throttled, "503 ServiceUnavailable")
            }
            Some(Fault::ErrorAfterSuccess) => {
                pin!(send).await?;
                fail(ObjectErrorKind::Unknown, "500 InternalError")
            }
            Some(Fault::Held(hold)) => {
                let answer = pin!(send).await;
                tokio::time::sleep(hold).await;
                answer
            }
        }
    }

    /// Does the same for a read, whose body is cut in its middle.
    pub(super) async fn spoil_read(
        &self,
        request: SentRequest,
        send: impl Future<Output = Result<Object, ObjectError>> + Send,
    ) -> Result<Object, ObjectError> {
        let fault = self.plan.decide(&request);
        self.log.record(request.clone());
        match fault {
            None => send.await,
            Some(Fault::Stalled) => {
                self.plan.stall().await;
                send.await
            }
            Some(Fault::CutBody) => {
                let mut object = send.await?;
                let length = object.range.end - object.range.start;
                object.body = cut(object.body, length / 2, request);
                Ok(object)
            }
            Some(Fault::Held(hold)) => {
                let answer = send.await;
                tokio::time::sleep(hold).await;
                answer
            }
            Some(Fault::Unavailable) => Err(failure(&request, ObjectErrorKind::Throttled, "503 SlowDown")),
            Some(Fault::Absent) => Err(failure(&request, ObjectErrorKind::NotFound, "404 NoSuchKey")),
            Some(_) => Err(failure(&request, ObjectErrorKind::Unknown, "500 InternalError")),
        }
    }
}

/// Ends a body with an error after `length` bytes.
fn cut(
    body: BoxStream<'static, Result<Bytes, ObjectError>>,
    length: u64,
    request: SentRequest,
) -> BoxStream<'static, Result<Bytes, ObjectError>> {
    let whole = body.scan(length, |left, chunk| {
        let chunk = chunk.map(|mut chunk| {
            chunk.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= chunk.len() as u64;
            chunk
        });
        let is_end = chunk.as_ref().is_ok_and(Bytes::is_empty);
        std::future::ready((!is_end).then_some(chunk))
    });
    let end = stream::once(async move {
        let mut error = failure(&request, ObjectErrorKind::Unknown, "the connection ended within the answer");
        error.source = Some(io::ErrorKind::UnexpectedEof.into());
        Err(error)
    });
    whole.chain(end).boxed()
}

fn failure(request: &SentRequest, kind: ObjectErrorKind, reason: &str) -> ObjectError {
    let message = format!("failed to {:?} {}: {reason}", request.kind, request.key.escape_debug());
    ObjectError { kind, message, source: None }
}
