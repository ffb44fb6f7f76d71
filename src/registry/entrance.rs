//! Entrances: listeners of one registry that permit different things.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use tower_service::Service;

use crate::State;
use crate::api;
use crate::api::method::Method;
use crate::api::response::error::Error;
use crate::api::route::Route;

/// Service of one listener of a registry that takes pushes at another listener than other requests.
#[derive(Clone, Debug)]
pub struct Entrance {
    state: State,
    kind: EntranceKind,
}

/// Permissions of a listener, an extension of each of its requests.
#[derive(Clone, Debug)]
enum EntranceKind {
    /// Reads. Pushes are taken at this other address.
    Reads { push_address: Arc<str> },
    /// Reads and writes of the storage, without peers and names: a client that pushes asks what this storage has.
    Pushes,
}

impl Entrance {
    /// Makes the service of a listener that refuses writes, and says that they are taken at `push_address`.
    #[must_use]
    pub fn for_reads(state: State, push_address: &str) -> Self {
        Self { state, kind: EntranceKind::Reads { push_address: push_address.into() } }
    }

    /// Makes the service of the listener that takes writes. It answers from the storage alone.
    #[must_use]
    pub fn for_pushes(state: State) -> Self {
        Self { state, kind: EntranceKind::Pushes }
    }
}

impl Service<Request> for Entrance {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let state = self.state.clone();
        request.extensions_mut().insert(self.kind.clone());
        Box::pin(async move { Ok(api::dispatch::dispatch(&state, request).await) })
    }
}

/// Fails for a write, and for a question about an upload session, at a listener that takes reads alone.
pub(crate) fn admit(request: &Parts, route: &Route, method: Method) -> Result<(), Error> {
    let is_upload = matches!(route, Route::Upload { .. } | Route::Uploads { .. });
    match request.extensions.get() {
        Some(EntranceKind::Reads { push_address }) if method != Method::Read || is_upload => {
            Err(Error::PushElsewhere(push_address.clone()))
        }
        _ => Ok(()),
    }
}

/// Returns true if a request is answered with the help of peers and names, as it is at all listeners but that for pushes.
pub(crate) fn asks_peers(request: &Parts) -> bool {
    !matches!(request.extensions.get(), Some(EntranceKind::Pushes))
}
