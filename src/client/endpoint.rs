//! A registry's host as URLs: scheme and address.
//!
//! Loopback hosts are reached by plain HTTP, as container engines do, and all others by HTTPS, unless an
//! option decides otherwise. `localhost` is resolved here, because an image of one file has no `/etc/hosts`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use quinistry_oci::ImageReference;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::ClientError;

/// Address of a registry.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Host as typed, under which credentials are stored.
    pub(super) host: String,
    /// Root of all URLs, `scheme://host:port/`.
    pub(super) base: Url,
    /// Rule that chose the scheme of `base`.
    pub(super) scheme: Scheme,
    /// True if the server's certificate is not checked, so that an attacker on the way may answer in its place.
    pub(super) is_unverified: bool,
}

/// Rule for the protocol to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Plain HTTP on loopback, HTTPS elsewhere.
    #[default]
    ByHost,
    /// Plain HTTP for every host.
    Http,
    /// HTTPS for every host.
    Https,
}

/// Docker Hub's name, its registry's address, and its default folder: the one registry whose name is not its
/// address.
const HUB: (&str, &str, &str) = ("docker.io", "registry-1.docker.io", "library/");

// === impl Endpoint ===

impl Endpoint {
    pub(super) fn new(host: &str, scheme: Scheme) -> Result<Self, ClientError> {
        let wrong = || ClientError::Host(host.into());
        let address = if host == HUB.0 { HUB.1 } else { host };
        // The address becomes the authority of every URL, so it must hold no user, path or query.
        if !quinistry_oci::is_host(address) {
            return Err(wrong());
        }
        let mut base = Url::parse(&format!("https://{address}/")).map_err(|_| wrong())?;
        let plain = match scheme {
            Scheme::ByHost => is_loopback(&base),
            Scheme::Http => true,
            Scheme::Https => false,
        };
        if plain {
            base = Url::parse(&format!("http://{address}/")).map_err(|_| wrong())?;
        }
        Ok(Self { host: host.into(), base, scheme, is_unverified: false })
    }

    /// Returns the repository's name in URLs and scopes.
    pub(super) fn repository(&self, image: &ImageReference) -> String {
        let name = image.repository().as_str();
        if self.host == HUB.0 && !name.contains('/') { format!("{}{name}", HUB.2) } else { name.into() }
    }

    /// Returns the URL of a path, which consists of parsed names and so needs no escaping.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    pub(super) fn is_origin_of(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }

    /// Returns true if requests for tokens may go to a server: by HTTPS, or as unprotected as the registry
    /// itself.
    pub(super) fn may_ask(&self, realm: &Url) -> bool {
        match realm.scheme() {
            "https" => true,
            "http" => self.base.scheme() == "http" && (self.scheme == Scheme::Http || is_loopback(realm)),
            _ => false,
        }
    }

    /// Returns true if credentials for the registry may go to a token server that [`may_ask`](Self::may_ask)
    /// allows: on the registry's own host, or named by a registry whose answers no attacker on the way can forge
    /// (verified TLS, or loopback), and then only by HTTPS or on loopback.
    pub(super) fn may_send_credentials(&self, realm: &Url) -> bool {
        let is_own = self.base.host_str() == realm.host_str();
        let is_authentic = match self.base.scheme() {
            "https" => !self.is_unverified,
            _ => is_loopback(&self.base),
        };
        is_own || (is_authentic && (realm.scheme() == "https" || is_loopback(realm)))
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Resolver that knows `localhost` by itself and leaves the rest to the system.
#[derive(Debug)]
pub struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            if name.as_str() == "localhost" {
                let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
                return Ok(Box::new(both.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs);
            }
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(host: &str, scheme: Scheme) -> String {
        Endpoint::new(host, scheme).unwrap().base.to_string()
    }

    #[test]
    fn loopback_is_plain_and_the_rest_is_not() {
        assert_eq!(base("localhost:5000", Scheme::ByHost), "http://localhost:5000/");
        assert_eq!(base("127.9.9.9", Scheme::ByHost), "http://127.9.9.9/");
        assert_eq!(base("[::1]:5000", Scheme::ByHost), "http://[::1]:5000/");
        assert_eq!(base("localhost.example.com", Scheme::ByHost), "https://localhost.example.com/");
        assert_eq!(base("10.0.0.1:5000", Scheme::ByHost), "https://10.0.0.1:5000/");
        assert_eq!(base("10.0.0.1:5000", Scheme::Http), "http://10.0.0.1:5000/");
        assert_eq!(base("localhost:5000", Scheme::Https), "https://localhost:5000/");
        assert_eq!(base("docker.io", Scheme::ByHost), "https://registry-1.docker.io/");
    }

    #[test]
    fn nothing_hides_in_a_host() {
        for host in ["u@h.com", "h.com/x", "h.com?x", "h.com#x", "", "h.com:x"] {
            assert!(Endpoint::new(host, Scheme::ByHost).is_err(), "{host}");
        }
    }

    #[test]
    fn a_token_server_is_as_safe_as_the_registry() {
        let may = |host: &str, scheme, realm: &str| {
            Endpoint::new(host, scheme).unwrap().may_ask(&realm.parse().unwrap())
        };
        assert!(may("a.example.com", Scheme::ByHost, "https://auth.example.net/token"));
        assert!(!may("a.example.com", Scheme::ByHost, "http://auth.example.net/token"));
        assert!(!may("a.example.com", Scheme::ByHost, "http://localhost/token"));
        assert!(may("localhost:5000", Scheme::ByHost, "http://127.0.0.1:5001/token"));
        assert!(!may("localhost:5000", Scheme::ByHost, "http://auth.example.net/token"));
        assert!(may("10.0.0.1", Scheme::Http, "http://10.0.0.2/token"));
        assert!(!may("localhost:5000", Scheme::Http, "ftp://localhost/token"));
    }

    #[test]
    fn credentials_leave_the_host_of_a_registry_only_at_its_own_word() {
        let may = |host: &str, scheme, is_unverified, realm: &str| {
            let endpoint = Endpoint { is_unverified, ..Endpoint::new(host, scheme).unwrap() };
            endpoint.may_send_credentials(&realm.parse().unwrap())
        };
        let elsewhere = "https://auth.example.net/token";
        assert!(may("a.example.com", Scheme::ByHost, false, elsewhere));
        assert!(!may("a.example.com", Scheme::ByHost, true, elsewhere), "its certificate was not checked");
        assert!(!may("a.example.com", Scheme::Http, false, elsewhere), "anyone on the way may have named it");
        assert!(!may("a.example.com", Scheme::Http, false, "http://auth.example.net/token"));
        for (scheme, is_unverified) in [(Scheme::ByHost, true), (Scheme::Http, false)] {
            let own = "http://a.example.com:5001/token";
            assert!(may("a.example.com:5000", scheme, is_unverified, own), "the registry's own host");
        }
        assert!(may("localhost:5000", Scheme::ByHost, false, elsewhere), "there is no way to loopback");
        assert!(may("localhost:5000", Scheme::ByHost, false, "http://127.0.0.1:5001/token"));
        assert!(!may("localhost:5000", Scheme::Http, false, "http://auth.example.net/token"));
    }
}
