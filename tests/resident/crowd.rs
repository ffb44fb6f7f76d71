//! Many connections of one client, which does the same on all of them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};

use crate::support::http::{Peer, TEST_TIMEOUT};

/// Connections that are opened before the server is asked whether it has accepted them.
const BURST: usize = 200;

/// Connections that are held until this is dropped.
#[derive(Debug)]
pub(crate) struct Crowd(Vec<TcpStream>);

impl Crowd {
    /// Opens connections that take in as little as possible.
    pub(crate) fn of(peer: Peer, count: usize) -> Self {
        let connection = |index| {
            // A listener that is not asked too much at once drops no attempt, each of which would cost a
            // second.
            if index % BURST == BURST - 1 {
                assert_eq!(peer.get("/v2/").status, 200);
            }
            open(peer.0)
        };
        Self((0..count).map(connection).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Sends bytes on all connections.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        for stream in &mut self.0 {
            stream.write_all(bytes).unwrap();
        }
    }

    /// Sends bytes on all connections, as far as the server takes them, or has not closed the connection.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) {
        for stream in &mut self.0 {
            stream.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
            let _ = stream.write_all(bytes);
        }
    }

    /// Sends different bytes on each connection, as far as the server takes them.
    pub(crate) fn try_send_each(&mut self, bytes: impl Fn(usize) -> Vec<u8>) {
        for (index, stream) in self.0.iter_mut().enumerate() {
            stream.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
            let _ = stream.write_all(&bytes(index));
        }
    }

    /// Waits until an answer has begun on all connections, and reads nothing of it. What was closed instead
    /// has ended too.
    pub(crate) fn await_answers(&self) {
        for stream in &self.0 {
            match stream.peek(&mut [0]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    /// Reads some bytes on all connections, and says how many of them the server has closed.
    pub(crate) fn read_some(&mut self) -> usize {
        let mut closed = 0;
        for stream in &mut self.0 {
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            closed += usize::from(match stream.read(&mut [0; 512]) {
                Ok(read) => read == 0,
                Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            });
        }
        closed
    }
}

fn open(address: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
    connect(&socket, &address).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream
}

/// Waits until a value has not grown for a second, and returns it.
pub(crate) fn when_stable(value: impl Fn() -> u64) -> u64 {
    let end = Instant::now() + TEST_TIMEOUT;
    let (mut last, mut since) = (value(), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        assert!(Instant::now() < end, "it grows and grows: {last}");
        std::thread::park_timeout(Duration::from_millis(20));
        let now = value();
        if now > last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}
