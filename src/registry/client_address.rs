//! Address of the client that a request is from, and a hint where a proxy hides it.
//!
//! The address counts where it is logged, recorded in the audit log, or throttled, and for a client's share in the questions
//! to an upstream. A registry that does none of these does not look for it, and gives no hint.

use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use quinistry_http::client_address::{ClientAddress, TrustedProxies};
use quinistry_http::{Network, Peer};

/// Most networks that are hinted at: any client can send the fields of a proxy, and its lines must not fill the log.
const MAX_HINTS: usize = 16;

/// Networks that were hinted at by this process.
static HINTED: Mutex<Hinted> = Mutex::new(Hinted(Vec::new()));

/// Networks that were hinted at, at most [`MAX_HINTS`].
#[derive(Debug)]
struct Hinted(Vec<Network>);

/// Finds the address of the client; `None` if the server does not tell the peer. Logs, once for each network, that the
/// address which a peer names is ignored because the peer is not a trusted proxy.
pub(crate) fn find(
    peer: Option<Peer>,
    headers: &HeaderMap,
    trusted: &TrustedProxies,
) -> Option<ClientAddress> {
    let peer = peer?;
    let client = ClientAddress::find(peer, headers, trusted);
    if let Some(field) = ClientAddress::ignored_field(peer, headers, trusted)
        && HINTED.lock().unwrap_or_else(PoisonError::into_inner).add(Network::of(Some(client)))
    {
        tracing::warn!(
            %client,
            %field,
            "ignoring the client address in a header field; if this is a proxy of yours, add it to \
             quinistry.http.trustedproxies"
        );
    }
    Some(client)
}

// === impl Hinted ===

impl Hinted {
    /// Returns true if a network is new, and there is room for it.
    fn add(&mut self, network: Network) -> bool {
        let is_new = self.0.len() < MAX_HINTS && !self.0.contains(&network);
        if is_new {
            self.0.push(network);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_is_hinted_at_once_and_not_too_many_are() {
        let mut hinted = Hinted(Vec::new());
        let network = |number| Network::V4(number);
        assert!(hinted.add(Network::Unix) && !hinted.add(Network::Unix));
        let told = (0..1000).filter(|number| hinted.add(network(*number))).count();
        assert_eq!(told, MAX_HINTS - 1);
        assert!(!hinted.add(network(0)));
    }

    #[test]
    fn the_address_is_that_of_the_peer_unless_the_peer_is_trusted() {
        let peer = Some(Peer::Tcp("192.0.2.9:1".parse().unwrap()));
        let field = http::HeaderName::from_static("x-forwarded-for");
        let headers = [(field, "198.51.100.7".parse().unwrap())].into_iter().collect();
        let found = |trusted: &[&str]| {
            let trusted = TrustedProxies::parse(trusted).unwrap();
            find(peer, &headers, &trusted).unwrap().to_string()
        };
        assert_eq!((found(&[]), found(&["192.0.2.0/24"])), ("192.0.2.9".into(), "198.51.100.7".into()));
        assert_eq!(find(None, &headers, &TrustedProxies::default()), None);
    }
}
