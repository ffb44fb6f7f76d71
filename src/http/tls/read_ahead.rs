//! Large reads below TLS.
//!
//! rustls reads 4 KiB at once, which costs a client that pushes a blob a system call for each quarter of a record. A
//! client that has filled such a read is read ahead in large pieces, within a budget, until it pauses.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BufMut as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use crate::memory_budget::{MemoryBudget, Permit};

/// Budget of encrypted bytes that are read ahead. A connection without a part of it reads as rustls asks.
pub static TLS_READS: MemoryBudget = MemoryBudget::new(2 * 1024 * 1024);

/// Most bytes that one connection is read ahead: four records.
const MAX_READ_AHEAD_BYTES: usize = 64 * 1024;

/// Bytes that were read ahead. Idle connections have no buffer.
#[derive(Default)]
pub(super) struct ReadAhead(Option<Buffer>);

struct Buffer {
    bytes: Vec<u8>,
    /// Number of the first bytes that TLS has read.
    taken: usize,
    /// Most bytes of the buffer.
    size: usize,
    _permit: Permit,
}

impl ReadAhead {
    /// Returns the number of bytes that TLS has not read.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |buffer| buffer.bytes.len() - buffer.taken)
    }

    /// Reads from the buffer, or from `stream` if that is empty.
    pub(super) fn poll_read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        wanted: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(buffer) = &mut self.0 else {
            ready!(Pin::new(stream).poll_read(cx, wanted))?;
            if wanted.remaining() == 0 {
                self.begin();
            }
            return Poll::Ready(Ok(()));
        };
        if buffer.taken == buffer.bytes.len() {
            buffer.bytes.clear();
            buffer.taken = 0;
            let mut room = (&mut buffer.bytes).limit(buffer.size);
            let read = pin!(stream.read_buf(&mut room)).poll(cx);
            if !matches!(read, Poll::Ready(Ok(1..))) {
                // The client pauses or has ended, and holds no memory then.
                self.0 = None;
                return read.map_ok(drop);
            }
        }
        let rest = &buffer.bytes[buffer.taken..];
        let rest = &rest[..rest.len().min(wanted.remaining())];
        wanted.put_slice(rest);
        buffer.taken += rest.len();
        Poll::Ready(Ok(()))
    }

    /// Makes the buffer of a client that sends much, if the budget has room.
    fn begin(&mut self) {
        self.0 = TLS_READS.try_acquire_part(MAX_READ_AHEAD_BYTES).map(|(size, permit)| {
            let bytes = Vec::with_capacity(size);
            Buffer { bytes, taken: 0, size, _permit: permit }
        });
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::ioctl_fionread;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    use super::*;

    /// Bytes that rustls asks for at once.
    const WANTED: usize = 4096;

    /// Reads once. `None` if nothing has arrived.
    async fn read(ahead: &mut ReadAhead, stream: &mut UnixStream) -> Option<Vec<u8>> {
        let mut bytes = [0; WANTED];
        let mut wanted = ReadBuf::new(&mut bytes);
        let read = std::future::poll_fn(|cx| Poll::Ready(ahead.poll_read(stream, cx, &mut wanted))).await;
        match read {
            Poll::Ready(result) => result.map(|()| Some(wanted.filled().to_vec())).unwrap(),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn a_client_that_sends_much_is_read_in_large_pieces_until_it_pauses() {
        let (mut client, mut server) = UnixStream::pair().unwrap();
        let sent: Vec<u8> = (0..=250).cycle().take(100_000).collect();
        client.write_all(&sent).await.unwrap();
        server.readable().await.unwrap();
        let (mut ahead, mut received, mut large_reads) = (ReadAhead::default(), Vec::new(), 0);
        while received.len() < sent.len() {
            let before = ioctl_fionread(&server).unwrap();
            received.extend(read(&mut ahead, &mut server).await.expect("bytes have arrived"));
            let read = before - ioctl_fionread(&server).unwrap();
            large_reads += usize::from(read > WANTED as u64);
            assert!(read <= MAX_READ_AHEAD_BYTES as u64);
        }
        assert_eq!(received, sent);
        assert_eq!(large_reads, 2, "the first read has 4 KiB, and the next ones 64 KiB and the rest");
        assert_eq!(read(&mut ahead, &mut server).await, None);
        assert!(ahead.0.is_none(), "a client that pauses holds no memory");
        client.write_all(b"again").await.unwrap();
        server.readable().await.unwrap();
        assert_eq!(read(&mut ahead, &mut server).await.as_deref(), Some(&b"again"[..]));
        assert!(ahead.0.is_none(), "nor does one that sends little");
        drop(client);
        server.readable().await.unwrap();
        assert_eq!(read(&mut ahead, &mut server).await.as_deref(), Some(&b""[..]), "the end");
    }
}
