//! Stream of an accepted connection, over TCP or a unix socket, also with TLS.
//!
//! One type for all, so that the HTTP machinery is compiled once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::departure::{DetectDeparture, has_departed};
use super::tls::TlsSocket;

/// Stream of an accepted connection.
#[derive(Debug)]
pub(crate) enum SocketStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// On the heap, so that connections without TLS are not larger.
    Tls(Box<TlsSocket>),
}

/// Stream that tells how many bytes its client took.
pub(super) trait CountSent {
    /// Returns the bytes that the client took since the last call, of which `accepted` are those that the stream
    /// accepted in this call. A stream that holds accepted bytes in memory counts them when they are sent.
    fn sent(&mut self, accepted: usize) -> u64;
}

/// Stream that may be a TCP connection without TLS.
pub(super) trait PlainTcp {
    /// Returns the connection, if bytes go to the client as they are.
    fn plain_tcp(&self) -> Option<&TcpStream>;
}

impl PlainTcp for SocketStream {
    fn plain_tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Unix(_) | Self::Tls(_) => None,
        }
    }
}

impl SocketStream {
    /// Waits for bytes of the client, and returns the first one without taking it; `None` at the end. Not for
    /// streams with TLS, which have nothing to tell before their first content.
    pub(crate) async fn peek_byte(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        let count = match self {
            Self::Tcp(stream) => stream.peek(&mut byte).await?,
            Self::Unix(stream) => {
                let peek = || Ok(recv(stream, &mut byte, RecvFlags::PEEK)?.1);
                stream.async_io(Interest::READABLE, peek).await?
            }
            Self::Tls(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok((count > 0).then_some(byte[0]))
    }
}

impl CountSent for SocketStream {
    fn sent(&mut self, accepted: usize) -> u64 {
        match self {
            Self::Tcp(_) | Self::Unix(_) => accepted as u64,
            Self::Tls(stream) => stream.take_sent(),
        }
    }
}

impl DetectDeparture for SocketStream {
    fn has_departed(&self, missing: u64) -> bool {
        match self {
            Self::Tcp(stream) => has_departed(stream, missing),
            Self::Unix(stream) => has_departed(stream, missing),
            Self::Tls(stream) => stream.has_departed(missing),
        }
    }
}

impl AsFd for SocketStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for SocketStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for SocketStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
