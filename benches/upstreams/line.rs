//! A line to the upstream: it carries so many bytes a second, and counts what passes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that pass at once.
const PIECE: usize = 64 << 10;

/// See the module. Its threads end with the program.
#[derive(Debug)]
pub(crate) struct Line {
    address: SocketAddr,
    passed: Arc<Passed>,
}

#[derive(Debug, Default)]
struct Passed {
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Time at which the line is free for the next piece.
    free: Mutex<Option<Instant>>,
}

// === impl Line ===

impl Line {
    /// Lays a line to a server. `rate` is in bytes per second, for all connections together.
    pub(crate) fn to(server: SocketAddr, rate: f64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let passed = Arc::<Passed>::default();
        let counted = passed.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, counted) = (client.unwrap(), counted.clone());
                // The end of a connection is an error on one of its sides.
                thread::spawn(move || drop(carry(&client, server, &counted, rate)));
            }
        });
        Self { address, passed }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the requests and the bytes of answers since the last call.
    pub(crate) fn take_counts(&self) -> (u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        (take(&self.passed.requests), take(&self.passed.bytes))
    }
}

/// Carries one connection, in both directions.
fn carry(client: &TcpStream, server: SocketAddr, passed: &Arc<Passed>, rate: f64) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (mut from, mut to, counted) = (client.try_clone()?, server.try_clone()?, passed.clone());
    thread::spawn(move || {
        // Requests have no bodies, so that each ends with an empty line.
        let mut matched = 0;
        let _ = pass(&mut from, &mut to, |piece| {
            for byte in piece {
                matched = match (matched, byte) {
                    (0 | 2, b'\r') | (1 | 3, b'\n') => matched + 1,
                    (_, b'\r') => 1,
                    _ => 0,
                };
                if matched == 4 {
                    counted.requests.fetch_add(1, Ordering::Relaxed);
                    matched = 0;
                }
            }
        });
        to.shutdown(Shutdown::Write)
    });
    let (mut from, mut to) = (server, client.try_clone()?);
    pass(&mut from, &mut to, |piece| {
        passed.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        passed.wait(piece.len(), rate);
    })?;
    to.shutdown(Shutdown::Write)
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        each(&buffer[..length]);
        to.write_all(&buffer[..length])?;
    }
}

// === impl Passed ===

impl Passed {
    /// Waits until a piece has passed.
    #[expect(clippy::cast_precision_loss, reason = "pieces are short")]
    fn wait(&self, length: usize, rate: f64) {
        let now = Instant::now();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let end = free.map_or(now, |free| free.max(now)) + Duration::from_secs_f64(length as f64 / rate);
        *free = Some(end);
        drop(free);
        thread::sleep(end.saturating_duration_since(Instant::now()));
    }
}
