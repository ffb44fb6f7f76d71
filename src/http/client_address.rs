//! Address of the client that a request is from, also behind proxies. Pure.
//!
//! Any client can send a header that names an address, so only the headers of trusted proxies count: of the
//! peer itself, and from there step by step of each hop that is trusted, too. The first address that is not
//! trusted is the client's. Addresses before it are hearsay.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV4};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::peer::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Fields that name addresses, in the order in which they are looked for.
const FIELDS: [HeaderName; 3] = [X_FORWARDED_FOR, http::header::FORWARDED, X_REAL_IP];

/// Greatest number of hops that are followed. Chains of proxies are short.
const MAX_HOPS: usize = 64;

/// Word for the clients of Unix sockets in a list of trusted proxies.
const UNIX: &str = "unix";

/// Proxies whose headers are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    includes_unix: bool,
}

/// Entry of a list of trusted proxies that is not a network, an address or `unix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidProxy(String);

impl fmt::Display for InvalidProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a network such as 10.0.0.0/8, an address, or {UNIX}", self.0)
    }
}

impl std::error::Error for InvalidProxy {}

/// Address of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// Address of the IP network; IPv4 addresses in their own form.
    Ip(IpAddr),
    /// Client of a Unix socket.
    Unix,
}

// === impl TrustedProxies ===

impl TrustedProxies {
    /// Parses networks in CIDR form, addresses, and the word `unix` for the clients of Unix sockets.
    pub fn parse(entries: impl IntoIterator<Item: AsRef<str>>) -> Result<Self, InvalidProxy> {
        let mut proxies = Self::default();
        for entry in entries {
            proxies.add(entry.as_ref())?;
        }
        Ok(proxies)
    }

    /// Adds a network in CIDR form, an address, or the clients of Unix sockets by the word `unix`.
    pub fn add(&mut self, entry: &str) -> Result<(), InvalidProxy> {
        let entry = entry.trim();
        if entry == UNIX {
            self.includes_unix = true;
            return Ok(());
        }
        let network = entry.parse::<IpNet>().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
        self.networks.push(network.map_err(|_| InvalidProxy(entry.to_owned()))?);
        Ok(())
    }

    /// Returns true if the peer's headers are believed.
    #[must_use]
    pub fn trusts(&self, peer: Peer) -> bool {
        match peer {
            Peer::Tcp(address) => self.contains(address.ip().to_canonical()),
            Peer::Unix(_) => self.includes_unix,
            // Headers may be those of the client that the proxy did not name.
            Peer::Unnamed(_) => false,
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

// === impl ClientAddress ===

impl ClientAddress {
    /// Finds the address of the client that a request is from.
    ///
    /// Reads `X-Forwarded-For`; if that is absent `Forwarded` (RFC 7239); if both are absent `X-Real-IP`. The
    /// order matters where a proxy writes one of them and passes on the others as the client sent them: nearly
    /// all proxies write the first one.
    #[must_use]
    pub fn find(peer: Peer, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        let mut nearest = match peer {
            Peer::Tcp(address) | Peer::Unnamed(Some(address)) => Self::Ip(address.ip().to_canonical()),
            Peer::Unix(_) | Peer::Unnamed(None) => Self::Unix,
        };
        if !trusted.trusts(peer) {
            return nearest;
        }
        for hop in hops(headers) {
            // Addresses before a hop without one may be forged.
            let Some(address) = hop else { break };
            nearest = Self::Ip(address);
            if !trusted.contains(address) {
                break;
            }
        }
        nearest
    }

    /// Returns the field that [`ClientAddress::find`] would read of this peer, and ignores because the peer is not a
    /// trusted proxy; `None` if there is none, or no list of proxies would change that.
    #[must_use]
    pub fn ignored_field(peer: Peer, headers: &HeaderMap, trusted: &TrustedProxies) -> Option<HeaderName> {
        if trusted.trusts(peer) || matches!(peer, Peer::Unnamed(_)) {
            return None;
        }
        FIELDS.into_iter().find(|field| headers.contains_key(field))
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str(UNIX),
        }
    }
}

/// Returns the hops that the headers name, the nearest one first; `None` for a hop without an address.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    if headers.contains_key(&X_FORWARDED_FOR) {
        for line in headers.get_all(&X_FORWARDED_FOR).iter().rev() {
            match line.to_str() {
                Ok(line) => hops.extend(line.rsplit(',').take(MAX_HOPS).map(address)),
                Err(_) => hops.push(None),
            }
        }
    } else if headers.contains_key(http::header::FORWARDED) {
        for line in headers.get_all(http::header::FORWARDED).iter().rev() {
            match line.to_str() {
                Ok(line) => hops.extend(split(line, ',').into_iter().rev().take(MAX_HOPS).map(forwarded_for)),
                Err(_) => hops.push(None),
            }
        }
    } else if let Some(line) = headers.get(&X_REAL_IP) {
        hops.push(line.to_str().ok().and_then(address));
    }
    hops.truncate(MAX_HOPS);
    hops
}

/// Returns the address in one element of `Forwarded` (RFC 7239, 4).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let value = split(element, ';').into_iter().find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    })?;
    // An address needs no escapes, so that a value with one is none.
    let unquoted = value.strip_prefix('"').map_or(Some(value), |value| value.strip_suffix('"'));
    address(unquoted?)
}

/// Splits text at a separator outside of quoted strings (RFC 9110, 5.6.4).
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut is_quoted, mut is_escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            c if c == separator && !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Parses an address, with or without a port; one of IPv6 also in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, port) = rest.split_once(']')?;
        let is_port =
            port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        return inner
            .parse::<Ipv6Addr>()
            .ok()
            .filter(|_| is_port)
            .map(|address| IpAddr::V6(address).to_canonical());
    }
    let with_port = || text.parse::<SocketAddrV4>().ok().map(|address| IpAddr::V4(*address.ip()));
    text.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(peer: &str, headers: &[(&'static str, &str)], trusted: &[&str]) -> String {
        let peer = if peer == UNIX { Peer::Unix(None) } else { Peer::Tcp(peer.parse().unwrap()) };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        ClientAddress::find(peer, &map, &TrustedProxies::parse(trusted).unwrap()).to_string()
    }

    #[test]
    fn row_144_an_address_that_a_stranger_sends_is_ignored() {
        let headers =
            [("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1"), ("x-real-ip", "127.0.0.1")];
        assert_eq!(find("198.51.100.7:1234", &headers, &[]), "198.51.100.7");
        assert_eq!(find("198.51.100.7:1234", &headers, &["10.0.0.0/8", "127.0.0.0/8"]), "198.51.100.7");
        assert_eq!(find("[2001:db8::7]:1", &headers, &["10.0.0.0/8"]), "2001:db8::7");
        assert_eq!(find(UNIX, &headers, &["10.0.0.0/8"]), "unix");
    }

    #[test]
    fn the_field_of_a_proxy_that_is_not_listed_is_told() {
        let ignored = |peer: Peer, field: &'static str, trusted: &[&str]| {
            let headers =
                [(HeaderName::from_static(field), "192.0.2.1".parse().unwrap())].into_iter().collect();
            let trusted = TrustedProxies::parse(trusted).unwrap();
            ClientAddress::ignored_field(peer, &headers, &trusted).map(|field| field.to_string())
        };
        let proxy = Peer::Tcp("10.0.0.1:1".parse().unwrap());
        for field in ["x-forwarded-for", "forwarded", "x-real-ip"] {
            assert_eq!(ignored(proxy, field, &["10.0.0.2"]).as_deref(), Some(field));
            assert_eq!(ignored(Peer::Unix(None), field, &[]).as_deref(), Some(field));
            assert_eq!(ignored(proxy, field, &["10.0.0.0/8"]), None);
            assert_eq!(ignored(Peer::Unix(None), field, &["unix"]), None);
            assert_eq!(
                ignored(Peer::Unnamed(None), field, &[]),
                None,
                "to list the proxy would change nothing"
            );
        }
        for field in ["x-forwarded-proto", "x-forwarded-host", "user-agent"] {
            assert_eq!(ignored(proxy, field, &[]), None, "{field} names no address");
        }
    }

    #[test]
    fn row_145_forwarded_is_parsed_with_its_quotes_and_bounded() {
        let of = |value: &str| find("10.0.0.1:1", &[("forwarded", value)], &["10.0.0.0/8", "192.168.1.1"]);
        assert_eq!(of("for=\"[::1]\";host=evil, for=192.168.1.1"), "::1");
        assert_eq!(of("For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
        assert_eq!(of("for=192.0.2.60;proto=http;by=203.0.113.43"), "192.0.2.60");
        assert_eq!(of("by=\"x, for=6.6.6.6\";for=192.0.2.43"), "192.0.2.43");
        assert_eq!(of("for=192.0.2.43, for=198.51.100.17"), "198.51.100.17");
        // No address, so that the last proxy is all that is known.
        for value in
            ["for=_hidden", "for=unknown", "host=x", "", "for=\"1.2.3.4", "for=\"1.2.3.\\4\"", "for", ";;,"]
        {
            assert_eq!(of(value), "10.0.0.1", "{value}");
        }
        assert_eq!(of("for=6.6.6.6, for=unknown, for=192.168.1.1"), "192.168.1.1");
        assert_eq!(of(&"for=10.0.0.2, ".repeat(100_000)), "10.0.0.1");
        assert_eq!(of(&format!("for=6.6.6.6{}", ", for=10.0.0.2".repeat(1000))), "10.0.0.2");
    }

    #[test]
    fn trusted_hops_are_passed_from_the_nearest_one_on() {
        let trusted = ["10.0.0.0/8", "fd00::/8", "unix"];
        let of = |value: &str| find("10.0.0.1:1", &[("x-forwarded-for", value)], &trusted);
        assert_eq!(of("6.6.6.6, 198.51.100.7"), "198.51.100.7");
        assert_eq!(of("6.6.6.6, 198.51.100.7, 10.1.2.3,fd00::1"), "198.51.100.7");
        assert_eq!(of("6.6.6.6, nonsense, 10.1.2.3"), "10.1.2.3");
        assert_eq!(of("198.51.100.7:4711"), "198.51.100.7");
        assert_eq!(of("[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(of("[2001:db8::1]x"), "10.0.0.1");
        assert_eq!(of("::ffff:198.51.100.7"), "198.51.100.7");
        assert_eq!(of("10.1.2.3"), "10.1.2.3");
        assert_eq!(
            find("[::ffff:10.0.0.1]:1", &[("x-forwarded-for", "198.51.100.7")], &trusted),
            "198.51.100.7"
        );
        assert_eq!(find(UNIX, &[("x-real-ip", "198.51.100.7")], &trusted), "198.51.100.7");
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.7, 10.0.0.9")];
        assert_eq!(find("10.0.0.1:1", &lines, &trusted), "198.51.100.7");
    }

    #[test]
    fn headers_that_proxies_pass_on_unread_do_not_count_beside_those_they_write() {
        let headers =
            [("forwarded", "for=6.6.6.6"), ("x-real-ip", "6.6.6.6"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(find("10.0.0.1:1", &headers, &["10.0.0.1"]), "192.0.2.1");
        assert_eq!(find("10.0.0.1:1", &headers[..2], &["10.0.0.1"]), "6.6.6.6");
    }

    #[test]
    fn a_list_of_proxies_has_networks_addresses_and_unix_alone() {
        let proxies = TrustedProxies::parse(["10.0.0.0/8", " ::1 ", "unix"]).unwrap();
        assert_eq!(proxies.networks.len(), 2);
        for entry in ["localhost", "10.0.0.0/33", "", "*", "10.0.0.1:80"] {
            let error = TrustedProxies::parse([entry]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{entry:?} is not a network")), "{error}");
        }
    }
}
