//! One bad request must not end the registry: a panic in a handler becomes its 500.

use std::panic::AssertUnwindSafe;

use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;

use super::response::error::Error;

/// Runs a handler to its end, whatever end that is. The panic's own message goes to the log by the panic hook.
pub(crate) async fn isolate(handler: impl Future<Output = Response>) -> Response {
    // Handlers share nothing mutable, so nothing can be left half-changed.
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

    async fn ask(to: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_panic_ends_its_request_and_nothing_else() {
        let app = Router::new()
            .route("/panic", get(|| isolate(async { panic!("on purpose") })))
            .route("/fine", get(|| isolate(async { "fine".into_response() })));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, app, Limits::default(), std::future::pending()));

        let broken = ask(address, "/panic").await;
        assert!(broken.starts_with("HTTP/1.1 500 "), "{broken}");
        assert!(broken.contains(r#"{"errors":[{"code":"UNSUPPORTED","message":"internal error"#), "{broken}");
        assert!(ask(address, "/fine").await.ends_with("fine"));
    }
}
