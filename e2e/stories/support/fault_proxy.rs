//! A proxy between an operator and the API server that answers as an overloaded API server does: too many
//! requests, unavailable, or a conflict at each first attempt. The proxy can also cut connections and hold
//! back writes, and counts the writes.
//!
//! The proxy speaks plain HTTP on loopback, and uses the story's own credentials towards the API server.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, RETRY_AFTER, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;

use super::process::Process;
use super::world::World;
use super::{Stage, operator};

/// Fault of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// 429 to everything, with `Retry-After: 1`.
    TooManyRequests,
    /// 503 to everything.
    Unavailable,
    /// 409 to each write at its first attempt.
    Conflicts,
    /// Requests are read and never answered.
    Silent,
}

/// Outcomes of the writes, counted by method and kind.
#[derive(Clone, Debug, Default)]
pub struct WriteCounts {
    pub forwarded: BTreeMap<String, usize>,
    pub refused: BTreeMap<String, usize>,
}

/// The proxy, which stops when this value is dropped.
pub struct FaultProxy {
    kubeconfig: PathBuf,
    state: Arc<ProxyState>,
    task: tokio::task::JoinHandle<()>,
    folder: tempfile::TempDir,
}

struct ProxyState {
    client: Client,
    fault: Mutex<Fault>,
    writes: Mutex<WriteCounts>,
    /// Writes that already had their conflict and may pass.
    attempted: Mutex<HashSet<(String, Bytes)>>,
    /// Generation of the connections; a change ends all that are open.
    cut: watch::Sender<u64>,
    /// Kind of which the next write is held back.
    hold: Mutex<Option<&'static str>>,
    released: tokio::sync::Notify,
    held: watch::Sender<HeldWrite>,
}

/// A write that is held back, as by a queue before the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeldWrite {
    /// No answer yet.
    #[default]
    None,
    /// The operator waits for its answer.
    Waiting,
    /// Status of the API server's answer to the forwarded write.
    Answered(StatusCode),
}

// === impl FaultProxy ===

impl FaultProxy {
    /// Starts a proxy before the stage's API server. The context of its kubeconfig is the stage's namespace.
    pub async fn start(stage: &Stage) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        let server = format!("http://{}", listener.local_addr()?);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "faults", "cluster": {"server": server}}],
            "users": [{"name": "operator", "user": {}}],
            "contexts": [{"name": "faults", "context": {"cluster": "faults", "user": "operator", "namespace": stage.namespace}}],
            "current-context": "faults",
        });
        std::fs::write(&kubeconfig, config.to_string())
            .with_context(|| format!("failed to write {}", kubeconfig.display()))?;
        let shared = Arc::new(ProxyState {
            client: stage.world.client.clone(),
            fault: Mutex::new(Fault::None),
            writes: Mutex::default(),
            attempted: Mutex::default(),
            cut: watch::Sender::new(0),
            hold: Mutex::new(None),
            released: tokio::sync::Notify::new(),
            held: watch::Sender::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { kubeconfig, state: shared, task, folder })
    }

    /// Starts an operator that reaches the API server through this proxy only, with a log of its own.
    pub fn operator(
        &self,
        world: &World,
        port: u16,
        configure: impl FnOnce(&mut Command),
    ) -> Result<Process> {
        let mut command = operator::command(world, port);
        command.env("KUBECONFIG", &self.kubeconfig);
        configure(&mut command);
        Process::start(&command, &self.log())
    }

    /// Returns the path of the operators' log.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Sets the fault, and ends open connections such as watches, so that clients must connect again.
    pub fn set(&self, fault: Fault) {
        *self.state.fault.lock().expect("nothing panics with it") = fault;
        self.cut();
    }

    /// Ends all connections, also in the middle of a response.
    pub fn cut(&self) {
        self.state.cut.send_modify(|count| *count += 1);
    }

    /// Holds back the next PATCH of a kind until `release`, even when its sender still waits for the answer.
    /// Returns when such a PATCH has arrived.
    pub async fn hold(&self, kind: &'static str) {
        *self.state.hold.lock().expect("nothing panics with it") = Some(kind);
        let _ = self.state.held.subscribe().wait_for(|held| *held == HeldWrite::Waiting).await;
    }

    /// Forwards what is held, and returns what the API server answers.
    pub async fn release(&self) -> Option<StatusCode> {
        *self.state.hold.lock().expect("nothing panics with it") = None;
        let mut held = self.state.held.subscribe();
        self.state.released.notify_one();
        let answer = held.wait_for(|held| matches!(held, HeldWrite::Answered(_))).await.ok()?;
        match *answer {
            HeldWrite::Answered(status) => Some(status),
            _ => None,
        }
    }

    pub fn writes(&self) -> WriteCounts {
        self.state.writes.lock().expect("nothing panics with it").clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

// === impl WriteCounts ===

impl WriteCounts {
    /// Returns the number of forwarded writes of all kinds but one.
    pub fn except(&self, kind: &str) -> usize {
        self.forwarded.values().sum::<usize>() - self.matching(kind)
    }

    /// Returns the number of forwarded writes whose key contains a word.
    pub fn matching(&self, word: &str) -> usize {
        self.forwarded.iter().filter(|(key, _)| key.contains(word)).map(|(_, count)| count).sum()
    }
}

async fn accept(listener: TcpListener, state: Arc<ProxyState>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve_connection(stream, Arc::clone(&state)));
    }
}

async fn serve_connection(stream: TcpStream, state: Arc<ProxyState>) {
    let mut cut = state.cut.subscribe();
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(state.answer(request).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // The operator handles a broken connection.
        _ = connection => {}
        _ = cut.changed() => {}
    }
}

// === impl ProxyState ===

impl ProxyState {
    /// Returns true if this is the write to hold back. Only one write is held back.
    fn take_hold(&self, path: &str) -> bool {
        let mut hold = self.hold.lock().expect("nothing panics with it");
        hold.take_if(|wanted| kind(path) == *wanted).is_some()
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return refusal(StatusCode::BAD_REQUEST) };
        let body = body.to_bytes();
        let key = format!("{} {}", head.method, kind(head.uri.path()));
        let is_write = !matches!(head.method, Method::GET | Method::HEAD);
        let fault = *self.fault.lock().expect("nothing panics with it");
        let refused = match fault {
            Fault::None => None,
            Fault::TooManyRequests => Some(StatusCode::TOO_MANY_REQUESTS),
            Fault::Unavailable => Some(StatusCode::SERVICE_UNAVAILABLE),
            Fault::Silent => std::future::pending().await,
            Fault::Conflicts => {
                // A Lease and a status contain the time of the attempt, so that two attempts may have different bodies.
                let path = head.uri.path();
                let is_dated = path.contains("/leases") || path.ends_with("/status");
                let content = if is_dated { Bytes::new() } else { body.clone() };
                let attempt = (format!("{} {}", head.method, head.uri), content);
                let mut attempted = self.attempted.lock().expect("nothing panics with it");
                // The same write at a later time has a first attempt of its own.
                let first = is_write && !attempted.remove(&attempt) && attempted.insert(attempt);
                first.then_some(StatusCode::CONFLICT)
            }
        };
        if is_write {
            let mut writes = self.writes.lock().expect("nothing panics with it");
            let counts = if refused.is_some() { &mut writes.refused } else { &mut writes.forwarded };
            *counts.entry(key).or_default() += 1;
        }
        match refused {
            Some(status) => refusal(status),
            None if head.method == Method::PATCH && self.take_hold(head.uri.path()) => {
                // A task of its own, since a queue does not notice that its client is gone.
                let state = Arc::clone(self);
                let forwarding = tokio::spawn(async move {
                    state.held.send_replace(HeldWrite::Waiting);
                    state.released.notified().await;
                    let answer = state.forward(head, body).await;
                    state.held.send_replace(HeldWrite::Answered(answer.status()));
                    answer
                });
                forwarding.await.unwrap_or_else(|_| refusal(StatusCode::BAD_GATEWAY))
            }
            None => self.forward(head, body).await,
        }
    }

    async fn forward(&self, head: http::request::Parts, body: Bytes) -> Response<Body> {
        let target = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request = Request::builder().method(head.method.clone()).uri(target);
        for name in [ACCEPT, CONTENT_TYPE] {
            if let Some(value) = head.headers.get(&name) {
                request = request.header(name, value);
            }
        }
        let Ok(request) = request.body(Body::from(body)) else { return refusal(StatusCode::BAD_REQUEST) };
        match self.client.send(request).await {
            Ok(mut response) => {
                for name in [CONNECTION, TRANSFER_ENCODING] {
                    response.headers_mut().remove(name);
                }
                response
            }
            Err(_) => refusal(StatusCode::BAD_GATEWAY),
        }
    }
}

/// Returns the collection that a path is about: `daemonsets`, `quinistries/status`.
fn kind(path: &str) -> String {
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    let namespaced = words.iter().position(|word| *word == "namespaces").map(|place| place + 2);
    let kind = namespaced.and_then(|place| words.get(place)).unwrap_or(&path);
    if path.ends_with("/status") { format!("{kind}/status") } else { (*kind).to_owned() }
}

/// Builds a `Status` response in the API server's form.
fn refusal(status: StatusCode) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or_default().replace(' ', "");
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "refused by the story's fault proxy", "reason": reason, "code": status.as_u16()});
    let mut response = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    if status == StatusCode::TOO_MANY_REQUESTS {
        response = response.header(RETRY_AFTER, "1");
    }
    response.body(Body::from(body.to_string().into_bytes())).expect("a response")
}
