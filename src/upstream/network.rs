//! Resolution and dialling under the rules of [`AddressRange`]: the addresses that a name resolves to are checked, and
//! the same addresses are dialled, so that a name which resolves to other addresses later (DNS rebinding) gains nothing.
//!
//! If the environment names a proxy, the proxy resolves names and dials. Addresses in URLs are checked before the proxy
//! is asked; the addresses to which the proxy resolves a name stay unknown to this program, and are not checked.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use quinistry_client::proxy::Proxies;
use quinistry_client::{Resolver, TlsOptions, USER_AGENT};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::ClientConfig;

use crate::address::{AddressClass, AddressRange};

/// Names, addresses and proxies as the machine has them; tests have others.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) names: Arc<dyn Resolve>,
    pub(crate) classify: fn(IpAddr) -> Option<AddressClass>,
    pub(crate) proxies: Arc<Proxies>,
}

/// Error of a request whose target has no address in its range.
#[derive(Debug, thiserror::Error)]
#[error("the host has no address that may be dialled")]
pub(crate) struct ForbiddenAddress;

/// Resolver that gives the addresses of one range.
struct RangeResolver {
    network: Network,
    addresses: AddressRange,
    /// Names of proxies, which the operator has chosen.
    exempt: Vec<String>,
}

// === impl Network ===

impl Network {
    pub(crate) fn of_the_machine() -> Self {
        Self { names: Arc::new(Resolver), classify: AddressClass::of, proxies: Arc::new(Proxies::from_env()) }
    }

    /// Returns true if a URL is reached through a proxy.
    pub(crate) fn is_proxied(&self, url: &Url) -> bool {
        self.proxies.for_url(url).is_some()
    }

    /// Creates the client of all requests to addresses of a range.
    pub(crate) fn client(
        &self,
        tls: ClientConfig,
        addresses: AddressRange,
        is_proxied: bool,
    ) -> Result<reqwest::Client, reqwest::Error> {
        let exempt = if is_proxied { self.proxies.hosts().map(str::to_owned).collect() } else { Vec::new() };
        let resolver = RangeResolver { network: self.clone(), addresses, exempt };
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(resolver)
            .http1_only()
            // Followed by hand, because each target is decided on.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(crate::transport::CONNECT_TIMEOUT)
            .pool_idle_timeout(crate::transport::IDLE_TIMEOUT)
            .user_agent(USER_AGENT);
        if is_proxied {
            let proxies = self.proxies.clone();
            builder.proxy(reqwest::Proxy::custom(move |url| proxies.for_url(url).cloned())).build()
        } else {
            builder.no_proxy().build()
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}

impl Resolve for RangeResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (classify, addresses) = (self.network.classify, self.addresses);
        let is_exempt = self.exempt.iter().any(|host| host == name.as_str());
        let resolving = self.network.names.resolve(name);
        Box::pin(async move {
            let mut found: Vec<SocketAddr> = resolving.await?.collect();
            if !is_exempt {
                found.retain(|address| addresses.holds(classify(address.ip())));
            }
            if found.is_empty() {
                return Err(ForbiddenAddress.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Returns the address that a URL has in the place of a name.
pub(crate) fn literal_address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Returns the options of TLS connections to an upstream.
pub(crate) fn tls_options(ca: Option<std::path::PathBuf>, skip_verify: bool) -> TlsOptions {
    TlsOptions { ca, skip_verify, ..TlsOptions::default() }
}
