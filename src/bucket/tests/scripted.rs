//! A server that answers each request by a script, for services that have no program to run here.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

/// A request that the server received.
#[derive(Debug)]
pub(super) struct Received {
    /// Request line and headers, in lower case.
    pub(super) head: String,
    pub(super) body: String,
}

/// A server on loopback that ends with its last answer.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    pub(super) requests: Receiver<Received>,
}

impl Scripted {
    /// Starts a server that gives these answers, each on a connection of its own: the head without the length, and
    /// the body.
    pub(super) fn start(answers: Vec<(String, String)>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for (head, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let received = receive(&stream);
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                )
                .unwrap();
                if sender.send(received).is_err() {
                    return;
                }
            }
        });
        Self { address, requests }
    }
}

fn receive(stream: &TcpStream) -> Received {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the request ended early: {head}");
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Received { head, body: String::from_utf8(body).unwrap() }
}
