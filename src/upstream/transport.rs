//! One request to one address, without redirects or authorization.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use quinistry_client::{Cause, ClientError, TlsFault, tls_configuration};
use quinistry_oci::escape;
use reqwest::header::HeaderMap;
use reqwest::{Body, Method, Response, Url};
use rustls::ClientConfig;

use crate::address::AddressClass;
use crate::error::{AskError, tls_reason};
use crate::network::{ForbiddenAddress, Network, literal_address, tls_options};
use crate::options::{Insecure, RemoteError, RemoteOptions};
use crate::trust::Route;

/// Time limit for establishing a connection.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for which an unused connection is kept.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Time limit for the head of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// HTTP clients of an upstream. Each has connections of its own, so that one to an address of one range is never used
/// for a request of another.
#[derive(Debug)]
pub(crate) struct Transports {
    network: Network,
    verified: ClientConfig,
    unverified: ClientConfig,
    clients: Mutex<HashMap<(Route, bool), reqwest::Client>>,
}

/// Reasons why a request has no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The target has no address that may be dialled.
    Forbidden,
    /// The answer has not come in time.
    Silent,
    /// The answer is not HTTP, or its head is too long.
    Malformed,
    /// The target cannot be reached.
    Failed(AskError),
}

// === impl Transports ===

impl Transports {
    pub(crate) fn new(options: &RemoteOptions, network: Network) -> Result<Self, RemoteError> {
        let failed = |source: ClientError| RemoteError::Tls { name: options.name.clone(), source };
        let skip_verify = options.insecure != Insecure::No;
        Ok(Self {
            network,
            verified: tls_configuration(&tls_options(options.ca.clone(), false)).map_err(failed)?,
            unverified: tls_configuration(&tls_options(options.ca.clone(), skip_verify)).map_err(failed)?,
            clients: Mutex::default(),
        })
    }

    /// Sends a request, and returns the answer with the class of the address that it came from.
    pub(crate) async fn send(
        &self,
        route: Route,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Option<Body>,
    ) -> Result<(Response, AddressClass), SendError> {
        let literal = literal_address(url);
        if literal.is_some_and(|address| !route.addresses.holds((self.network.classify)(address))) {
            return Err(SendError::Forbidden);
        }
        let is_proxied = self.network.is_proxied(url);
        // The proxy resolves the name, so that its address is unknown here.
        if is_proxied && literal.is_none() && route.addresses.farthest != AddressClass::Public {
            return Err(SendError::Forbidden);
        }
        let client = self.client(route, is_proxied)?;
        let mut request = client.request(method, url.clone()).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = match tokio::time::timeout(ANSWER_TIMEOUT, request.send()).await {
            Err(_) => return Err(SendError::Silent),
            Ok(Err(error)) => return Err(SendError::of(url, &error)),
            Ok(Ok(response)) => response,
        };
        let address = if is_proxied { literal } else { response.remote_addr().map(|peer| peer.ip()) };
        let class = address.and_then(self.network.classify).unwrap_or(AddressClass::Public);
        Ok((response, class))
    }

    fn client(&self, route: Route, is_proxied: bool) -> Result<reqwest::Client, SendError> {
        let mut clients = self.clients.lock().expect("nothing panics while it is held");
        if let Some(client) = clients.get(&(route, is_proxied)) {
            return Ok(client.clone());
        }
        let tls = if route.is_verified { &self.verified } else { &self.unverified };
        let client = self
            .network
            .client(tls.clone(), route.addresses, is_proxied)
            .map_err(|error| SendError::Failed(AskError::Setup(Cause::of(&error))))?;
        clients.insert((route, is_proxied), client.clone());
        Ok(client)
    }
}

// === impl SendError ===

impl SendError {
    fn of(url: &Url, error: &reqwest::Error) -> Self {
        if is_forbidden(error) {
            return Self::Forbidden;
        }
        if error.is_timeout() {
            return Self::Silent;
        }
        if let Some(fault) = TlsFault::find(error) {
            return Self::Failed(AskError::Tls { host: host_of(url), reason: tls_reason(&fault) });
        }
        let source = Cause::of(error);
        let text = source.to_string();
        // hyper's errors of an answer that it cannot parse.
        if text.starts_with("message head is too large") || text.starts_with("invalid HTTP") {
            return Self::Malformed;
        }
        Self::Failed(AskError::Connect { host: host_of(url), source })
    }
}

/// Returns `host:port` for messages.
pub(crate) fn host_of(url: &Url) -> String {
    let host = escape::line(url.host_str().unwrap_or_default());
    url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
}

fn is_forbidden(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<ForbiddenAddress>() {
            return true;
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
