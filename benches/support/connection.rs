//! A persistent connection with the part of HTTP that registries use.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use quinistry::oci::media_type;

/// Greatest body that is sent in one write with its head, in bytes.
const SHORT: usize = 64 << 10;

/// Timeout of reads and writes, longer than any response takes.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Debug)]
pub(crate) struct Connection(BufReader<TcpStream>);

/// A response without its body.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    /// Target of the next page.
    pub(crate) next: Option<String>,
    /// `None` for a chunked response.
    length: Option<u64>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::with_capacity(256 << 10, stream))
    }

    /// Sends a GET that must succeed, reads the body, calls `each` with the length of each chunk, and returns
    /// the whole length.
    pub(crate) fn get(&mut self, target: &str, mut each: impl FnMut(usize)) -> usize {
        let mut length = 0;
        let answer = self.ask("GET", target, "", &[], |piece| {
            length += piece.len();
            each(piece.len());
        });
        assert_eq!(answer.status, 200, "GET {target}: {answer:?}");
        length
    }

    /// Returns the body of a GET that must succeed.
    pub(crate) fn body(&mut self, target: &str) -> Vec<u8> {
        let mut body = Vec::new();
        let answer = self.ask("GET", target, "", &[], |piece| body.extend_from_slice(piece));
        assert_eq!(answer.status, 200, "GET {target}: {answer:?}");
        body
    }

    /// Reads a body until a deadline, and returns the number of bytes. After a partial read the connection is
    /// unusable.
    pub(crate) fn get_until(&mut self, target: &str, fields: &str, deadline: Instant) -> usize {
        self.send("GET", target, fields, &[]);
        let answer = self.head();
        assert!(matches!(answer.status, 200 | 206), "GET {target}: {answer:?}");
        let mut left = answer.length.expect("blobs have a length");
        let mut read = 0;
        while left > 0 && Instant::now() < deadline {
            let piece = self.piece(left, |_| ());
            left -= piece as u64;
            read += piece;
        }
        read
    }

    /// Sends a request with a body and header fields, each ended by a line break, and reads the response.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        target: &str,
        fields: &str,
        body: &[&[u8]],
        mut each: impl FnMut(&[u8]),
    ) -> Answer {
        self.send(method, target, fields, body);
        let answer = self.head();
        if method == "HEAD" || answer.status == 204 {
            return answer;
        }
        match answer.length {
            Some(length) => self.whole(length, each),
            None => loop {
                let length = u64::from_str_radix(self.line().trim(), 16).expect("the length of a chunk");
                self.whole(length, &mut each);
                self.line();
                if length == 0 {
                    break;
                }
            },
        }
        answer
    }

    fn send(&mut self, method: &str, target: &str, fields: &str, body: &[&[u8]]) {
        let length: usize = body.iter().map(|piece| piece.len()).sum();
        let has_body = !matches!(method, "GET" | "HEAD");
        let length_field = if has_body { format!("content-length: {length}\r\n") } else { String::new() };
        let (manifest, index) = (media_type::OCI_MANIFEST, media_type::OCI_INDEX);
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\naccept: {manifest}, {index}\r\n{length_field}{fields}\r\n"
        );
        let stream = self.0.get_mut();
        if length <= SHORT {
            let mut all = head.into_bytes();
            for piece in body {
                all.extend_from_slice(piece);
            }
            stream.write_all(&all).unwrap();
        } else {
            stream.write_all(head.as_bytes()).unwrap();
            for piece in body {
                stream.write_all(piece).unwrap();
            }
        }
    }

    fn head(&mut self) -> Answer {
        let status = self.line();
        let code = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let mut answer = Answer {
            status: code.and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{status:?}")),
            ..Answer::default()
        };
        let mut chunked = false;
        loop {
            let line = self.line();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => answer.length = Some(value.parse().expect("a length")),
                "transfer-encoding" => chunked = true,
                "location" => answer.location = Some(without_host(value)),
                "link" => {
                    let target = value.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                    answer.next = target.map(|(target, _)| without_host(target));
                }
                _ => {}
            }
        }
        assert!(chunked || answer.length.is_some() || answer.status == 204, "an answer without end");
        answer
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).unwrap();
        assert!(read > 0, "the registry closed the connection");
        line
    }

    fn whole(&mut self, length: u64, mut each: impl FnMut(&[u8])) {
        let mut left = length;
        while left > 0 {
            left -= self.piece(left, &mut each) as u64;
        }
    }

    fn piece(&mut self, most: u64, mut each: impl FnMut(&[u8])) -> usize {
        let buffered = self.0.fill_buf().unwrap();
        assert!(!buffered.is_empty(), "the registry closed the connection");
        let length = buffered.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        each(&buffered[..length]);
        self.0.consume(length);
        length
    }
}

/// Removes scheme and host, since some registries answer with complete URLs.
fn without_host(target: &str) -> String {
    match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]).to_owned(),
        None => target.to_owned(),
    }
}
