//! Challenge of a 401: how a client gets credentials (RFC 7617, 2; RFC 6750, 3; the registry's token
//! specification). Pure.
//!
//! A response has exactly one challenge. Clients differ in which of several they take.

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderValue, Uri};
use quinistry_http::tls::TlsSession;
use quinistry_oci::RepositoryName;

use super::realm::{InvalidHost, is_forwarded_https, realm};
use super::right::Right;
use crate::PathPrefix;

/// Path of this registry's own token endpoint, below the prefix of all paths. A component of a repository
/// name cannot begin with `_`.
pub const TOKEN_PATH: &str = "/v2/_token";

/// Challenge of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Challenge {
    /// No challenge: the registry has no users, so that no credentials help a client that is refused.
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
        /// URL of this registry's host, if `http.host` names it; else each request's `Host` does.
        host: Option<Uri>,
    },
    /// Token of another server.
    ExternalToken {
        /// URL of the server.
        realm: String,
        /// Name of this registry in tokens.
        service: String,
        /// Path on this registry's own host that stands in for `realm`, if the configuration asks for one.
        own_path: Option<String>,
        /// URL of this registry's host for that path, if `http.host` names it; else each request's `Host` does.
        host: Option<Uri>,
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
    ) -> Result<Option<HeaderValue>, InvalidHost> {
        let (realm, service) = match self {
            Self::Impossible => return Ok(None),
            Self::Basic { realm } => return Ok(header(&format!("Basic realm={}", quoted(realm)))),
            Self::OwnToken { service, host } => {
                let url = realm(host.as_ref(), &request.headers, is_tls(request), prefix, TOKEN_PATH)?;
                (url, service)
            }
            Self::ExternalToken { realm, service, own_path: None, .. } => (realm.clone(), service),
            Self::ExternalToken { service, own_path: Some(path), host, .. } => {
                let root = PathPrefix::default();
                (realm(host.as_ref(), &request.headers, is_tls(request), &root, path)?, service)
            }
        };
        let mut value = format!("Bearer realm={},service={}", quoted(&realm), quoted(service));
        if let Some(scope) = scope {
            value.extend([",scope=", &quoted(&scope.to_string())]);
        }
        if let Some(error) = error.filter(|_| request.headers.contains_key(AUTHORIZATION)) {
            value.extend([",error=\"", error.as_str(), "\""]);
        }
        Ok(header(&value))
    }
}

/// Returns true if the client's connection itself is encrypted.
#[must_use]
pub fn is_tls(request: &Parts) -> bool {
    request.extensions.get::<TlsSession>().is_some()
}

/// Returns true if a request is encrypted on its way, as far as the registry knows: its connection is, or a proxy says
/// that TLS ends there.
pub(crate) fn is_protected(request: &Parts) -> bool {
    is_tls(request) || is_forwarded_https(&request.headers)
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
