//! The guard: lets writes to the API server pass only while this operator leads. Reads always pass.
//!
//! The guard stands right above the connections, below everything that might wait and try again. Writes have
//! connections of their own, which have a [fence](super::fence). Created by `connection`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Request;
use kube::client::Body;
use tower::{BoxError, Service};

use super::Leadership;

/// A service for reads and one for writes, which is guarded.
#[derive(Clone, Debug)]
pub(in crate::operator) struct WriteGuard<S, W> {
    reads: S,
    writes: W,
    leadership: Arc<Leadership>,
}

// === impl WriteGuard ===

impl<S, W> WriteGuard<S, W> {
    pub(in crate::operator) const fn new(reads: S, writes: W, leadership: Arc<Leadership>) -> Self {
        Self { reads, writes, leadership }
    }
}

impl<S, W> Service<Request<Body>> for WriteGuard<S, W>
where
    S: Service<Request<Body>>,
    S::Error: Into<BoxError>,
    S::Response: Send,
    S::Future: Send + 'static,
    W: Service<Request<Body>, Response = S::Response>,
    W::Error: Into<BoxError>,
    W::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        ready!(self.reads.poll_ready(context)).map_err(Into::into)?;
        self.writes.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.method().is_safe() {
            let answer = self.reads.call(request);
            return Box::pin(async { answer.await.map_err(Into::into) });
        }
        // Nothing is sent before the future is polled.
        let answer = self.writes.call(request);
        let leadership = self.leadership.clone();
        Box::pin(async move { leadership.during(answer).await?.map_err(Into::into) })
    }
}
