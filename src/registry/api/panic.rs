//! Isolation of panics: a panic in a handler becomes a 500 response, and does not end the registry.

use std::panic::AssertUnwindSafe;

use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;

use super::response::error::Error;

/// Runs a handler, and responds 500 if it panics. The panic hook logs the panic's message.
pub(crate) async fn isolate(handler: impl Future<Output = Response>) -> Response {
    // Handlers share no mutable state, so no state can be left half-changed.
    AssertUnwindSafe(handler).catch_unwind().await.unwrap_or_else(|_| Error::Internal.into_response())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{Limits, serve};

    async fn get_raw(to: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn a_panic_ends_only_its_own_request() {
        let app = Router::new()
            .route("/panic", get(|| isolate(async { panic!("on purpose") })))
            .route("/fine", get(|| isolate(async { "fine".into_response() })));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, app, Limits::default(), std::future::pending()));

        let broken = get_raw(address, "/panic").await;
        assert!(broken.starts_with("HTTP/1.1 500 "), "{broken}");
        assert!(broken.contains(r#"{"errors":[{"code":"UNSUPPORTED","message":"internal error"#), "{broken}");
        assert!(get_raw(address, "/fine").await.ends_with("fine"));
    }
}
