//! A proxy of TCP connections to the API server, whose kubeconfig a program uses as its only way there. The proxy counts
//! the bytes that clients send, breaks all connections when it is told to, holds bytes back, and refuses connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::kubeconfig::Kubeconfig;

/// Bytes that the proxy reads at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Bytes per second that a connection takes at most. Bytes of a faster one would pile up in the buffers between here and
/// the store, and be lost with the connection.
const BYTES_PER_SECOND: u64 = 32 << 20;

/// The proxy, which stops when this value is dropped.
pub struct BreakingProxy {
    kubeconfig: PathBuf,
    state: Arc<ProxyState>,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

struct ProxyState {
    server: (String, u16),
    /// Bytes from clients that were sent on.
    sent: watch::Sender<u64>,
    /// Number of `sent` at which the proxy stops to read from clients.
    limit: watch::Sender<u64>,
    /// Generation of the connections; a change ends all that are open.
    breaks: watch::Sender<u64>,
    refuses: watch::Sender<bool>,
}

// === impl BreakingProxy ===

impl BreakingProxy {
    /// Starts a proxy before the API server of the stories.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        let own = Kubeconfig::read()?;
        let state = Arc::new(ProxyState {
            server: own.server()?,
            sent: watch::Sender::new(0),
            limit: watch::Sender::new(u64::MAX),
            breaks: watch::Sender::new(0),
            refuses: watch::Sender::new(false),
        });
        own.through(listener.local_addr()?)?.write(&kubeconfig)?;
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { kubeconfig, state, task, _folder: folder })
    }

    /// Returns the path of the kubeconfig that leads through the proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns the number of bytes that clients have sent to the API server, with those of TLS.
    pub fn sent(&self) -> u64 {
        *self.state.sent.borrow()
    }

    /// Waits until clients have sent a number of bytes in total.
    pub async fn until_sent(&self, bytes: u64) {
        let _ = self.state.sent.subscribe().wait_for(|sent| *sent >= bytes).await;
    }

    /// Breaks all connections, also in the middle of a request.
    pub fn break_connections(&self) {
        self.state.breaks.send_modify(|count| *count += 1);
    }

    /// Stops to read from clients when they have sent a number of bytes in total.
    pub fn hold_at(&self, bytes: u64) {
        self.state.limit.send_replace(bytes);
    }

    /// Reads from clients again.
    pub fn release(&self) {
        self.hold_at(u64::MAX);
    }

    /// Breaks all connections, and closes new ones at once, as if the API server were gone; or ends that.
    pub fn set_refusing(&self, refuses: bool) {
        self.state.refuses.send_replace(refuses);
        self.break_connections();
    }
}

impl Drop for BreakingProxy {
    fn drop(&mut self) {
        self.task.abort();
        self.break_connections();
    }
}

async fn accept(listener: TcpListener, state: Arc<ProxyState>) {
    while let Ok((stream, _)) = listener.accept().await {
        if !*state.refuses.borrow() {
            tokio::spawn(forward(stream, Arc::clone(&state)));
        }
    }
}

async fn forward(client: TcpStream, state: Arc<ProxyState>) {
    let mut breaks = state.breaks.subscribe();
    let copying = async {
        let (host, port) = &state.server;
        let server = TcpStream::connect((host.as_str(), *port)).await.context("no connection")?;
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let requests = async {
            let (mut buffer, mut limit) = (vec![0; BUFFER_BYTES], state.limit.subscribe());
            loop {
                limit.wait_for(|limit| *state.sent.borrow() < *limit).await?;
                let count = from_client.read(&mut buffer).await?;
                to_server.write_all(&buffer[..count]).await?;
                if count == 0 {
                    return anyhow::Ok(to_server.shutdown().await?);
                }
                state.sent.send_modify(|sent| *sent += count as u64);
                tokio::time::sleep(Duration::from_nanos(count as u64 * 1_000_000_000 / BYTES_PER_SECOND))
                    .await;
            }
        };
        let answers = async {
            tokio::io::copy(&mut from_server, &mut to_client).await?;
            anyhow::Ok(to_client.shutdown().await?)
        };
        tokio::try_join!(requests, answers).map(drop)
    };
    tokio::select! {
        // The program handles a broken connection.
        _ = copying => {}
        _ = breaks.changed() => {}
    }
}
