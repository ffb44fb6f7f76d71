//! HTTP clients: one for most registries, and one for each that has certificates of its own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use reqwest::Url;

use super::proxy::Proxies;
use super::tls::{self, HostFolder, TlsOptions};
use super::{Cause, ClientError, endpoint, request};

/// HTTP clients by the registry that they are for. All requests on behalf of a registry, to its token server and
/// to where it redirects too, trust the same authorities.
#[derive(Debug)]
pub(super) struct Transports {
    options: TlsOptions,
    peers: bool,
    common: Transport,
    /// Clients of registries with a folder of certificates; `None` for those that were found to have none.
    by_host: Mutex<HashMap<String, Option<Transport>>>,
}

/// HTTP clients with the same certificates.
#[derive(Clone, Debug)]
struct Transport {
    /// Client for loopback hosts, which uses no proxy.
    direct: reqwest::Client,
    /// Client for all other hosts, which uses the proxies that the environment names.
    proxied: reqwest::Client,
}

/// Way of connections to servers.
#[derive(Clone, Copy, Debug)]
enum Route<'a> {
    /// To the host of each URL.
    Hosts,
    /// As [`Hosts`](Self::Hosts), within one cluster.
    Peers,
    /// To a Unix socket, whatever the URL.
    Socket(&'a Path),
}

/// Returns a builder of HTTP clients for servers other than registries, such as object stores: with the authorities
/// that are trusted, a resolver that knows `localhost`, and the proxies of the environment. Fails if a file that the
/// options name cannot be read.
pub fn client_builder(options: &TlsOptions) -> Result<reqwest::ClientBuilder, ClientError> {
    let tls = tls::configuration(options, None)?;
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(endpoint::Resolver)
        .proxy(proxy_of_the_environment())
        .user_agent(USER_AGENT))
}

/// Name and version of the program, for servers.
pub const USER_AGENT: &str = concat!("quinistry/", env!("CARGO_PKG_VERSION"));

fn proxy_of_the_environment() -> reqwest::Proxy {
    let proxies = Proxies::from_env();
    reqwest::Proxy::custom(move |url| proxies.for_url(url).cloned())
}

// === impl Transports ===

impl Transports {
    /// Reads the files that the options name. Those in folders are read when a registry is used.
    pub(super) fn new(options: TlsOptions, peers: bool) -> Result<Self, ClientError> {
        let common = Transport::new(&options, None, Route::of_hosts(peers))?;
        Ok(Self { options, peers, common, by_host: Mutex::default() })
    }

    /// Creates clients all of whose connections go to a Unix socket.
    pub(super) fn over_socket(path: &Path) -> Result<Self, ClientError> {
        let options = TlsOptions::default();
        let common = Transport::new(&options, None, Route::Socket(path))?;
        Ok(Self { options, peers: false, common, by_host: Mutex::default() })
    }

    /// Reads the certificates of a registry, once. Returns true if there are any.
    pub(super) fn prepare(&self, host: &str) -> Result<bool, ClientError> {
        if self.options.host_folders.is_empty() {
            return Ok(false);
        }
        if let Some(known) = self.by_host().get(host) {
            return Ok(known.is_some());
        }
        let folder = HostFolder::find(&self.options.host_folders, host)?;
        let own = folder
            .map(|folder| Transport::new(&self.options, Some(&folder), Route::of_hosts(self.peers)))
            .transpose()?;
        let is_own = own.is_some();
        self.by_host().insert(host.into(), own);
        Ok(is_own)
    }

    /// Returns the client that reaches a URL on behalf of a registry.
    pub(super) fn client(&self, host: &str, url: &Url) -> reqwest::Client {
        let own = self.by_host().get(host).cloned().flatten();
        let transport = own.as_ref().unwrap_or(&self.common);
        let is_direct = self.peers || endpoint::is_loopback(url);
        if is_direct { transport.direct.clone() } else { transport.proxied.clone() }
    }

    /// Returns the client that uses no proxy and no registry's certificates.
    pub(super) const fn direct(&self) -> &reqwest::Client {
        &self.common.direct
    }

    pub(super) const fn options(&self) -> &TlsOptions {
        &self.options
    }

    fn by_host(&self) -> MutexGuard<'_, HashMap<String, Option<Transport>>> {
        self.by_host.lock().expect("nothing panics while it is held")
    }
}

// === impl Route ===

impl Route<'_> {
    const fn of_hosts(peers: bool) -> Self {
        if peers { Self::Peers } else { Self::Hosts }
    }
}

// === impl Transport ===

impl Transport {
    fn new(options: &TlsOptions, folder: Option<&HostFolder>, route: Route<'_>) -> Result<Self, ClientError> {
        let tls = tls::configuration(options, folder)?;
        let (patience, idle) = match route {
            Route::Peers => (request::PEER_CONNECT_TIMEOUT, request::PEER_IDLE_TIMEOUT),
            Route::Hosts | Route::Socket(_) => (request::CONNECT_TIMEOUT, request::IDLE_TIMEOUT),
        };
        let builder = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(endpoint::Resolver)
                .http1_only()
                // Followed by hand, because credentials must not follow.
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .connect_timeout(patience)
                .pool_idle_timeout(idle)
                .user_agent(USER_AGENT)
        };
        let through = proxy_of_the_environment();
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| ClientError::Setup { source: Cause::of(&error) })
        };
        if let Route::Socket(path) = route {
            let client = build(builder().no_proxy().unix_socket(path))?;
            return Ok(Self { direct: client.clone(), proxied: client });
        }
        Ok(Self { direct: build(builder().no_proxy())?, proxied: build(builder().proxy(through))? })
    }
}
