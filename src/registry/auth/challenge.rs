//! Challenge of a 401: how a client gets credentials (RFC 7617, 2; RFC 6750, 3; the registry's token
//! specification). Pure.
//!
//! A response has exactly one challenge. Clients differ in which of several they take.

use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderName, HeaderValue};
use quinistry_oci::RepositoryName;

use super::right::Right;
use crate::PathPrefix;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Path of this registry's own token endpoint, below the prefix of all paths. A component of a repository name
/// cannot begin with `_`.
pub const TOKEN_PATH: &str = "/v2/_token";

/// Challenge of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Challenge {
    /// None: there are no users, and a client that may not do something can do nothing about it.
    #[default]
    Impossible,
    /// User name and password, with each request.
    Basic {
        /// Name of the protected space.
        realm: String,
    },
    /// Token of this registry's own endpoint.
    OwnToken {
        /// Name of this registry in tokens.
        service: String,
        /// Scheme and host of this registry, such as `https://registry.example.com`; `None` if each request's
        /// `Host` names the registry.
        origin: Option<String>,
    },
    /// Token of another server.
    ExternalToken {
        /// URL of the server.
        realm: String,
        /// Name of this registry in tokens.
        service: String,
        /// Path on this registry's own host that stands in for `realm`, if the configuration asks for one.
        own_path: Option<String>,
    },
}

/// Error code in a challenge (RFC 6750, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeError {
    /// Credentials that are not valid or have expired.
    InvalidToken,
    /// Credentials that are limited to less than the request needs.
    InsufficientScope,
}

/// Request whose `Host` is absent, or not a host with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Host header is not a host with or without a port")]
pub struct UnknownHost;

/// Rights that a request needs, as a token's scope names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Rights in a repository.
    Repository(&'a RepositoryName, &'a [Right]),
    /// List of all repositories.
    Catalog,
}

// === impl Challenge ===

impl Challenge {
    /// Returns the value of `WWW-Authenticate`; `None` if no credentials help. Fails if the URL of the token
    /// endpoint depends on a `Host` that is not valid.
    pub fn to_header_value(
        &self,
        request: &Parts,
        prefix: &PathPrefix,
        scope: Option<Scope<'_>>,
        error: Option<ChallengeError>,
    ) -> Result<Option<HeaderValue>, UnknownHost> {
        let (realm, service) = match self {
            Self::Impossible => return Ok(None),
            Self::Basic { realm } => return Ok(header(&format!("Basic realm={}", quoted(realm)))),
            Self::OwnToken { service, origin } => {
                let origin = origin.clone().or_else(|| origin_of(request)).ok_or(UnknownHost)?;
                (format!("{origin}{}", prefix.prepend(TOKEN_PATH)), service)
            }
            Self::ExternalToken { realm, service, own_path: None } => (realm.clone(), service),
            Self::ExternalToken { service, own_path: Some(path), .. } => {
                (format!("{}{path}", origin_of(request).ok_or(UnknownHost)?), service)
            }
        };
        let mut value = format!("Bearer realm={},service={}", quoted(&realm), quoted(service));
        if let Some(scope) = scope {
            value += &format!(",scope={}", quoted(&scope.to_string()));
        }
        if let Some(error) = error.filter(|_| request.headers.contains_key(AUTHORIZATION)) {
            value += &format!(",error=\"{}\"", error.as_str());
        }
        Ok(header(&value))
    }
}

/// Returns the origin under which the client reached the registry, if its `Host` is a host with or without a port
/// and nothing else. A forged one misleads its sender alone.
#[must_use]
pub fn origin_of(request: &Parts) -> Option<String> {
    let host = request.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri.authority().map(Authority::as_str))?;
    let scheme = if is_secure(request) { "https" } else { "http" };
    is_host(host).then(|| format!("{scheme}://{host}"))
}

/// Returns true if the client's own connection is encrypted, as far as the registry knows.
#[must_use]
pub fn is_secure(request: &Parts) -> bool {
    let forwarded = request.headers.get(&X_FORWARDED_PROTO).and_then(|value| value.to_str().ok());
    forwarded
        .is_some_and(|value| value.split(',').next().unwrap_or_default().trim().eq_ignore_ascii_case("https"))
}

/// Returns true for a registered name, an IPv4 address or a bracketed IPv6 address, with or without a port.
fn is_host(text: &str) -> bool {
    let Ok(authority) = text.parse::<Authority>() else { return false };
    let host = authority.host();
    let is_name = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let is_address = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    let port = &text[host.len().min(text.len())..];
    let has_port = port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    text.starts_with(host) && is_address && (port.is_empty() || has_port) && host.len() <= 253
}

/// Quotes text for a header (RFC 9110, 5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn header(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

// === impl ChallengeError ===

impl ChallengeError {
    const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
        }
    }
}

// === impl Scope ===

impl std::fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Repository(name, rights) => {
                write!(f, "repository:{name}:")?;
                for (index, right) in rights.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "," };
                    write!(f, "{separator}{}", right.as_str())?;
                }
                Ok(())
            }
            Self::Catalog => f.write_str("registry:catalog:*"),
        }
    }
}
