//! Choice of the proxy for an address: the environment's variables, read as Go's `httpproxy` reads them.
//! Pure.
//!
//! Go's rules, because kubectl, Docker and other registry clients follow them: an environment that works for
//! those works here.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use reqwest::Url;

/// Proxies of the environment, and the addresses that are reached without them.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    direct: Vec<NoProxyEntry>,
}

/// An entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NoProxyEntry {
    All,
    Network(IpAddr, u8),
    Address(IpAddr, Option<u16>),
    Domain {
        /// Suffix of the host, with a leading dot, in lower case.
        suffix: String,
        /// True if the entry covers the domain itself, and not only its subdomains.
        with_itself: bool,
        port: Option<u16>,
    },
}

// Addresses of proxies hold passwords.
impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies").field("direct", &self.direct).finish_non_exhaustive()
    }
}

// === impl Proxies ===

impl Proxies {
    /// Reads the process's environment.
    #[must_use]
    pub fn from_env() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    /// Reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, in upper or lower case, and `ALL_PROXY` in place of
    /// a missing one of the first two.
    #[must_use]
    pub fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let either = |name: &str| given(name).or_else(|| given(&name.to_ascii_lowercase()));
        // A CGI program's `HTTP_PROXY` is the field `Proxy` of a client's request: <https://httpoxy.org>
        let is_cgi = given("REQUEST_METHOD").is_some();
        let http = if is_cgi { given("http_proxy") } else { either("HTTP_PROXY") };
        let all = either("ALL_PROXY");
        let proxy = |own: Option<String>| own.or_else(|| all.clone()).and_then(|text| address(&text));
        Self {
            http: proxy(http),
            https: proxy(either("HTTPS_PROXY")),
            direct: either("NO_PROXY").iter().flat_map(|list| list.split(',')).filter_map(entry).collect(),
        }
    }

    /// Returns the host names of the proxies, without ports.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        [&self.http, &self.https].into_iter().filter_map(|proxy| proxy.as_ref()?.host_str())
    }

    /// Returns the proxy for an address, or `None` for a direct connection.
    #[must_use]
    pub fn for_url(&self, url: &Url) -> Option<&Url> {
        let proxy = if url.scheme() == "https" { self.https.as_ref() } else { self.http.as_ref() }?;
        let host = url.host_str()?.trim_end_matches('.').to_ascii_lowercase();
        let ip = literal(&host);
        let is_own = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
        let port = url.port_or_known_default();
        (!is_own && !self.direct.iter().any(|entry| entry.covers(&host, ip, port))).then_some(proxy)
    }
}

// === impl NoProxyEntry ===

impl NoProxyEntry {
    fn covers(&self, host: &str, ip: Option<IpAddr>, port: Option<u16>) -> bool {
        let at = |wanted: &Option<u16>| wanted.is_none() || *wanted == port;
        match self {
            Self::All => true,
            Self::Network(network, length) => ip.is_some_and(|ip| is_within(ip, *network, *length)),
            Self::Address(address, wanted) => ip == Some(*address) && at(wanted),
            Self::Domain { suffix, with_itself, port: wanted } => {
                let fits = host.ends_with(suffix.as_str()) || (*with_itself && host == &suffix[1..]);
                fits && at(wanted)
            }
        }
    }
}

/// Parses the address of a proxy, whose scheme may be missing.
fn address(text: &str) -> Option<Url> {
    let text = text.trim();
    let is_proxy = |url: &Url| matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h");
    let has_host = |url: &Url| url.host_str().is_some_and(|host| !host.is_empty());
    let url = Url::parse(text).ok().filter(is_proxy).or_else(|| Url::parse(&format!("http://{text}")).ok());
    url.filter(has_host)
}

fn entry(text: &str) -> Option<NoProxyEntry> {
    let text = text.trim().to_ascii_lowercase();
    if text == "*" {
        return Some(NoProxyEntry::All);
    }
    if let Some((network, length)) = text.split_once('/') {
        let network = literal(network)?;
        let length: u8 = length.parse().ok()?;
        return (length <= if network.is_ipv4() { 32 } else { 128 })
            .then_some(NoProxyEntry::Network(network, length));
    }
    if let Some(ip) = literal(&text) {
        return Some(NoProxyEntry::Address(ip, None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text.as_str(), None),
    };
    if let Some(ip) = literal(host) {
        return Some(NoProxyEntry::Address(ip, port));
    }
    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    let host = host.trim_end_matches('.');
    if host.is_empty() {
        return None;
    }
    let with_itself = !host.starts_with('.');
    let suffix = if with_itself { format!(".{host}") } else { host.to_owned() };
    Some(NoProxyEntry::Domain { suffix, with_itself, port })
}

/// Parses an IP address, with or without brackets. An IPv4-mapped IPv6 address becomes an IPv4 address.
fn literal(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

fn is_within(ip: IpAddr, network: IpAddr, length: u8) -> bool {
    let same = |one: u128, other: u128, bits: u8| {
        let rest = u32::from(bits - length);
        one.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
    };
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => same(ip.to_bits().into(), network.to_bits().into(), 32),
        (IpAddr::V6(ip), IpAddr::V6(network)) => same(ip.to_bits(), network.to_bits(), 128),
        _ => false,
    }
}

/// Returns user and password of a proxy's address.
#[must_use]
pub fn login(url: &Url) -> Option<(String, String)> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let has_login = !url.username().is_empty() || url.password().is_some();
    has_login.then(|| (decoded(url.username()), decoded(url.password().unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::new(|wanted| {
            variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned())
        })
    }

    fn chosen(variables: &[(&str, &str)], url: &str) -> Option<String> {
        proxies(variables).for_url(&url.parse().unwrap()).map(Url::to_string)
    }

    /// Returns true if an address is reached without the proxy.
    fn is_direct(list: &str, url: &str) -> bool {
        chosen(&[("HTTPS_PROXY", "http://proxy"), ("HTTP_PROXY", "http://proxy"), ("no_proxy", list)], url)
            .is_none()
    }

    #[test]
    fn each_scheme_has_its_proxy_in_either_spelling() {
        let both = [("HTTP_PROXY", "http://one:1"), ("https_proxy", "two:2")];
        assert_eq!(chosen(&both, "http://a.io/").as_deref(), Some("http://one:1/"));
        assert_eq!(chosen(&both, "https://a.io/").as_deref(), Some("http://two:2/"));
        assert_eq!(chosen(&both[..1], "https://a.io/"), None);
        assert_eq!(chosen(&both[1..], "http://a.io/"), None);
        assert_eq!(
            chosen(&[("HTTPS_PROXY", ""), ("https_proxy", "x")], "https://a.io/").as_deref(),
            Some("http://x/")
        );
        let all = [("ALL_PROXY", "socks5://s:1080"), ("HTTPS_PROXY", "https://t")];
        assert_eq!(chosen(&all, "http://a.io/").as_deref(), Some("socks5://s:1080"));
        assert_eq!(chosen(&all, "https://a.io/").as_deref(), Some("https://t/"));
        let cgi = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil")];
        assert_eq!(chosen(&cgi, "http://a.io/"), None);
    }

    #[test]
    fn this_machine_is_reached_straight() {
        for url in ["http://localhost:5000/", "https://127.9.9.9/", "http://[::1]:80/", "http://LOCALHOST/"] {
            assert!(is_direct("", url), "{url}");
        }
        assert!(!is_direct("", "https://localhost.example.com/"));
    }

    #[test]
    fn exceptions_are_read_as_go_reads_them() {
        for (list, direct, proxied) in [
            ("*", &["https://a.io/", "http://[2001:db8::1]/"][..], &[][..]),
            ("x, *", &["https://a.io/"], &[]),
            (
                "a.io",
                &["https://a.io/", "https://b.a.io/", "https://A.IO:5/"],
                &["https://ba.io/", "https://io/"],
            ),
            (".a.io", &["https://b.a.io/"], &["https://a.io/", "https://ba.io/"]),
            ("*.a.io", &["https://c.b.a.io/"], &["https://a.io/"]),
            (
                "a.io:5000",
                &["https://a.io:5000/", "https://b.a.io:5000/"],
                &["https://a.io/", "https://a.io:5001/"],
            ),
            ("A.io:443", &["https://a.io/"], &["http://a.io/"]),
            (" , b.io ,a.io.", &["https://a.io/", "https://b.io./"], &["https://c.io/"]),
            ("10.0.0.0/8", &["https://10.9.8.7:6443/"], &["https://11.0.0.1/", "https://ten.io/"]),
            ("10.0.0.1:6443", &["https://10.0.0.1:6443/"], &["https://10.0.0.1/", "https://10.0.0.2:6443/"]),
            ("10.0.0.1", &["https://10.0.0.1:6443/", "http://[::ffff:10.0.0.1]/"], &["https://110.0.0.1/"]),
            ("[2001:db8::1]:6443", &["https://[2001:db8::1]:6443/"], &["https://[2001:db8::1]/"]),
            ("2001:db8::1", &["https://[2001:db8::1]:6443/"], &["https://[2001:db8::2]/"]),
            ("[2001:db8::1]", &["https://[2001:db8:0::1]/"], &["https://[2001:db8::2]/"]),
            (
                "2001:db8::/32",
                &["https://[2001:db8:ffff::1]/"],
                &["https://[2001:db9::1]/", "https://32.1.13.184/"],
            ),
            ("0.0.0.0/0", &["https://8.8.8.8/"], &["https://[2001:db8::1]/", "https://a.io/"]),
            ("10.0.0.0/33,:80,a.io:x,10.0.0.0/x", &[], &["https://10.0.0.1/", "https://a.io/"]),
        ] {
            for url in direct {
                assert!(is_direct(list, url), "{list}: {url}");
            }
            for url in proxied {
                assert!(!is_direct(list, url), "{list}: {url}");
            }
        }
    }

    #[test]
    fn a_login_is_decoded_and_not_shown() {
        let proxies = proxies(&[("HTTPS_PROXY", "http://us%40er:hunt%3Aer2@proxy")]);
        assert!(!format!("{proxies:?}").contains("hunt"));
        let url = proxies.for_url(&"https://a.io/".parse().unwrap()).unwrap();
        assert_eq!(login(url), Some(("us@er".into(), "hunt:er2".into())));
    }
}
