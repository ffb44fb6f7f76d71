//! Port-forwards to pods through the API server, over WebSocket connections (`v4.channel.k8s.io`).
//!
//! Own code beside kube's feature `ws`, which would add four crates for one handshake and three kinds of frames, and
//! buffers a mebibyte for each connection.

mod channels;
mod copy;
mod frame;

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, Request, StatusCode};
use http_body::Body as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::core::Status;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::api::Cluster;
use super::error::InstallError;
use crate::one_line::cut;

/// Protocol of the channels within the WebSocket connection.
const PROTOCOL: &str = "v4.channel.k8s.io";

/// Bytes that follow the key in the hash by which a server accepts a WebSocket connection (RFC 6455, section 1.3).
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Time limit for a port-forward to be opened. An API server that does not reach the kubelet, for example because the node
/// has vanished, may wait for minutes.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Length of the longest refusal that is read, in bytes.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// Reason why an open port-forward ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    /// The server, or a proxy on the way, closed the connection.
    #[error("the connection through the API server was closed")]
    Closed,
    /// The connection broke.
    #[error("the connection through the API server broke: {0}")]
    Broken(#[source] io::Error),
    /// The kubelet cannot reach the port.
    #[error("the kubelet says: {}", cut(.0))]
    Pod(String),
    /// The server sent something else than a port-forward has.
    #[error("the API server sent {0}")]
    Protocol(&'static str),
    /// No sign of life came.
    #[error("no sign of life came through the API server")]
    Silent,
}

/// Open connection to a port of a pod.
pub(super) struct PortForward {
    stream: TokioIo<Upgraded>,
    port: u16,
}

// === impl PortForward ===

impl PortForward {
    /// Connects to a port on the loopback interface of a pod, within [`OPEN_TIMEOUT`].
    pub(super) async fn open(
        cluster: &Cluster,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<Self, InstallError> {
        let opened = timeout(OPEN_TIMEOUT, Self::connect(cluster, namespace, pod, port)).await;
        opened.unwrap_or_else(|_| {
            Err(InstallError::Timeout {
                what: format!("no port-forward to port {port} of Pod {namespace}/{pod}"),
                after: OPEN_TIMEOUT,
                why: "the node may be gone, or the API server does not answer; look at the node".into(),
            })
        })
    }

    async fn connect(cluster: &Cluster, namespace: &str, pod: &str, port: u16) -> Result<Self, InstallError> {
        let what = format!("open a port-forward to port {port} of Pod {namespace}/{pod}");
        let error = |error: &kube::Error| InstallError::api(&*what, error, cluster.identity());
        let mut nonce = [0; 16];
        let filled = SystemRandom::new().fill(&mut nonce);
        filled.map_err(|_| error(&kube::Error::Service("no random numbers".into())))?;
        let key = STANDARD.encode(nonce);
        let request =
            Request::get(format!("/api/v1/namespaces/{namespace}/pods/{pod}/portforward?ports={port}"))
                .header(CONNECTION, "Upgrade")
                .header(UPGRADE, "websocket")
                .header(SEC_WEBSOCKET_VERSION, "13")
                .header(SEC_WEBSOCKET_KEY, &key)
                .header(SEC_WEBSOCKET_PROTOCOL, PROTOCOL)
                .body(Body::empty())
                .expect("names of objects are parts of paths");
        let answer = cluster.client().send(request).await.map_err(|failure| error(&failure))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = answer.status();
            return Err(error(&refusal(status, &read(answer.into_body()).await)));
        }
        if let Err(why) = check(answer.headers(), &key) {
            return Err(InstallError::Refused(format!("failed to {what}: {} {why}", cluster.identity())));
        }
        let stream =
            hyper::upgrade::on(answer).await.map_err(|failure| error(&kube::Error::HyperError(failure)))?;
        Ok(Self { stream: TokioIo::new(stream), port })
    }

    /// Copies between a connection of this machine and the port, and calls `on_data` for bytes from the port. Returns why
    /// the forward ended; `None` if the local side ended the connection.
    pub(super) async fn copy(
        self,
        local: impl AsyncRead + AsyncWrite + Unpin,
        on_data: impl Fn(),
    ) -> Option<ForwardError> {
        copy::copy((self.stream, self.port), local, on_data).await
    }
}

/// Checks that an answer agrees to a WebSocket connection with the protocol (RFC 6455, section 4.1).
fn check(headers: &HeaderMap, key: &str) -> Result<(), &'static str> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accept = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), ACCEPT_SUFFIX].concat());
    if !text(UPGRADE).eq_ignore_ascii_case("websocket") {
        Err("switches to something else than WebSocket")
    } else if text(SEC_WEBSOCKET_ACCEPT) != STANDARD.encode(accept) {
        Err("sends a wrong WebSocket handshake; a proxy on the way may not support WebSocket")
    } else if text(SEC_WEBSOCKET_PROTOCOL) != PROTOCOL {
        Err("does not support port-forwards over WebSocket")
    } else {
        Ok(())
    }
}

/// Reads the beginning of a body.
async fn read(mut body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_REFUSAL_BYTES {
        let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await;
        let Some(Ok(frame)) = frame else { break };
        bytes.extend(frame.into_data().unwrap_or_default());
    }
    bytes.truncate(MAX_REFUSAL_BYTES);
    bytes
}

/// Returns the error of an answer. API servers explain themselves in a `Status`, kubelets and proxies in text.
fn refusal(status: StatusCode, body: &[u8]) -> kube::Error {
    let explained =
        serde_json::from_slice::<Status>(body).ok().filter(|explained| !explained.message.is_empty());
    let message =
        explained.map_or_else(|| String::from_utf8_lossy(body).trim().to_owned(), |one| one.message);
    let message = if message.is_empty() { status.to_string() } else { message };
    kube::Error::Api(Status::failure(&message, "").with_code(status.as_u16()).boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_agreed_connection_is_used() {
        // The example of RFC 6455, section 1.3.
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let agreed = [
            (UPGRADE, "WebSocket"),
            (SEC_WEBSOCKET_ACCEPT, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            (SEC_WEBSOCKET_PROTOCOL, PROTOCOL),
        ];
        let headers = |agreed: &[(HeaderName, &'static str)]| {
            agreed.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect::<HeaderMap>()
        };
        assert_eq!(check(&headers(&agreed), key), Ok(()));
        for missing in 0..agreed.len() {
            let mut others = agreed.to_vec();
            others.remove(missing);
            assert!(check(&headers(&others), key).is_err(), "{missing}");
        }
        assert!(check(&headers(&agreed), "dGhlIHNhbXBsZSBub25jZR==").is_err());
    }

    #[test]
    fn refusals_are_explained() {
        let message = |status, body: &str| match refusal(status, body.as_bytes()) {
            kube::Error::Api(status) => (status.code, status.message.clone()),
            other => panic!("{other}"),
        };
        let status = r#"{"kind":"Status","status":"Failure","message":"pods \"a\" not found","code":404}"#;
        assert_eq!(message(StatusCode::NOT_FOUND, status), (404, "pods \"a\" not found".into()));
        let text = "error dialing backend\n";
        assert_eq!(message(StatusCode::BAD_GATEWAY, text), (502, "error dialing backend".into()));
        assert_eq!(message(StatusCode::BAD_GATEWAY, ""), (502, "502 Bad Gateway".into()));
    }
}
