//! A proxy that holds the begin of each answer back for a time, as a store far away does.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A proxy on a free port of loopback. Runs until the process ends.
#[derive(Debug)]
pub struct DelayProxy {
    pub address: SocketAddr,
    answers: Arc<AtomicUsize>,
}

impl DelayProxy {
    /// Starts a proxy before a server that speaks HTTP/1.1 without pipelining.
    pub fn start(server: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::<AtomicUsize>::default();
        let counted = answers.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), counted) = (client, counted.clone()) else { continue };
                thread::spawn(move || pass(&client, server, delay, &counted));
            }
        });
        Self { address, answers }
    }

    /// Returns the number of answers so far.
    pub fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }
}

/// Passes bytes both ways until either side ends. An error ends the connection.
fn pass(client: &TcpStream, server: SocketAddr, delay: Duration, answers: &AtomicUsize) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // True from a request's bytes until the begin of its answer.
    let is_asked = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| copy(client, &server, || is_asked.store(true, Ordering::Relaxed)));
        copy(&server, client, || {
            if is_asked.swap(false, Ordering::Relaxed) {
                answers.fetch_add(1, Ordering::Relaxed);
                thread::sleep(delay);
            }
        })
    })
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, mut before_each: impl FnMut()) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let copied = loop {
        match from.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(length) => {
                before_each();
                if let Err(error) = to.write_all(&buffer[..length]) {
                    break Err(error);
                }
            }
            Err(error) => break Err(error),
        }
    };
    // Both ends, so that the other direction does not wait.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
    copied
}
