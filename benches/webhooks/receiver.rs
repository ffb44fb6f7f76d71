//! A receiver of events that accepts all of them.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Time within which all events arrive after the last push.
const PATIENCE: Duration = Duration::from_mins(1);

/// See the module. Its threads end with the program.
#[derive(Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    count: Arc<(Mutex<usize>, Condvar)>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let receiver = Self { address: listener.local_addr().unwrap(), count: Arc::default() };
        let count = receiver.count.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, count) = (stream.unwrap(), count.clone());
                // The end of a connection is an error of its next read.
                thread::spawn(move || drop(receive(stream, &count)));
            }
        });
        receiver
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for so many events, and returns how many have come.
    pub(crate) fn wait_for(&self, expected: usize) -> usize {
        let (count, changed) = &*self.count;
        let waited =
            changed.wait_timeout_while(count.lock().unwrap(), PATIENCE, |count| *count < expected).unwrap();
        *waited.0
    }
}

/// Answers the requests of a connection, each of which has one event.
fn receive(mut stream: TcpStream, count: &(Mutex<usize>, Condvar)) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().expect("a length"),
                None if line == "\r\n" => break,
                Some(_) | None => {}
            }
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        *count.0.lock().unwrap() += 1;
        count.1.notify_one();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}
