//! Receiver of events on loopback, which answers as a test says.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Far longer than anything here takes: a test that reaches it has failed.
const TEST_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(1);

/// Answer to a request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Status(u16),
    /// Status and further header lines.
    With(u16, String),
    /// None, and the connection stays open.
    Silence,
    /// None, and the connection ends.
    Reset,
    /// Status 500, and a body without an end.
    Endless,
    /// Status line, and then one byte of a header after the other without an end.
    DrippingHead,
}

/// Request as it came.
#[derive(Clone, Debug)]
pub(super) struct Received {
    /// Number of the connection, from 0.
    pub(super) connection: usize,
    /// Head in lower case.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

type Script = Arc<dyn Fn(usize, &Received) -> Reply + Send + Sync>;

/// Address of a receiver that does not listen yet, and that no other program can take.
pub(super) struct AbsentReceiver(TcpSocket);

/// Receiver, which ends when it is dropped.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    received: watch::Receiver<Vec<Received>>,
    _tasks: JoinSet<()>,
}

// === impl AbsentReceiver ===

impl AbsentReceiver {
    pub(super) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self(socket)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook", self.0.local_addr().unwrap())
    }

    /// Begins to listen. Answers depend on the number of the request, from 0, and on the request.
    pub(super) fn appear(
        self,
        script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
    ) -> Receiver {
        let listener = self.0.listen(128).unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, received) = watch::channel(Vec::new());
        let (requests, script): (_, Script) = (Arc::new(requests), Arc::new(script));
        let number = Arc::new(Mutex::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (requests, script, number) = (requests.clone(), script.clone(), number.clone());
                connections.spawn(async move {
                    let _ = serve(stream, connection, (&requests, &script, &number)).await;
                });
            }
        });
        Receiver { address, received, _tasks: tasks }
    }
}

// === impl Received ===

impl Received {
    /// Returns the only event of the envelope.
    pub(super) fn event(&self) -> Value {
        let mut envelope: Value = serde_json::from_slice(&self.body).unwrap();
        envelope["events"][0].take()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

// === impl Receiver ===

impl Receiver {
    /// Starts a receiver that accepts everything.
    pub(super) fn start() -> Self {
        Self::with(|_, _| Reply::Status(200))
    }

    /// Starts a receiver whose answers depend on the number of the request, from 0, and on the request.
    pub(super) fn with(script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        AbsentReceiver::new().appear(script)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Waits until so many requests came, and returns all of them.
    pub(super) async fn requests(&self, count: usize) -> Vec<Received> {
        let mut received = self.received.clone();
        let came = received.wait_for(|requests| requests.len() >= count);
        let requests = tokio::time::timeout(TEST_TIMEOUT, came).await;
        let requests =
            requests.unwrap_or_else(|_| panic!("{} of {count} requests came", self.received.borrow().len()));
        requests.unwrap().clone()
    }

    /// Waits for so many requests, and returns their events.
    pub(super) async fn events(&self, count: usize) -> Vec<Value> {
        self.requests(count).await.iter().map(Received::event).collect()
    }
}

async fn serve(
    stream: TcpStream,
    connection: usize,
    (requests, script, number): (&watch::Sender<Vec<Received>>, &Script, &Mutex<usize>),
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await?;
        let received = Received { connection, head, body };
        let number = {
            let mut number = number.lock().unwrap();
            *number += 1;
            *number - 1
        };
        let reply = script(number, &received);
        requests.send_modify(|requests| requests.push(received));
        let (status, more) = match reply {
            Reply::Status(status) => (status, String::new()),
            Reply::With(status, more) => (status, more),
            Reply::Silence => std::future::pending().await,
            Reply::Reset => {
                // The bytes that were not read make a reset of the end.
                return Ok(());
            }
            Reply::Endless => {
                stream.write_all(b"HTTP/1.1 500 x\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
                loop {
                    stream.write_all(chunk.as_bytes()).await?;
                }
            }
            Reply::DrippingHead => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await?;
                loop {
                    stream.write_all(b"x").await?;
                    tokio::task::yield_now().await;
                }
            }
        };
        let reason = StatusCode::from_u16(status).unwrap();
        let answer = format!("HTTP/1.1 {reason}\r\ncontent-length: 0\r\n{more}\r\n");
        stream.write_all(answer.as_bytes()).await?;
    }
}
