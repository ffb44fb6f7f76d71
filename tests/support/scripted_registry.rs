//! An HTTP server that answers as a test tells it to, lies included, and remembers what it was asked.
//!
//! Raw TCP, one connection per request: only so can it break a connection in the middle of a body.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A request, the names of its fields in lower case.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

/// An answer; its length is announced unless the fields say otherwise.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Announce the whole body and send only so much of it.
    cut: Option<usize>,
    /// Close the connection instead of an answer.
    is_silent: bool,
    gate: Option<Gate>,
}

/// Gate that holds answers back until a number of them is due at the same time. Answers that wait in vain are
/// broken off.
#[derive(Clone, Debug)]
pub struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    /// Opens for good when this many answers wait before it.
    pub fn of(answers: usize) -> Self {
        Self(Arc::new((Mutex::new(answers), Condvar::new())))
    }

    fn pass(&self) -> bool {
        let (missing, opened) = &*self.0;
        let mut missing = missing.lock().unwrap();
        *missing = missing.saturating_sub(1);
        opened.notify_all();
        let patience = Duration::from_secs(20);
        !opened.wait_timeout_while(missing, patience, |missing| *missing > 0).unwrap().1.timed_out()
    }
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut: None, is_silent: false, gate: None }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new(200) }
    }

    /// Breaks the connection after the request.
    pub fn silent() -> Self {
        Self { is_silent: true, ..Self::new(500) }
    }

    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    fn send(&self, stream: &mut TcpStream, head_only: bool) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        write!(head, "content-length: {}\r\n\r\n", self.body.len()).unwrap();
        stream.write_all(head.as_bytes())?;
        if !head_only {
            stream.write_all(&self.body[..self.cut.unwrap_or(self.body.len())])?;
        }
        stream.flush()
    }
}

type Script = dyn FnMut(&Request) -> Answer + Send;

/// Runs until the test process ends.
pub struct ScriptedRegistry {
    /// `127.0.0.1:port`
    pub host: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl ScriptedRegistry {
    /// Answers each request with what `script` says.
    pub fn start(script: impl FnMut(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(script));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, seen) = (script.clone(), seen.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &script, &seen));
            }
        });
        Self { host, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// `METHOD path`, in order.
    pub fn asked(&self) -> Vec<String> {
        self.requests().iter().map(|request| format!("{} {}", request.method, request.path())).collect()
    }
}

/// A client that goes away in the middle is none of the test's business, so errors end the connection.
fn serve(mut stream: TcpStream, script: &Mutex<Script>, seen: &Mutex<Vec<Request>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let request = Request { method, target, headers, body };
    let mut answer = (script.lock().unwrap())(&request);
    seen.lock().unwrap().push(request.clone());
    if answer.gate.take().is_some_and(|gate| !gate.pass()) {
        answer = Answer::new(400);
    }
    if answer.is_silent {
        return None;
    }
    answer.send(&mut stream, request.method == "HEAD").ok()
}
