//! Exposure of a registry to clients that need no credentials to write, which a reload can change.

use crate::http::LocalAddress;

/// Warning of a reload. The start says the same with the address.
pub(super) const NOW_OPEN: &str = "everyone who reaches this registry can push now, there are no users any more: add \
                                   auth.htpasswd to the configuration, listen on 127.0.0.1, or set \
                                   storage.maintenance.readonly";

/// Exposure of a registry: true if every client that reaches a registry over the network can write.
#[derive(Debug)]
pub(super) struct Exposure {
    is_reachable: bool,
    is_open: bool,
}

impl Exposure {
    /// Returns the exposure of a registry that serves nothing yet.
    pub(super) fn new(address: &LocalAddress) -> Self {
        let is_reachable = match address {
            LocalAddress::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            LocalAddress::Unix(_) => false,
        };
        Self { is_reachable, is_open: false }
    }

    /// Records what clients can do from now on. Returns true if the registry was closed and is open now.
    pub(super) fn update(&mut self, is_writable: bool, has_users: bool) -> bool {
        let is_open = self.is_reachable && is_writable && !has_users;
        !std::mem::replace(&mut self.is_open, is_open) && is_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Exposure {
        Exposure::new(&LocalAddress::Tcp(address.parse().unwrap()))
    }

    #[test]
    fn a_registry_opens_when_it_loses_its_users_or_permits_writes() {
        let mut exposure = at("0.0.0.0:5000");
        assert!(!exposure.update(true, true));
        assert!(exposure.update(true, false), "no users any more");
        assert!(!exposure.update(true, false), "open as before");
        assert!(!exposure.update(false, false), "read-only");
        assert!(exposure.update(true, false), "writes are permitted again");
    }

    #[test]
    fn a_registry_that_no_other_machine_reaches_does_not_open() {
        for address in ["127.0.0.1:5000", "[::1]:5000", "[::ffff:127.0.0.1]:5000"] {
            assert!(!at(address).update(true, false), "{address}");
        }
        assert!(!Exposure::new(&LocalAddress::Unix(Some("/run/registry.sock".into()))).update(true, false));
    }
}
