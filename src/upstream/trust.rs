//! Trust in the hosts that an upstream names: which of them get the credentials, and at which addresses they may be.
//! Pure.
//!
//! An upstream may be hostile, or its answers forged. It names token servers (`realm`) and targets of redirects, and so
//! could have this registry send its password elsewhere, or ask servers that only this machine reaches. distribution
//! sends credentials to any host of the upstream's registrable domain, user content included (CVE-2026-33540); here a
//! host is the upstream's own, of a built-in pair, or listed by the operator.

use reqwest::Url;

use crate::address::{AddressClass, AddressRange};
use crate::options::{Insecure, RemoteError, RemoteOptions};

/// Registries whose token server is on another host: the registry, and the token server.
const REALM_PAIRS: [(&str, &str); 2] =
    [("registry-1.docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];

/// Length of the longest address of a token server, and of the longest name of its service.
const MAX_REALM_BYTES: usize = 2048;

/// Hosts that an upstream is trusted with.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    base: Url,
    insecure: Insecure,
    listed: Vec<ListedHost>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ListedHost {
    /// Name or address in lower case, as in a URL.
    host: String,
    port: Option<u16>,
}

/// Protection and addresses of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    /// True if the server's certificate is verified.
    pub(crate) is_verified: bool,
    pub(crate) addresses: AddressRange,
}

/// Token server that a challenge of the upstream names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Realm {
    pub(crate) url: Url,
    /// True if the credentials for the upstream may go there.
    pub(crate) gets_credentials: bool,
}

// === impl Trust ===

impl Trust {
    pub(crate) fn new(options: &RemoteOptions) -> Result<Self, RemoteError> {
        let refused = |reason| RemoteError::Url { name: options.name.clone(), reason };
        let base: Url = options.remote_url.parse().map_err(|_| refused("it is not an absolute URL"))?;
        match (base.scheme(), options.insecure) {
            ("https", _) | ("http", Insecure::Private | Insecure::Public) => {}
            ("http", Insecure::No) => {
                return Err(refused("it is plain HTTP; use https, or allow that by insecure"));
            }
            _ => return Err(refused("its scheme is neither https nor http")),
        }
        if base.host_str().is_none_or(str::is_empty) {
            return Err(refused("it has no host"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(refused("it has credentials; give them as username and password"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(refused("it has a query or a fragment"));
        }
        let realm = |host: &String| RemoteError::Realm { name: options.name.clone(), host: host.clone() };
        let listed = options.realms.iter().map(|host| ListedHost::parse(host).ok_or_else(|| realm(host)));
        Ok(Self { base, insecure: options.insecure, listed: listed.collect::<Result<_, _>>()? })
    }

    /// Returns the address of a path below `/v2/`, which consists of parsed names and so needs no escaping.
    pub(crate) fn url(&self, path: &str) -> Url {
        self.base.join(&format!("v2/{path}")).expect("parsed names are a relative URL")
    }

    /// Returns host and port of the upstream.
    pub(crate) fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    pub(crate) fn insecure(&self) -> Insecure {
        self.insecure
    }

    /// Returns true if a URL is at the upstream itself, which gets tokens and credentials.
    pub(crate) fn is_origin_of(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }

    /// Decides on a request that the configuration asks for (`seen` is `None`), or that an answer has led to, which came
    /// from an address of class `seen`. Such a request leads no nearer to this machine than the answer came from,
    /// unless its host is listed.
    pub(crate) fn route(&self, url: &Url, seen: Option<AddressClass>) -> Result<Route, &'static str> {
        let is_https = url.scheme() == "https";
        if !is_https && self.insecure == Insecure::No {
            return Err("an address without https");
        }
        let is_listed = self.lists(url);
        let is_named = is_listed || url.host_str() == self.base.host_str();
        let is_verified = is_https && !(is_named && self.insecure != Insecure::No);
        let nearest = if is_listed { None } else { seen }.unwrap_or(AddressClass::Loopback);
        let is_confined = !is_verified && self.insecure == Insecure::Private;
        let farthest = if is_confined { AddressClass::Private } else { AddressClass::Public };
        Ok(Route { is_verified, addresses: AddressRange { nearest, farthest } })
    }

    /// Parses the realm of a challenge of the upstream.
    pub(crate) fn realm(&self, text: &str) -> Result<Realm, &'static str> {
        if text.len() > MAX_REALM_BYTES {
            return Err("the address of its token server is too long");
        }
        let mut url: Url = text.parse().map_err(|_| "the address of its token server is not a URL")?;
        match (url.scheme(), self.base.scheme()) {
            ("https", _) | ("http", "http") => {}
            ("http", _) => return Err("its token server is not protected by https"),
            _ => return Err("the address of its token server is not HTTP"),
        }
        // The HTTP library would send them in place of the credentials for the upstream.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        url.set_fragment(None);
        let hosts = (self.base.host_str(), url.host_str());
        let is_pair = url.scheme() == "https"
            && url.port().is_none()
            && REALM_PAIRS.iter().any(|(registry, realm)| hosts == (Some(registry), Some(realm)));
        let gets_credentials = hosts.0 == hosts.1 || is_pair || self.lists(&url);
        Ok(Realm { url, gets_credentials })
    }

    fn lists(&self, url: &Url) -> bool {
        self.listed.iter().any(|listed| {
            url.host_str() == Some(&listed.host)
                && listed.port.is_none_or(|port| url.port_or_known_default() == Some(port))
        })
    }
}

/// Returns the name of a token server's service, if it has a sensible length.
pub(crate) fn service(text: &str) -> Result<&str, &'static str> {
    if text.len() > MAX_REALM_BYTES { Err("the service of its token server is too long") } else { Ok(text) }
}

// === impl ListedHost ===

impl ListedHost {
    fn parse(text: &str) -> Option<Self> {
        if !quinistry_oci::is_host(text) {
            return None;
        }
        let url: Url = format!("https://{text}/").parse().ok()?;
        let has_port = !text.ends_with(']') && text.contains(':');
        let port = if has_port { url.port_or_known_default() } else { None };
        Some(Self { host: url.host_str()?.into(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(url: &str, insecure: Insecure, realms: &[&str]) -> Trust {
        let realms = realms.iter().map(|host| (*host).into()).collect();
        Trust::new(&RemoteOptions { insecure, realms, ..RemoteOptions::new("x", url) }).unwrap()
    }

    fn range(nearest: AddressClass, farthest: AddressClass) -> AddressRange {
        AddressRange { nearest, farthest }
    }

    #[test]
    fn a_path_stands_before_the_api_as_in_distribution() {
        let url = |base: &str| trust(base, Insecure::No, &[]).url("a/b/manifests/1").to_string();
        assert_eq!(url("https://h"), "https://h/v2/a/b/manifests/1");
        assert_eq!(url("https://h:5000/x/y/"), "https://h:5000/x/y/v2/a/b/manifests/1");
        assert_eq!(url("https://h/x/y"), "https://h/x/v2/a/b/manifests/1");
        let trust = trust("https://h/x/", Insecure::No, &[]);
        assert_eq!(trust.url("a/manifests/sha256:00").path(), "/x/v2/a/manifests/sha256:00");
    }

    #[test]
    fn addresses_that_are_no_upstream_are_refused() {
        let of = |url: &str, insecure| {
            Trust::new(&RemoteOptions { insecure, ..RemoteOptions::new("x", url) }).map(drop)
        };
        for url in
            ["h", "http://h", "ftp://h", "file:///h", "https://u:p@h", "https://h/?q", "https://h/#f", ""]
        {
            assert!(of(url, Insecure::No).is_err(), "{url}");
        }
        assert!(of("http://h", Insecure::Private).is_ok());
        assert!(!of("https://u:hunter2@h", Insecure::No).unwrap_err().to_string().contains("hunter2"));
        for host in ["https://a", "a/b", "u@a", "", "a:x"] {
            let options = RemoteOptions { realms: vec![host.into()], ..RemoteOptions::new("x", "https://h") };
            assert!(matches!(Trust::new(&options), Err(RemoteError::Realm { .. })), "{host}");
        }
    }

    #[test]
    fn credentials_go_to_the_own_host_to_known_pairs_and_to_listed_hosts() {
        let gets = |base: &str, realms: &[&str], realm: &str| {
            trust(base, Insecure::No, realms).realm(realm).unwrap().gets_credentials
        };
        assert!(gets("https://h", &[], "https://h/token"));
        assert!(gets("https://h:5000", &[], "https://h:5001/token"));
        assert!(gets("https://registry-1.docker.io", &[], "https://auth.docker.io/token"));
        assert!(gets("https://registry.gitlab.com", &[], "https://gitlab.com/jwt/auth"));
        assert!(gets("https://h", &["auth.example.com"], "https://AUTH.example.com:444/token"));
        assert!(gets("https://h", &["auth.example.com:444"], "https://auth.example.com:444/token"));
        assert!(gets("https://h", &["[::1]:444"], "https://[::1]:444/token"));
        for (base, realm) in [
            ("https://registry.example.com", "https://evil.example.com/token"),
            ("https://registry.example.com", "https://registry.example.com.evil.net/token"),
            ("https://registry.example.com", "https://example.com/token"),
            ("https://registry-1.docker.io", "https://gitlab.com/token"),
            ("https://auth.docker.io", "https://registry-1.docker.io/token"),
            ("https://registry-1.docker.io", "https://auth.docker.io:8443/token"),
            ("https://h", "https://user:password@other/token"),
            ("https://h", "https://h@other/token"),
        ] {
            assert!(!gets(base, &[], realm), "{base} {realm}");
        }
        assert!(!gets("https://h", &["auth.example.com:444"], "https://auth.example.com/token"));
    }

    #[test]
    fn row_163_realms_are_as_protected_as_the_upstream() {
        let of = |base: &str, realm: &str| trust(base, Insecure::Private, &["a"]).realm(realm);
        for realm in
            ["http://h/token", "http://a/token", "file:///etc/passwd", "ftp://h/", "data:,x", "", "/token"]
        {
            assert!(of("https://h", realm).is_err(), "{realm}");
        }
        assert!(of("https://h", &format!("https://h/{}", "x".repeat(1 << 20))).is_err());
        assert!(of("http://h", "http://h/token").unwrap().gets_credentials);
        assert!(!of("http://registry-1.docker.io", "http://auth.docker.io/").unwrap().gets_credentials);
        assert_eq!(of("http://h", "http://u:p@h/t#f").unwrap().url.as_str(), "http://h/t");
        assert!(service("registry.example.com").is_ok() && service(&"x".repeat(1 << 20)).is_err());
    }

    #[test]
    fn what_an_answer_leads_to_is_no_nearer_than_the_answer() {
        use AddressClass::{Link, Loopback, Private, Public};
        let trust = trust("https://h", Insecure::No, &["cdn.internal"]);
        let route = |url: &str, seen| trust.route(&url.parse().unwrap(), seen).unwrap().addresses;
        assert_eq!(route("https://h/v2/", None), range(Loopback, Public));
        assert_eq!(route("https://cdn/", Some(Public)), range(Public, Public));
        assert_eq!(route("https://h/latest/meta-data", Some(Public)), range(Public, Public));
        assert_eq!(route("https://cdn/", Some(Private)), range(Private, Public));
        assert_eq!(route("https://cdn/", Some(Link)), range(Link, Public));
        assert_eq!(route("https://cdn.internal/", Some(Public)), range(Loopback, Public));
        assert!(trust.route(&"http://cdn.internal/".parse().unwrap(), Some(Private)).is_err());
    }

    #[test]
    fn unprotected_connections_stay_at_private_addresses() {
        use AddressClass::{Loopback, Private, Public};
        let route = |insecure, base: &str, url: &str, seen| {
            let route = trust(base, insecure, &["listed"]).route(&url.parse().unwrap(), seen).unwrap();
            (route.is_verified, route.addresses)
        };
        let confined = (false, range(Loopback, Private));
        assert_eq!(route(Insecure::Private, "http://h", "http://h/", None), confined);
        assert_eq!(route(Insecure::Private, "https://h", "https://h/", None), confined);
        assert_eq!(route(Insecure::Private, "https://h", "https://listed/", Some(Private)), confined);
        assert_eq!(
            route(Insecure::Private, "https://h", "https://cdn/", Some(Private)),
            (true, range(Private, Public))
        );
        assert_eq!(
            route(Insecure::Private, "http://h", "http://cdn/", Some(Private)),
            (false, range(Private, Private))
        );
        assert_eq!(route(Insecure::Public, "http://h", "http://h/", None), (false, range(Loopback, Public)));
        assert_eq!(
            route(Insecure::Public, "http://h", "http://h/", Some(Public)),
            (false, range(Public, Public)),
            "a name that resolves to another address now"
        );
        assert_eq!(
            route(Insecure::Public, "https://h", "https://cdn/", Some(Public)),
            (true, range(Public, Public))
        );
    }
}
