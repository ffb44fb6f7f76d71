//! The guard: lets writes to the API server pass while this operator leads, and only then. Reads always pass.
//!
//! It stands right above the connection, below everything that might wait and try again. Made by `connection`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use kube::client::Body;
use tower::{BoxError, Service};

use super::Leadership;

/// A service, guarded.
#[derive(Clone, Debug)]
pub(in crate::operator) struct Guarded<S> {
    inner: S,
    leadership: Arc<Leadership>,
}

// === impl Guarded ===

impl<S> Guarded<S> {
    pub(in crate::operator) fn new(inner: S, leadership: Arc<Leadership>) -> Self {
        Self { inner, leadership }
    }
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>>,
    S::Error: Into<BoxError>,
    S::Response: Send,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let reads = request.method().is_safe();
        // Nothing is sent before this is polled.
        let answer = self.inner.call(request);
        if reads {
            return Box::pin(async { answer.await.map_err(Into::into) });
        }
        let leadership = self.leadership.clone();
        Box::pin(async move { leadership.during(answer).await?.map_err(Into::into) })
    }
}
