//! URL of a token endpoint as the client of a request reaches it. Pure.
//!
//! The `Host` field of a request is reflected here and nowhere else. A client that forges it sends only
//! itself to another server, and responses with a realm are never cached.

use std::net::Ipv6Addr;

use http::header::HOST;
use http::{HeaderMap, HeaderName, Uri};

use crate::PathPrefix;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Longest name of a host, in bytes (RFC 1035, 2.3.4).
const MAX_HOST_BYTES: usize = 253;

/// Error of [`realm`] for a request that does not tell the host of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Host is not of the form host[:port]")]
pub struct InvalidHost;

/// Returns the absolute URL of `path`, which begins with `/`, in front of which `prefix` is put.
///
/// `configured` is `http.host`, whose scheme and authority win. Else the host is that of the request's only
/// `Host` field, and the scheme is `https` if the connection is TLS or the first value of `X-Forwarded-Proto`
/// says so. The result has no character that ends a quoted string of a challenge (RFC 9110, 11.2).
pub fn realm(
    configured: Option<&Uri>,
    headers: &HeaderMap,
    is_tls: bool,
    prefix: &PathPrefix,
    path: &str,
) -> Result<String, InvalidHost> {
    let prefix = prefix.without_slash();
    if let Some((scheme, host)) = configured.and_then(scheme_and_host) {
        return Ok(format!("{scheme}://{host}{prefix}{path}"));
    }
    let scheme = if is_tls || is_forwarded_https(headers) { "https" } else { "http" };
    let host = host_of(headers).ok_or(InvalidHost)?;
    Ok(format!("{scheme}://{host}{prefix}{path}"))
}

/// Returns the scheme and the authority of a configured URL, whose user, password and path are left out.
fn scheme_and_host(uri: &Uri) -> Option<(&str, &str)> {
    let authority = uri.authority()?.as_str();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    is_host_and_port(host).then_some((uri.scheme_str()?, host))
}

/// Returns true if a proxy says that TLS ends there.
pub(crate) fn is_forwarded_https(headers: &HeaderMap) -> bool {
    let value = headers.get(&X_FORWARDED_PROTO).and_then(|value| value.to_str().ok());
    let first = value.and_then(|value| value.split(',').next());
    first.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
}

fn host_of(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all(HOST).iter();
    let host = fields.next()?.to_str().ok()?;
    // Proxies and servers may read two fields differently.
    (fields.next().is_none() && is_host_and_port(host)).then_some(host)
}

/// Returns true for a registered name, an IPv4 address or an IPv6 address in brackets, and perhaps a port.
fn is_host_and_port(text: &str) -> bool {
    let (is_host, rest) = if let Some(inner) = text.strip_prefix('[') {
        let Some((address, rest)) = inner.split_once(']') else { return false };
        (address.parse::<Ipv6Addr>().is_ok(), rest)
    } else {
        let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        (!name.is_empty() && name.len() <= MAX_HOST_BYTES && name.bytes().all(is_plain), rest)
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_host && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PATH: &str = "/v2/_token";

    fn headers(fields: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn of_host(host: &[u8]) -> Result<String, InvalidHost> {
        realm(None, &headers(&[("host", host)]), false, &PathPrefix::default(), PATH)
    }

    #[test]
    fn the_host_is_reflected_if_it_is_a_host_and_a_port() {
        for host in [
            "registry.example",
            "registry.example:5000",
            "localhost",
            "my_service:80",
            "192.0.2.7:5000",
            "[::1]",
            "[2001:db8::7]:5000",
            "UPPER.example",
        ] {
            assert_eq!(of_host(host.as_bytes()), Ok(format!("http://{host}/v2/_token")), "{host}");
        }
    }

    #[test]
    fn row_143_a_host_with_anything_else_is_never_copied() {
        let long = "a".repeat(64 * 1024);
        for host in [
            "evil\"\r\n",
            "evil\"",
            "a b",
            "user@h",
            "h/path",
            "h?q",
            "h#f",
            "h,other",
            "h\\",
            "%41",
            "h\u{e4}",
            "",
            ":5000",
            "h:",
            "h:x",
            "h:+1",
            "h:65536",
            "h:1:2",
            "::1",
            "[::1",
            "[::1]x",
            "[::g]",
            "[fe80::1%25eth0]",
            &long,
        ] {
            // Line ends cannot be in a field at all.
            if HeaderValue::from_bytes(host.as_bytes()).is_ok() {
                assert_eq!(of_host(host.as_bytes()), Err(InvalidHost), "{host}");
            }
            assert!(!is_host_and_port(host), "{host}");
        }
        assert_eq!(of_host(b"\xff"), Err(InvalidHost));
        let two = headers(&[("host", b"a"), ("host", b"b")]);
        assert_eq!(realm(None, &two, false, &PathPrefix::default(), PATH), Err(InvalidHost));
        let none = HeaderMap::new();
        assert_eq!(realm(None, &none, false, &PathPrefix::default(), PATH), Err(InvalidHost));
    }

    #[test]
    fn the_scheme_follows_the_connection_and_the_nearest_statement_of_a_proxy() {
        let scheme = |is_tls, proto: &[u8]| {
            let headers = headers(&[("host", b"h"), ("x-forwarded-proto", proto)]);
            let realm = realm(None, &headers, is_tls, &PathPrefix::default(), PATH).unwrap();
            realm.split_once(':').unwrap().0.to_owned()
        };
        assert_eq!(scheme(true, b"http"), "https");
        for (proto, expected) in [
            (&b"https"[..], "https"),
            (b"HTTPS", "https"),
            (b"https, http", "https"),
            (b"http, https", "http"),
            (b"ftp", "http"),
            (b"", "http"),
            (b"\xff", "http"),
        ] {
            assert_eq!(scheme(false, proto), expected, "{proto:?}");
        }
    }

    #[test]
    fn the_configured_url_wins_and_gives_only_its_scheme_and_host() {
        let forged = headers(&[("host", b"evil.example"), ("x-forwarded-proto", b"http")]);
        let of = |configured: &str| {
            realm(Some(&configured.parse().unwrap()), &forged, true, &PathPrefix::default(), PATH).unwrap()
        };
        assert_eq!(of("https://registry.example"), "https://registry.example/v2/_token");
        assert_eq!(of("http://registry.example:5000/"), "http://registry.example:5000/v2/_token");
        assert_eq!(of("https://user:pass@registry.example/x?y"), "https://registry.example/v2/_token");
        let none = HeaderMap::new();
        let configured = "https://registry.example".parse().unwrap();
        assert!(realm(Some(&configured), &none, false, &PathPrefix::default(), PATH).is_ok());
    }

    #[test]
    fn the_prefix_stands_in_front_of_the_path() {
        let prefix = "/registry/".parse().unwrap();
        let host = headers(&[("host", b"h:1")]);
        assert_eq!(realm(None, &host, false, &prefix, PATH).unwrap(), "http://h:1/registry/v2/_token");
        let configured = "https://r.example/elsewhere/".parse().unwrap();
        let of_configured = realm(Some(&configured), &host, false, &prefix, PATH).unwrap();
        assert_eq!(of_configured, "https://r.example/registry/v2/_token");
    }
}
