//! Copying between a connection of this machine and a port-forward, both ways at once, with bounded buffers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::ForwardError;
use super::channels::{Channels, DATA_CHANNEL, Event};
use super::frame::{FrameReader, Opcode, encode};

/// Greatest number of bytes that are sent in one frame. Fewer, longer frames cost the container runtime, which unpacks
/// them, less processor time; see docs/benchmarks.md.
const SENT_BYTES: usize = 256 * 1024;

/// Number of bytes that are read from the server at once.
const RECEIVED_BYTES: usize = 32 * 1024;

/// Time without any progress after which the server is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Number of such times in a row after which the connection counts as broken. A path that is gone without a word is
/// noticed so, behind the API server too.
const MAX_SILENT_INTERVALS: u32 = 3;

/// Number of control frames that wait to be sent. Further ones are dropped: a server that sends pings without reading
/// the answers loses some.
const CONTROL_FRAMES: usize = 4;

/// Number of reads and writes that made progress.
#[derive(Default)]
struct Progress(AtomicU64);

type Control = (Opcode, Bytes);

/// Copies until either side ends, and calls `on_data` for bytes from the port. Returns why the forward ended; `None` if
/// the local side ended the connection.
pub(super) async fn copy<R, L>(remote: (R, u16), local: L, on_data: impl Fn()) -> Option<ForwardError>
where
    R: AsyncRead + AsyncWrite + Unpin,
    L: AsyncRead + AsyncWrite + Unpin,
{
    copy_with(remote, local, on_data, PING_INTERVAL).await
}

async fn copy_with<R, L>(
    (remote, port): (R, u16),
    local: L,
    on_data: impl Fn(),
    ping_interval: Duration,
) -> Option<ForwardError>
where
    R: AsyncRead + AsyncWrite + Unpin,
    L: AsyncRead + AsyncWrite + Unpin,
{
    let (progress, (control, controls)) = (Progress::default(), mpsc::channel(CONTROL_FRAMES));
    let ((from_remote, to_remote), (from_local, to_local)) = (split(remote), split(local));
    tokio::select! {
        sent = send(from_local, to_remote, controls, &progress) => sent.err(),
        received = receive((from_remote, port), to_local, (&control, on_data), &progress) => received.err(),
        () = watch(ping_interval, &control, &progress) => Some(ForwardError::Silent),
    }
}

/// Sends what the local side writes, until it ends.
async fn send(
    mut local: impl AsyncRead + Unpin,
    mut remote: impl AsyncWrite + Unpin,
    mut controls: mpsc::Receiver<Control>,
    progress: &Progress,
) -> Result<(), ForwardError> {
    let random = SystemRandom::new();
    let (mut data, mut out) = (BytesMut::new(), BytesMut::new());
    loop {
        data.clear();
        data.reserve(SENT_BYTES);
        let mut limited = (&mut local).take(SENT_BYTES as u64);
        let (opcode, payload): (_, (&[u8], &[u8])) = tokio::select! {
            Some((opcode, payload)) = controls.recv() => {
                data.extend_from_slice(&payload);
                (opcode, (&[], &data))
            }
            read = limited.read_buf(&mut data) => match read {
                // A local connection that breaks has ended: its other side knows why.
                Ok(0) | Err(_) => (Opcode::Close, (&[], &[])),
                Ok(_) => (Opcode::Binary, (&[DATA_CHANNEL], &data)),
            },
        };
        let mut mask = [0; 4];
        random.fill(&mut mask).map_err(|_| ForwardError::Protocol("no random numbers"))?;
        out.clear();
        encode(opcode, payload, mask, &mut out);
        remote.write_all(&out).await.map_err(ForwardError::Broken)?;
        remote.flush().await.map_err(ForwardError::Broken)?;
        match opcode {
            Opcode::Close => return Ok(()),
            Opcode::Binary => progress.step(),
            _ => {}
        }
    }
}

/// Gives the local side what arrives, until the server ends the connection.
async fn receive(
    (mut remote, port): (impl AsyncRead + Unpin, u16),
    mut local: impl AsyncWrite + Unpin,
    (control, on_data): (&mpsc::Sender<Control>, impl Fn()),
    progress: &Progress,
) -> Result<(), ForwardError> {
    let (mut frames, mut channels) = (FrameReader::default(), Channels::new(port));
    loop {
        while let Some(frame) = frames.next()? {
            match channels.receive(frame)? {
                Event::Data(bytes) => {
                    on_data();
                    if local.write_all(&bytes).await.is_err() {
                        return Ok(());
                    }
                }
                Event::Ping(payload) => drop(control.try_send((Opcode::Pong, payload))),
                Event::Closed => return Err(ForwardError::Closed),
                Event::Nothing => {}
            }
            progress.step();
        }
        frames.buffer.reserve(RECEIVED_BYTES);
        if remote.read_buf(&mut frames.buffer).await.map_err(ForwardError::Broken)? == 0 {
            return Err(ForwardError::Closed);
        }
    }
}

/// Asks for signs of life while nothing else comes or goes. Ends when there are none.
async fn watch(ping_interval: Duration, control: &mpsc::Sender<Control>, progress: &Progress) {
    let (mut before, mut silent) = (0, 0);
    while silent < MAX_SILENT_INTERVALS {
        sleep(ping_interval).await;
        let now = progress.0.load(Ordering::Relaxed);
        if now == before {
            silent += 1;
            // Without room, frames wait to be sent already.
            let _ = control.try_send((Opcode::Ping, Bytes::new()));
        } else {
            (before, silent) = (now, 0);
        }
    }
}

// === impl Progress ===

impl Progress {
    fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
