//! A persistent connection with the part of HTTP that registries use.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use quinistry::oci::media_type;

use super::http::{self, header};

/// Longest request body in bytes that is sent in one write with its head.
const SHORT: usize = 64 << 10;

/// Deadline of a response, far beyond what any takes.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Debug)]
pub(crate) struct Connection {
    http: http::Connection,
    /// Value of `Host`.
    host: String,
}

/// A response without its body.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    /// Location with its host, if it has one.
    pub(crate) url: Option<String>,
    /// Target of the next page.
    pub(crate) next: Option<String>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { http: http::Connection::over(stream, PATIENCE, 256 << 10), host: String::from("localhost") }
    }

    /// Returns the connection with another value of `Host`, which may be part of a signature.
    pub(crate) fn for_host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
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
        let (answer, headers) = self.head();
        assert!(matches!(answer.status, 200 | 206), "GET {target}: {answer:?}");
        let length = header(&headers, "content-length").expect("blobs have a length");
        let mut left: u64 = length.parse().expect("a length");
        let mut read = 0;
        while left > 0 && Instant::now() < deadline {
            let piece = self.http.piece(left, |_| ()).expect("the registry answers whole");
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
        each: impl FnMut(&[u8]),
    ) -> Answer {
        self.send(method, target, fields, body);
        let (answer, headers) = self.head();
        if method != "HEAD" && answer.status != 204 {
            self.http.body(&headers, each).expect("the registry answers whole");
        }
        answer
    }

    fn send(&mut self, method: &str, target: &str, fields: &str, body: &[&[u8]]) {
        let length: usize = body.iter().map(|piece| piece.len()).sum();
        let has_body = !matches!(method, "GET" | "HEAD");
        let length_field = if has_body { format!("content-length: {length}\r\n") } else { String::new() };
        let (manifest, index) = (media_type::OCI_MANIFEST, media_type::OCI_INDEX);
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: {}\r\naccept: {manifest}, {index}\r\n{length_field}{fields}\r\n",
            self.host
        );
        if length <= SHORT {
            let mut all = head.into_bytes();
            for piece in body {
                all.extend_from_slice(piece);
            }
            self.http.send(&all).unwrap();
        } else {
            self.http.send(head.as_bytes()).unwrap();
            for piece in body {
                self.http.send(piece).unwrap();
            }
        }
    }

    fn head(&mut self) -> (Answer, Vec<(String, String)>) {
        let (status, headers) = self.http.head().expect("the registry answers");
        let link = header(&headers, "link").and_then(|value| value.split_once('<')?.1.split_once('>'));
        let answer = Answer {
            status,
            location: header(&headers, "location").map(without_host),
            url: header(&headers, "location").map(str::to_owned),
            next: link.map(|(target, _)| without_host(target)),
        };
        (answer, headers)
    }
}

/// Removes scheme and host, since some registries answer with complete URLs.
fn without_host(target: &str) -> String {
    match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]).to_owned(),
        None => target.to_owned(),
    }
}
