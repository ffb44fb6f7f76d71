//! A client that sends the bytes it is given and shows the answer as it came: nothing is made well-formed on
//! the way out, and nothing is hidden on the way in.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Far longer than anything here takes: a test that reaches it has failed.
pub const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// The error codes of the distribution-spec. A list of our own: the library's could be wrong.
const CODES: [&str; 14] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DENIED",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "TOOMANYREQUESTS",
    "UNAUTHORIZED",
    "UNSUPPORTED",
];

/// The bytes of a request. `Content-Length` is added for a body, and never otherwise.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: registry.test\r\n");
    for (name, value) in headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    if !body.is_empty() {
        text.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
    }
    text += "\r\n";
    [text.as_bytes(), body].concat()
}

/// A server to talk to.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// Opens a connection.
    pub fn connect(self) -> Connection {
        let stream = TcpStream::connect_timeout(&self.0, TEST_TIMEOUT).unwrap();
        Connection::over(stream, TEST_TIMEOUT, 8 << 10)
    }

    /// Returns true if the server takes connections.
    pub fn is_listening(self) -> bool {
        TcpStream::connect(self.0).is_ok()
    }

    /// One request on a connection of its own.
    pub fn ask(self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.connect().ask(&request(method, target, headers, body))
    }

    pub fn get(self, target: &str) -> Answer {
        self.ask("GET", target, &[], b"")
    }

    pub fn head(self, target: &str) -> Answer {
        self.ask("HEAD", target, &[], b"")
    }
}

/// A connection that stays open until it is dropped or the server ends it.
#[derive(Debug)]
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Makes a connection of a stream. Reads and writes fail after `timeout`; reads are buffered.
    pub fn over(stream: TcpStream, timeout: Duration, buffer_bytes: usize) -> Self {
        stream.set_read_timeout(Some(timeout)).unwrap();
        stream.set_write_timeout(Some(timeout)).unwrap();
        Self(BufReader::with_capacity(buffer_bytes, stream))
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Says that nothing more will be sent.
    pub fn end_sending(&mut self) {
        self.0.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    pub fn set_read_timeout(&mut self, timeout: Duration) {
        self.0.get_mut().set_read_timeout(Some(timeout)).unwrap();
    }

    /// Sends a request and reads its answer. The server may answer and close before it has all of the
    /// request.
    pub fn ask(&mut self, request: &[u8]) -> Answer {
        let _ = self.send(request);
        self.answer(request.starts_with(b"HEAD ")).expect("an answer")
    }

    /// Reads one answer: exactly its bytes, and nothing of what follows.
    pub fn answer(&mut self, to_head: bool) -> io::Result<Answer> {
        let (status, headers) = self.head()?;
        let mut answer = Answer { status, headers, body: Vec::new() };
        if to_head || status == 304 || status == 204 || status < 200 {
            return Ok(answer);
        }
        assert_eq!(answer.header("transfer-encoding"), None, "lengths are always known here");
        let length: usize = answer.header("content-length").expect("a Content-Length").parse().unwrap();
        answer.body.resize(length, 0);
        self.0.read_exact(&mut answer.body)?;
        Ok(answer)
    }

    /// Reads a status line and the header lines.
    pub fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let first = self.line()?;
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((status.unwrap_or_else(|| panic!("a status line, not {first:?}")), headers));
            }
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a header, not {line:?}"));
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }

    /// Reads the body that follows these header lines, of a known length or in chunks, and passes on each
    /// piece as it comes.
    pub fn body(&mut self, headers: &[(String, String)], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        if let Some(length) = header(headers, "content-length") {
            return self.pieces(length.parse().expect("a length"), &mut each);
        }
        assert_eq!(header(headers, "transfer-encoding"), Some("chunked"), "an answer without end");
        loop {
            let length = u64::from_str_radix(&self.line()?, 16).expect("the length of a chunk");
            self.pieces(length, &mut each)?;
            assert_eq!(self.line()?, "", "a chunk ends with a line break");
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn pieces(&mut self, length: u64, each: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            left -= self.piece(left, &mut *each)? as u64;
        }
        Ok(())
    }

    /// Reads some bytes of a body, at most `most`, and passes them on. Returns their number.
    pub fn piece(&mut self, most: u64, each: impl FnOnce(&[u8])) -> io::Result<usize> {
        let buffered = self.0.fill_buf()?;
        if buffered.is_empty() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "ended within a body"));
        }
        let length = buffered.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        each(&buffered[..length]);
        self.0.consume(length);
        Ok(length)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::Error::new(ErrorKind::UnexpectedEof, format!("ended within {line:?}"))),
        }
    }

    /// Some bytes, as they come; 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    /// Everything until the server ends the connection, politely or not. Fails if it stays open.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server did not end the connection: {error}"),
        }
        rest
    }
}

/// Returns the value of a header that may come once; names are in lower case.
pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut values = headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let value = values.next();
    assert_eq!(values.next(), None, "{name} came twice");
    value
}

/// An answer, whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// In the order they came; names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl fmt::Debug for Answer {
    /// Shows the body as text: a failed comparison of an error is read by people.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.body);
        let mut shown = formatter.debug_struct("Answer");
        shown.field("status", &self.status).field("headers", &self.headers).field("body", &text).finish()
    }
}

impl Answer {
    /// The value of a header that may come once.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Asserts an error answer: its status, and a JSON body of one error with a code of the specification.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, code: &str) {
        assert!(CODES.contains(&code), "{code} is a code of the specification");
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let body = self.json();
        assert_eq!(body["errors"][0]["code"], code, "{body}");
        assert_eq!(body["errors"].as_array().map(Vec::len), Some(1), "{body}");
    }

    /// Asserts the answer to everything that would write.
    #[track_caller]
    pub fn assert_read_only(&self) {
        self.assert_refused(405, "UNSUPPORTED");
        assert_eq!(self.header("allow"), Some("GET, HEAD"));
    }
}
