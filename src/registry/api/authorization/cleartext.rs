//! Warning about passwords that cross a network in the clear.

use std::sync::atomic::{AtomicBool, Ordering};

use http::request::Parts;
use quinistry_http::Peer;

use crate::auth::challenge::is_protected;

/// True once the process has warned: one line tells the operator, and one for each request would fill the log.
static HAS_WARNED: AtomicBool = AtomicBool::new(false);

/// Warns, once for the whole process, if the password of a request can be read on its way.
pub(super) fn warn_of_password(request: &Parts) {
    if HAS_WARNED.load(Ordering::Relaxed) || !is_readable_on_the_way(request) {
        return;
    }
    if !HAS_WARNED.swap(true, Ordering::Relaxed) {
        let peer = request.extensions.get::<Peer>().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(
            peer,
            "passwords arrive over plain HTTP, and can be read on the way: configure http.tls, or put a proxy with \
             TLS in front that sets X-Forwarded-Proto"
        );
    }
}

/// Returns true if a request crossed a network without TLS, as far as the registry knows.
fn is_readable_on_the_way(request: &Parts) -> bool {
    let is_remote =
        request.extensions.get::<Peer>().and_then(|peer| peer.ip()).is_some_and(|ip| !ip.is_loopback());
    is_remote && !is_protected(request)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::Request;

    use super::*;

    fn from(peer: Option<&str>, proto: Option<&str>) -> bool {
        let mut request = Request::builder();
        if let Some(proto) = proto {
            request = request.header("x-forwarded-proto", proto);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if let Some(peer) = peer {
            let peer = match peer {
                "unix" => Peer::Unix(None),
                address => address.parse::<SocketAddr>().unwrap().into(),
            };
            parts.extensions.insert(peer);
        }
        is_readable_on_the_way(&parts)
    }

    #[test]
    fn passwords_of_other_machines_over_plain_http_are_readable() {
        for peer in ["192.0.2.1:9", "[2001:db8::1]:9", "[::ffff:192.0.2.1]:9"] {
            assert!(from(Some(peer), None), "{peer}");
            assert!(from(Some(peer), Some("http")), "{peer}");
            assert!(!from(Some(peer), Some("https")), "{peer}: TLS ends at the proxy");
        }
    }

    #[test]
    fn passwords_that_stay_on_the_machine_are_not() {
        for peer in [Some("127.0.0.2:9"), Some("[::1]:9"), Some("[::ffff:127.0.0.1]:9"), Some("unix"), None] {
            assert!(!from(peer, None), "{peer:?}");
        }
    }
}
