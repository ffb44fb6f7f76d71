//! Way from this machine to the write listener of a store: a socket each of whose connections is a port-forward.
//!
//! The socket is in a folder that no other user of this machine can enter, since everything that connects to it can push.
//! A connection whose port-forward breaks is closed; its client connects again and goes on. A pod that fails several
//! times in a row is left for another one of the store.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::{PUSH_PORT, Store, StorePod, needing};
use crate::api::errors::is_passing;
use crate::api::locks::lock;
use crate::install::error::InstallError;
use crate::install::port_forward::PortForward;

/// Number of failures in a row after which a pod is left for another one.
const MAX_POD_FAILURES: u32 = 3;

/// Number of times that a load leaves a pod: then the pods fail in turn.
const MAX_MOVES: u32 = 8;

/// Time for which a connection of the client waits for a port-forward. Shorter than the client waits for an answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause before the second port-forward to a pod that failed; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Number of times that the pause doubles.
const PAUSE_DOUBLINGS: u32 = 5;

/// Time after which a socket that cannot accept a connection, for lack of descriptors, is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Open way to a store. Closed when it is dropped.
#[derive(Debug)]
pub struct StoreTunnel {
    socket: PathBuf,
    route: Arc<Route>,
    events: mpsc::UnboundedReceiver<TunnelEvent>,
    accepting: JoinHandle<()>,
    /// Folder of the socket.
    _folder: TempDir,
}

/// Event that ends what a client does through a tunnel.
#[derive(Debug)]
pub enum TunnelEvent {
    /// Later connections lead to another pod, which has none of the former one's upload sessions.
    Moved {
        /// Pod that failed.
        from: StorePod,
        /// Pod of all later connections.
        to: StorePod,
        /// Last failure of the former pod.
        why: String,
    },
    /// No later connection can succeed.
    Failed(InstallError),
}

/// Destination of connections, shared by all of them.
#[derive(Debug)]
struct Route {
    store: Store,
    target: Mutex<Arc<Target>>,
    /// Held while another pod is looked for.
    moving: tokio::sync::Mutex<()>,
    moves: AtomicU32,
    /// True once a store has answered.
    has_answered: AtomicBool,
    last_failure: Mutex<Option<String>>,
    events: mpsc::UnboundedSender<TunnelEvent>,
}

/// Pod that connections lead to.
#[derive(Debug)]
struct Target {
    pod: StorePod,
    /// Number of failures since the pod answered.
    failures: AtomicU32,
}

// === impl StoreTunnel ===

impl StoreTunnel {
    /// Opens a way to a pod of the store. Connects to nothing yet.
    pub async fn open(store: &Store) -> Result<Self, InstallError> {
        let Some(pod) = store.pod(None).await? else {
            return Err(InstallError::Refused(format!(
                "no pod of the store of {}/{} runs; `kubectl --namespace {} describe daemonset {}-store` says why",
                store.namespace, store.name, store.namespace, store.name
            )));
        };
        let refused = |error: std::io::Error| {
            InstallError::Refused(format!(
                "failed to create a socket in {}: {error}; set TMPDIR to a folder with a short path on a local disk",
                std::env::temp_dir().display()
            ))
        };
        let folder = tempfile::Builder::new().prefix("quinistry-load-").tempdir().map_err(refused)?;
        let socket = folder.path().join("store");
        let listener = UnixListener::bind(&socket).map_err(refused)?;
        let (sender, events) = mpsc::unbounded_channel();
        let route = Arc::new(Route {
            store: store.clone(),
            target: Mutex::new(Target::new(pod)),
            moving: tokio::sync::Mutex::default(),
            moves: AtomicU32::default(),
            has_answered: AtomicBool::default(),
            last_failure: Mutex::default(),
            events: sender,
        });
        let accepting = tokio::spawn(accept(listener, route.clone()));
        Ok(Self { socket, route, events, accepting, _folder: folder })
    }

    /// Path of the socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the pod that new connections lead to.
    #[must_use]
    pub fn pod(&self) -> StorePod {
        self.route.target().pod.clone()
    }

    /// Returns the last failure of a port-forward.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        lock(&self.route.last_failure).clone()
    }

    /// Waits for an event. Cancelling loses none.
    pub async fn event(&mut self) -> TunnelEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The route has a sender, and lives as long as the tunnel.
            None => std::future::pending().await,
        }
    }

    /// Returns an event that has happened.
    pub fn try_event(&mut self) -> Option<TunnelEvent> {
        self.events.try_recv().ok()
    }
}

impl Drop for StoreTunnel {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Forwards each connection of the socket, until it is aborted.
async fn accept(listener: UnixListener, route: Arc<Route>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((local, _)) => drop(connections.spawn(route.clone().forward(local))),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

// === impl Route ===

impl Route {
    fn target(&self) -> Arc<Target> {
        lock(&self.target).clone()
    }

    /// Forwards a connection until either side ends it, or no port-forward can be opened in time.
    async fn forward(self: Arc<Self>, local: UnixStream) {
        let began = Instant::now();
        let mut pauses = 0;
        loop {
            let target = self.target();
            let pause = pause_after(target.failures.load(Ordering::Relaxed).max(pauses));
            if began.elapsed() + pause > DIAL_TIMEOUT {
                return;
            }
            sleep(pause).await;
            let Store { cluster, namespace, .. } = &self.store;
            match PortForward::open(cluster, namespace, &target.pod.name, PUSH_PORT).await {
                Ok(forward) => {
                    let has_answered = AtomicBool::default();
                    let on_data = || {
                        has_answered.store(true, Ordering::Relaxed);
                        self.has_answered.store(true, Ordering::Relaxed);
                        target.failures.store(0, Ordering::Relaxed);
                    };
                    if let Some(failure) = forward.copy(local, on_data).await {
                        let why = failure.to_string();
                        self.note(&why);
                        if !has_answered.into_inner() {
                            let error = InstallError::Refused(format!("{why}; look at the log of the pod"));
                            self.failed(&target, why, error, false).await;
                        }
                    }
                    return;
                }
                Err(error) => {
                    let why = error.to_string();
                    self.note(&why);
                    match Refusal::of(&error) {
                        Refusal::Final => {
                            let error = needing("get and create pods/portforward", namespace, error);
                            return self.emit(TunnelEvent::Failed(error));
                        }
                        Refusal::Passing => {}
                        Refusal::OfPod => self.failed(&target, why, error, false).await,
                        Refusal::Gone => self.failed(&target, why, error, true).await,
                    }
                }
            }
            pauses += 1;
        }
    }

    /// Keeps a failure for the error of the load.
    fn note(&self, why: &str) {
        *lock(&self.last_failure) = Some(why.to_owned());
    }

    fn emit(&self, event: TunnelEvent) {
        // Without a receiver the load has ended.
        let _ = self.events.send(event);
    }

    /// Counts a failure of a pod, and moves to another one after several. Gives up if there is none and no store has
    /// answered yet.
    async fn failed(&self, target: &Arc<Target>, why: String, error: InstallError, is_gone: bool) {
        let failures = target.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < MAX_POD_FAILURES && !is_gone {
            return;
        }
        let _moving = self.moving.lock().await;
        if !Arc::ptr_eq(target, &self.target()) {
            return;
        }
        // A list that fails says nothing of other pods; the next failure asks for it again.
        if let Ok(Some(to)) = self.store.pod(Some(&target.pod.name)).await {
            if self.moves.fetch_add(1, Ordering::Relaxed) >= MAX_MOVES {
                return self.emit(TunnelEvent::Failed(error));
            }
            *lock(&self.target) = Target::new(to.clone());
            self.emit(TunnelEvent::Moved { from: target.pod.clone(), to, why });
        } else if failures >= MAX_POD_FAILURES && !self.has_answered.load(Ordering::Relaxed) {
            self.emit(TunnelEvent::Failed(error));
        }
    }
}

// === impl Target ===

impl Target {
    fn new(pod: StorePod) -> Arc<Self> {
        Arc::new(Self { pod, failures: AtomicU32::default() })
    }
}

/// Meaning of a refused port-forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Another attempt cannot help.
    Final,
    /// The API server cannot be reached, or cannot serve now.
    Passing,
    /// The pod or its node may have failed.
    OfPod,
    /// The pod does not exist any more.
    Gone,
}

// === impl Refusal ===

impl Refusal {
    fn of(error: &InstallError) -> Self {
        match error {
            InstallError::Api { code: None, .. } => Self::Passing,
            InstallError::Api { code: Some(404), .. } => Self::Gone,
            InstallError::Api { code: Some(code), .. } if is_passing(*code) => Self::Passing,
            InstallError::Api { code: Some(500..), .. } => Self::OfPod,
            _ => Self::Final,
        }
    }
}

/// Returns the pause before a port-forward after some failures.
fn pause_after(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        failures => FIRST_PAUSE * 2_u32.pow((failures - 1).min(PAUSE_DOUBLINGS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let of = |code| Refusal::of(&InstallError::Api { what: String::new(), why: String::new(), code });
        assert_eq!(of(None), Refusal::Passing);
        for (codes, refusal) in [
            (&[429, 502, 503, 504][..], Refusal::Passing),
            (&[404], Refusal::Gone),
            (&[500, 501], Refusal::OfPod),
            (&[200, 302, 400, 401, 403, 405, 426], Refusal::Final),
        ] {
            for code in codes {
                assert_eq!(of(Some(*code)), refusal, "{code}");
            }
        }
        assert_eq!(Refusal::of(&InstallError::Refused(String::new())), Refusal::Final);
    }

    #[test]
    fn pauses_grow_and_have_a_limit() {
        let pauses: Vec<_> = (0..9).map(pause_after).collect();
        assert!(pauses.is_sorted() && pauses[0].is_zero());
        assert_eq!(pauses.last(), Some(&Duration::from_secs(8)));
    }
}
