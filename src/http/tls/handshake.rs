//! Handshake of a connection.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::client_certificate::ClientCertificate;
use super::server::TlsServer;
use super::session::TlsSession;
use super::socket::{BoundedStream, TlsSocket};
use crate::admission::SilentClient;
use crate::memory_budget::MemoryBudget;
use crate::peer::Peer;
use crate::stream::SocketStream;

/// Budget of handshakes that are longer than [`UNBUDGETED_BYTES`](crate::memory_budget::UNBUDGETED_BYTES), as those
/// with client certificates are: each takes the longest message that rustls accepts, 64 KiB.
pub static HANDSHAKES: MemoryBudget = MemoryBudget::new(4 * 1024 * 1024);

/// First byte of a TLS record with a handshake message (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// Answer to a request without TLS.
const PLAIN_REQUEST_ANSWER: &str = "HTTP/1.1 400 Bad Request\r\n\
     Content-Type: text/plain; charset=utf-8\r\n\
     Content-Length: 62\r\n\
     Connection: close\r\n\
     \r\n\
     this port speaks HTTPS, and the request came in clear: use TLS";

/// Longest time, and most bytes, for which a refused request is read, so that its client reads the refusal and not a
/// reset connection.
const REFUSED_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_REFUSED_REQUEST_BYTES: u64 = 64 * 1024;

/// Makes the handshake of an accepted connection, which takes `longest` at most. A client that sends nothing costs no
/// more than its connection.
pub(crate) async fn accept(
    server: &TlsServer,
    mut stream: SocketStream,
    longest: Duration,
    (client, peer): (SilentClient, Peer),
) -> io::Result<(SocketStream, TlsSession)> {
    let handshake = async {
        let first = stream.peek_byte().await?;
        if first != Some(HANDSHAKE_RECORD) && first.is_some_and(|byte| byte.is_ascii_uppercase()) {
            refuse_plain_request(&mut stream).await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "request without TLS"));
        }
        let in_progress = client.begin_handshake(peer).await?;
        let (config, client_auth, verification) = server.config();
        let stream = TlsAcceptor::from(config).accept(BoundedStream::new(stream)).await?;
        let certificates = stream.get_ref().1.peer_certificates().filter(|_| client_auth.verifies());
        let certificate = certificates.and_then(|chain| chain.first()).and_then(ClientCertificate::parse);
        drop(in_progress);
        let session = TlsSession::new(certificate, verification);
        Ok((SocketStream::Tls(Box::new(TlsSocket::new(stream))), session))
    };
    let result = timeout(longest, handshake).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "TLS handshake not complete in time"))
    });
    let counts = &server.handshakes;
    if result.is_ok() { &counts.completed } else { &counts.failed }.increment();
    result
}

async fn refuse_plain_request(stream: &mut SocketStream) -> io::Result<()> {
    stream.write_all(PLAIN_REQUEST_ANSWER.as_bytes()).await?;
    stream.shutdown().await?;
    let rest = stream.take(MAX_REFUSED_REQUEST_BYTES);
    let mut sink = tokio::io::sink();
    let drained = timeout(REFUSED_REQUEST_TIMEOUT, tokio::io::copy(&mut { rest }, &mut sink)).await;
    drained.unwrap_or(Ok(0)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_plain_request_has_the_length_that_it_names() {
        let (head, body) = PLAIN_REQUEST_ANSWER.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
