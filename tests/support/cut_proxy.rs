//! A proxy that breaks connections after certain numbers of bytes, and counts the bytes that clients send.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A proxy on a free port of loopback. Runs until the process ends.
#[derive(Debug)]
pub struct CutProxy {
    pub address: SocketAddr,
    sent: Arc<Mutex<Sent>>,
}

/// Bytes that clients have sent, on all connections.
#[derive(Debug)]
struct Sent {
    bytes: u64,
    /// Numbers of bytes after which the connection that sends the next one breaks.
    cuts: VecDeque<u64>,
    /// Number of bytes after which every connection breaks.
    end: u64,
}

impl CutProxy {
    /// Starts a proxy before a server, which breaks a connection after each of these numbers of bytes.
    pub fn start(server: SocketAddr, cuts: impl IntoIterator<Item = u64>) -> Self {
        Self::ending(server, cuts, u64::MAX)
    }

    /// Starts such a proxy, which breaks all connections from a number of bytes on.
    pub fn ending(server: SocketAddr, cuts: impl IntoIterator<Item = u64>, end: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(Mutex::new(Sent { bytes: 0, cuts: cuts.into_iter().collect(), end }));
        let counted = sent.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), counted) = (client, counted.clone()) else { continue };
                thread::spawn(move || pass(&client, server, &counted));
            }
        });
        Self { address, sent }
    }

    /// Returns the number of bytes that clients have sent.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.lock().unwrap().bytes
    }

    /// Returns the number of cuts that are still to come.
    pub fn cuts_left(&self) -> usize {
        self.sent.lock().unwrap().cuts.len()
    }
}

impl Sent {
    /// Counts bytes, and returns the number of those that may pass; fewer than came break the connection.
    fn take(&mut self, came: usize) -> usize {
        let before = self.bytes;
        self.bytes += came as u64;
        let cut = self.cuts.front().copied().unwrap_or(u64::MAX).min(self.end);
        if self.bytes < cut {
            return came;
        }
        if self.cuts.front() == Some(&cut) {
            self.cuts.pop_front();
        }
        usize::try_from(cut.saturating_sub(before)).unwrap().min(came.saturating_sub(1))
    }
}

/// Passes bytes both ways until either side ends or the connection is cut. An error ends the connection.
fn pass(mut client: &TcpStream, server: SocketAddr, sent: &Mutex<Sent>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &server, &mut &*client);
            end(client, &server);
        });
        let mut buffer = vec![0; 64 << 10];
        let copied = loop {
            match client.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(came) => {
                    let passed = sent.lock().unwrap().take(came);
                    let written = (&server).write_all(&buffer[..passed]);
                    if written.is_err() || passed < came {
                        break written;
                    }
                }
                Err(error) => break Err(error),
            }
        };
        end(client, &server);
        copied
    })
}

/// Ends both connections, so that neither direction waits.
fn end(client: &TcpStream, server: &TcpStream) {
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
}
