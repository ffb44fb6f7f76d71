//! Requests with the header `Authorization`.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Request;
use http::header::AUTHORIZATION;
use tower::{BoxError, Service};

use super::{Authorization, Credentials};

/// A service whose requests carry credentials.
#[derive(Clone)]
pub(crate) struct WithCredentials<S> {
    inner: S,
    authorization: Authorization,
}

// === impl WithCredentials ===

impl<S> WithCredentials<S> {
    pub(crate) fn new(inner: S, credentials: &Credentials) -> Self {
        Self { inner, authorization: credentials.authorization.clone() }
    }
}

impl<S, B> Service<Request<B>> for WithCredentials<S>
where
    S: Service<Request<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The clone is the one that is not ready yet.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let authorization = self.authorization.clone();
        Box::pin(async move {
            let header = authorization.header().await.map_err(kube::Error::Auth)?;
            request.headers_mut().extend(header.map(|header| (AUTHORIZATION, header)));
            inner.call(request).await
        })
    }
}
