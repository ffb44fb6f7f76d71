//! Deadlines of requests to the API server: the head of every response, and the whole body of all but
//! watches, must arrive in time. A watch is silent as long as nothing happens; the request limits its length,
//! and `watches` restarts it. Created by `connection`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use kube::client::Body as Sent;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tower::{BoxError, Service};

/// A service with a deadline for each response.
#[derive(Clone, Debug)]
pub(super) struct WithDeadline<S> {
    inner: S,
    limit: Duration,
}

/// Error of a response that exceeded the deadline.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no response within {} seconds", limit.as_secs())]
pub(super) struct DeadlineExceeded {
    limit: Duration,
}

/// A response body with a deadline.
#[derive(Debug)]
pub(super) struct BodyWithDeadline<B> {
    body: B,
    /// Deadline of the body; `None` for a watch.
    deadline: Option<(Pin<Box<Sleep>>, DeadlineExceeded)>,
}

// === impl WithDeadline ===

impl<S> WithDeadline<S> {
    pub(super) const fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

impl<S, B> Service<Request<Sent>> for WithDeadline<S>
where
    S: Service<Request<Sent>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<BodyWithDeadline<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Sent>) -> Self::Future {
        let is_watch = request.uri().query().unwrap_or_default().split('&').any(|pair| pair == "watch=true");
        let (end, exceeded) = (Instant::now() + self.limit, DeadlineExceeded { limit: self.limit });
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = timeout_at(end, response).await.map_err(|_| exceeded)??;
            let deadline = (!is_watch).then(|| (Box::pin(sleep_until(end)), exceeded));
            Ok(response.map(|body| BodyWithDeadline { body, deadline }))
        })
    }
}

impl<B> Body for BodyWithDeadline<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some((sleep, exceeded)) = &mut self.deadline else { return Poll::Pending };
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(Some(Err((*exceeded).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    /// A body that never ends.
    #[derive(Debug)]
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Pending
        }
    }

    fn get(path: &str) -> Request<Sent> {
        Request::get(path).body(Sent::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_missing_response_exceeds_the_deadline() {
        let silent = service_fn(async |_: Request<Sent>| {
            std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>().await
        });
        for path in ["/api/v1/nodes", "/api/v1/nodes?limit=500&watch=true"] {
            let error = WithDeadline::new(silent, LIMIT).oneshot(get(path)).await.unwrap_err();
            assert!(error.is::<DeadlineExceeded>(), "{error}");
        }
    }

    #[tokio::test]
    async fn an_endless_response_exceeds_the_deadline_unless_it_is_a_watch() {
        let endless = service_fn(async |_: Request<Sent>| Ok::<_, BoxError>(Response::new(Silent)));
        let body = |path| async move {
            WithDeadline::new(endless, LIMIT).oneshot(get(path)).await.unwrap().into_body().collect().await
        };
        let error = body("/api/v1/nodes?resourceVersion=0").await.unwrap_err();
        assert!(error.is::<DeadlineExceeded>(), "{error}");
        let watch = tokio::time::timeout(LIMIT * 4, body("/api/v1/nodes?watch=true&timeoutSeconds=40"));
        assert!(watch.await.is_err(), "it goes on");
    }
}
