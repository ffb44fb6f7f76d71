//! Probes of health checks.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use quinistry_oci::WithCauses;
use quinistry_store::Store;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::ClientTls;

/// Longest time of a TCP or HTTP probe for which none is given.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Way to check.
#[derive(Clone, Debug)]
pub enum Probe {
    /// The storage can be read, and does not refuse writes after a failed flush.
    Storage(Store),
    /// No file is at the path: an operator takes the node out by creating it.
    File(PathBuf),
    /// A TCP server accepts connections.
    Tcp {
        /// Host and port.
        address: String,
        /// Longest time to connect; zero means five seconds.
        timeout: Duration,
    },
    /// An HTTP server answers.
    Http(Box<HttpProbe>),
}

/// Request to an HTTP server, and the expected answer.
#[derive(Clone, Debug)]
pub struct HttpProbe {
    uri: Uri,
    tls: ClientTls,
    headers: HeaderMap,
    status: StatusCode,
    timeout: Duration,
}

/// URI that cannot be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidUri(String);

impl fmt::Display for InvalidUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an http:// or https:// URI with a host", self.0)
    }
}

impl std::error::Error for InvalidUri {}

// === impl HttpProbe ===

impl HttpProbe {
    /// Creates a probe that sends HEAD, with `headers`, to an `http` or `https` URI and expects `status`. Redirects
    /// are not followed. A timeout of zero means five seconds.
    pub fn new(
        uri: &str,
        headers: HeaderMap,
        status: StatusCode,
        timeout: Duration,
        tls: ClientTls,
    ) -> Result<Self, InvalidUri> {
        let parsed = uri.parse::<Uri>().ok();
        let is_http = |uri: &Uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        };
        match parsed.filter(is_http) {
            Some(uri) => Ok(Self { uri, tls, headers, status, timeout }),
            None => Err(InvalidUri(uri.to_owned())),
        }
    }
}

/// Probe with what it keeps from one time to the next.
pub(super) struct RunningProbe {
    probe: Probe,
    /// Client of an HTTP probe; other probes have none.
    client: Option<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>>,
    /// Time that a storage has to answer.
    patience: Duration,
    /// Earlier probe of a storage or a file that has not returned yet: such a call cannot be ended, so that no
    /// second one is begun.
    unfinished: Option<JoinHandle<Result<(), String>>>,
}

impl RunningProbe {
    pub(super) fn new(probe: Probe, interval: Duration) -> Self {
        let client = match &probe {
            Probe::Http(probe) => Some(client(probe.tls.configuration.clone())),
            _ => None,
        };
        Self { probe, client, patience: interval.max(DEFAULT_TIMEOUT), unfinished: None }
    }

    /// Probes once; the error says what is wrong.
    pub(super) async fn probe(&mut self) -> Result<(), String> {
        match &self.probe {
            Probe::Storage(store) => {
                let store = store.clone();
                self.blocking(move || check_storage(&store)).await
            }
            Probe::File(path) => {
                let path = path.clone();
                self.blocking(move || check_absent(&path)).await
            }
            Probe::Tcp { address, timeout } => {
                within(*timeout, |_| None, TcpStream::connect(address)).await.map(drop)
            }
            Probe::Http(probe) => {
                let mut request = Request::new(Empty::new());
                *request.method_mut() = Method::HEAD;
                *request.uri_mut() = probe.uri.clone();
                *request.headers_mut() = probe.headers.clone();
                let client = self.client.as_ref().expect("HTTP probes have a client");
                let response = within(probe.timeout, probe.tls.explain, client.request(request)).await?;
                let status = response.status();
                if status == probe.status { Ok(()) } else { Err(format!("answered with status {status}")) }
            }
        }
    }

    /// Runs a call on a thread that may block.
    async fn blocking(
        &mut self,
        call: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Result<(), String> {
        let handle = self.unfinished.get_or_insert_with(|| tokio::task::spawn_blocking(call));
        match tokio::time::timeout(self.patience, handle).await {
            Err(_) => Err(format!("no answer within {:?}", self.patience)),
            Ok(joined) => {
                self.unfinished = None;
                joined.unwrap_or_else(|error| Err(error.to_string()))
            }
        }
    }
}

/// Creates a client that connects each time: an old connection tells nothing about the server.
fn client(mut tls: ClientConfig) -> Client<HttpsConnector<HttpConnector>, Empty<Bytes>> {
    // The connector sets the protocol by itself.
    tls.alpn_protocols.clear();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)
}

fn check_storage(store: &Store) -> Result<(), String> {
    store.check().map_err(|error| WithCauses(&error).to_string())
}

/// Returns an error if a file is at the path, or if that cannot be found out.
pub(super) fn check_absent(path: &Path) -> Result<(), String> {
    match path.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err("file exists".into()),
        Err(error) => Err(error.to_string()),
    }
}

async fn within<T, E: std::error::Error + 'static>(
    timeout: Duration,
    explain: fn(&(dyn std::error::Error + 'static)) -> Option<String>,
    attempt: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    let timeout = if timeout.is_zero() { DEFAULT_TIMEOUT } else { timeout };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(result) => {
            result.map_err(|error| explain(&error).unwrap_or_else(|| WithCauses(&error).to_string()))
        }
        Err(_) => Err(format!("no answer within {timeout:?}")),
    }
}
