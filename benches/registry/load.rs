//! A server process, and connections to it that read as fast as they can.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{MANIFEST, QUINISTRY};

/// The registry, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts it on a port that was free a moment ago; it need not listen yet.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let mut command = Command::new(QUINISTRY);
        command.args(["serve", "--listen", &address.to_string()]).args(arguments);
        let process =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { process, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects as soon as it listens, within ten seconds.
    pub(crate) fn connect(&self) -> Connection {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => {
                    stream.set_nodelay(true).unwrap();
                    return Connection { stream, buffer: vec![0; 256 << 10] };
                }
                Err(error) => assert!(Instant::now() < deadline, "the registry does not listen: {error}"),
            }
            // Short beside what is measured, and leaves the processor to it.
            thread::sleep(Duration::from_micros(100));
        }
    }

    /// Where the layer is.
    pub(crate) fn layer(&self) -> String {
        let mut connection = self.connect();
        let size = connection.get(MANIFEST, |_| ());
        let manifest: serde_json::Value = serde_json::from_slice(&connection.buffer[..size]).unwrap();
        format!("/v2/quinistry/blobs/{}", manifest["layers"][0]["digest"].as_str().unwrap())
    }

    /// The most memory that was ever resident, in megabytes.
    pub(crate) fn high_water(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells the high-water");
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e6
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A connection that stays open from request to request.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Holds what was read last; after a body that fits, all of the body, from the start.
    buffer: Vec<u8>,
}

impl Connection {
    /// Asks for a path, which must be there, reads all of the body, telling of each piece, and gives its length.
    pub(crate) fn get(&mut self, path: &str, mut each: impl FnMut(usize)) -> usize {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut filled = 0;
        let head = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).unwrap();
            assert!(read > 0, "the registry closed the connection");
            filled += read;
            if let Some(end) = self.buffer[..filled].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let length = content_length(&self.buffer[..head]);
        self.buffer.copy_within(head..filled, 0);
        let mut received = filled - head;
        each(received);
        while received < length {
            // Small bodies are kept whole, large ones overwrite themselves.
            let start = if length <= self.buffer.len() { received } else { 0 };
            let read = self.stream.read(&mut self.buffer[start..]).unwrap();
            assert!(read > 0, "the registry closed the connection");
            received += read;
            each(read);
        }
        assert_eq!(received, length, "more than one answer");
        length
    }
}

fn content_length(head: &[u8]) -> usize {
    let head = std::str::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.expect("the answer has a length").1.parse().unwrap()
}
