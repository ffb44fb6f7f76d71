//! Way from this machine to the write listener of a store: a socket each of whose connections is a port-forward.
//!
//! The socket is in a folder that no other user of this machine can enter, since everything that connects to it can push.
//! A connection whose port-forward breaks is closed; its client connects again and goes on. A pod that fails several
//! times in a row is left for another one of the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::route::Route;
use super::{Store, StorePod};
use crate::install::error::InstallError;

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

// === impl StoreTunnel ===

impl StoreTunnel {
    /// Opens a way to a pod of the store, and to another one when that fails. Connects to nothing yet.
    pub async fn open(store: &Store) -> Result<Self, InstallError> {
        let Some(pod) = store.pod(&[]).await? else {
            return Err(InstallError::Refused(format!(
                "no pod of the store of {}/{} runs; `kubectl --namespace {} describe daemonset {}-store` says why",
                store.namespace, store.name, store.namespace, store.name
            )));
        };
        Self::over(|events| Route::new(store.clone(), pod, events))
    }

    /// Opens a way to this pod of the store and to no other one. Connects to nothing yet.
    pub fn to(store: &Store, pod: StorePod) -> Result<Self, InstallError> {
        Self::over(|events| Route::new(store.clone(), pod, events).fixed())
    }

    fn over(route: impl FnOnce(mpsc::UnboundedSender<TunnelEvent>) -> Route) -> Result<Self, InstallError> {
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
        let route = Arc::new(route(sender));
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
        self.route.last_failure()
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
