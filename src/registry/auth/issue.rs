//! Issuer of this registry's own tokens, and their verification.
//!
//! A token names its user and the actions that the rules grant. At each use the rules are asked again, and
//! the version of the user's credentials is compared, so that a removed user or a changed password ends the
//! token.

mod request;
mod signing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinistry_http::client_address::ClientAddress;
use quinistry_http::watch::ReloadFiles;
use serde::Serialize;

pub use self::request::{GrantType, TokenRequest, TokenRequestError};
pub use self::signing::{SigningKey, SigningKeyError};
use super::api_keys::KeyUser;
use super::authenticator::{CredentialVerifier, Credentials, Verification};
use super::identity::{Identity, IdentityProof};
use super::regular_file;
use super::token::access::{AccessEntry, TokenCeiling};
use super::token::bearer::{KeysInUse, seconds_since_epoch, verify_bearer};
use super::token::cache::TokenCache;
use super::token::verification::{self, MAX_TOKEN_BYTES, TokenPolicy, VerifiedToken};
use super::{AuthenticationError, Ceiling};

/// Issuer in this registry's tokens.
pub const ISSUER: &str = "quinistry";

/// Shortest lifetime of a token: clients take a token for valid for a minute if they are told less.
pub const MIN_LIFETIME: Duration = Duration::from_mins(1);

/// Time by which a token is valid before it is issued, for clocks of other verifiers that are slow, in
/// seconds.
const EARLY_SECONDS: u64 = 10;

/// Longest file of a key, in bytes.
const MAX_KEY_FILE_BYTES: usize = 64 * 1024;

/// State of the credentials that tokens are issued for.
pub trait CredentialVersions: std::fmt::Debug + Send + Sync {
    /// Returns a value that changes with the user's password; `None` if there is no such user.
    fn version_of_user(&self, user: &str) -> Option<[u8; 8]>;

    /// Returns the API key with an identifier; `None` if the key or its owner does not exist.
    fn api_key(&self, id: &str) -> Option<KeyUser>;
}

/// Settings of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSettings {
    /// Name of this registry in tokens.
    pub service: String,
    /// Other registries that tokens are issued for.
    pub other_services: Vec<String>,
    /// Lifetime of a token.
    pub lifetime: Duration,
    /// File of the key that signs; without one, the key is derived from a secret.
    pub key_file: Option<PathBuf>,
}

/// Issuer of tokens at [`TOKEN_PATH`](super::challenge::TOKEN_PATH), and source of identities from them.
pub struct TokenIssuer {
    /// Name of this registry in tokens.
    pub service: String,
    settings: TokenSettings,
    versions: Arc<dyn CredentialVersions>,
    key: KeysInUse<SigningKey, VerifiedToken>,
}

/// Token that was issued.
#[derive(Debug)]
pub struct IssuedToken {
    /// Token.
    pub token: String,
    /// Time at which the token was issued, in seconds since the epoch.
    pub issued: u64,
    /// Lifetime in seconds.
    pub lifetime: u64,
    /// Number of entries of the access that the token holds, from the first on.
    pub entries: usize,
}

#[derive(Serialize)]
struct IssuedClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    exp: u64,
    iat: u64,
    nbf: u64,
    jti: String,
    access: &'a [AccessEntry],
    ver: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

// === impl TokenIssuer ===

impl TokenIssuer {
    /// Makes an issuer, whose key comes from the file of the settings, or else from `secret`. Blocks.
    pub fn open(
        settings: TokenSettings,
        secret: Option<&[u8]>,
        versions: Arc<dyn CredentialVersions>,
    ) -> Result<Self, SigningKeyError> {
        let key = match (&settings.key_file, secret) {
            (Some(path), _) => SigningKey::of_pem(&read(path)?).map_err(|error| error.in_file(path))?,
            (None, Some(secret)) => SigningKey::of_secret(secret),
            (None, None) => SigningKey::of_process(),
        };
        Ok(Self { service: settings.service.clone(), settings, versions, key: KeysInUse::new(key) })
    }

    /// Returns true if the tokens of `other` are not valid here, since they are signed with another key.
    #[must_use]
    pub fn ends_tokens_of(&self, other: &Self) -> bool {
        self.key.current().keys.id() != other.key.current().keys.id()
    }

    /// Returns the service that a request names, if tokens are issued for it.
    #[must_use]
    pub fn find_service(&self, requested: Option<&str>) -> Option<&str> {
        let Some(requested) = requested.filter(|name| !name.is_empty()) else { return Some(&self.service) };
        let mut known = std::iter::once(&self.service).chain(&self.settings.other_services);
        known.find(|service| *service == requested).map(String::as_str)
    }

    /// Returns the public keys as a JWK set; without keys if a secret signs.
    #[must_use]
    pub fn jwk_set(&self) -> serde_json::Value {
        serde_json::json!({ "keys": self.key.current().keys.public_jwk().into_iter().collect::<Vec<_>>() })
    }

    /// Issues a token. The last entries of an access that no longer fit into [`MAX_TOKEN_BYTES`] are left out: the
    /// registry itself would refuse a longer token. `None` if the identity is not one of a password, of an API key
    /// or of an anonymous client, or its credentials have just ended.
    #[must_use]
    pub fn issue(&self, identity: &Identity, service: &str, access: &[AccessEntry]) -> Option<IssuedToken> {
        self.issue_at(identity, service, access, seconds_since_epoch())
    }

    fn issue_at(
        &self,
        identity: &Identity,
        service: &str,
        access: &[AccessEntry],
        now: u64,
    ) -> Option<IssuedToken> {
        let name = identity.name.as_deref();
        let mut expires = now.saturating_add(self.settings.lifetime.max(MIN_LIFETIME).as_secs());
        let (version, key) = match (&identity.proof, name) {
            (IdentityProof::Anonymous, None) => (None, None),
            // The password may have changed since it was verified.
            (IdentityProof::Password { version }, Some(user)) => {
                let current = self.versions.version_of_user(user)?;
                (Some(version.filter(|version| *version == current)?), None)
            }
            (IdentityProof::ApiKey(id), Some(_)) => {
                let key = self.versions.api_key(id).filter(|key| is_valid(key, now))?;
                expires = expires.min(end_of(&key));
                (Some(key.version), Some(&**id))
            }
            _ => return None,
        };
        let mut claims = IssuedClaims {
            iss: ISSUER,
            aud: service,
            sub: name.unwrap_or_default(),
            exp: expires,
            iat: now,
            nbf: now.saturating_sub(EARLY_SECONDS),
            jti: signing::random_id(),
            access,
            ver: version.map(|version| signing::encode(&version)).unwrap_or_default(),
            key,
        };
        let current = self.key.current();
        let mut token = current.keys.sign(&claims)?;
        while token.len() > MAX_TOKEN_BYTES {
            let (_, rest) = claims.access.split_last()?;
            claims.access = rest;
            token = current.keys.sign(&claims)?;
        }
        let entries = claims.access.len();
        Some(IssuedToken { token, issued: now, lifetime: expires.saturating_sub(now), entries })
    }

    /// Verifies a token at `now`, in seconds since the epoch; `None` if it does not name this registry's key.
    fn identify(
        &self,
        token: &str,
        now: u64,
        instant: Instant,
    ) -> Option<Result<Identity, AuthenticationError>> {
        let current = self.key.current();
        let cache_key = TokenCache::<VerifiedToken>::key(token);
        let verified = match current.verified.get(&cache_key, instant) {
            Some(verified) => verified,
            None if !verification::names_key(token, current.keys.id()) => return None,
            None => {
                let policy = TokenPolicy {
                    algorithms: current.keys.algorithms(),
                    issuer: ISSUER.into(),
                    audience: self.service.clone(),
                };
                match verification::verify_own(token, &policy, current.keys.verification(), now) {
                    Ok(verified) => {
                        current.verified.insert(cache_key, token.len(), verified.clone(), instant);
                        verified
                    }
                    Err(error) => return Some(Err(invalid(&error))),
                }
            }
        };
        Some(
            verified
                .validity
                .check(now)
                .map_err(|error| invalid(&error))
                .and_then(|()| self.identity(verified, now)),
        )
    }

    /// Returns the identity of a token, if the credentials that it was issued for are still the same.
    fn identity(&self, token: VerifiedToken, now: u64) -> Result<Identity, AuthenticationError> {
        let ended = || invalid(&"credentials that the token was issued for have changed");
        let (version, inner): (Option<[u8; 8]>, Option<Arc<dyn Ceiling>>) =
            match (&token.subject, &token.api_key) {
                (None, _) => (None, None),
                (Some(user), None) => (Some(self.versions.version_of_user(user).ok_or_else(ended)?), None),
                (Some(user), Some(id)) => {
                    let key = self.versions.api_key(id).filter(|key| is_valid(key, now)).ok_or_else(ended)?;
                    if *key.owner != **user {
                        return Err(ended());
                    }
                    (Some(key.version), Some(key.ceiling))
                }
            };
        if version.map(|version| signing::encode(&version)).unwrap_or_default() != token.version {
            return Err(ended());
        }
        Ok(Identity {
            name: token.subject.map(Into::into),
            proof: IdentityProof::OwnToken { key: token.api_key.map(Into::into) },
            ceiling: Some(Arc::new(TokenCeiling::new(token.access, inner))),
        })
    }
}

/// Returns the time at which a key ends, in seconds since the epoch.
fn end_of(key: &KeyUser) -> u64 {
    key.expires.map_or(u64::MAX, |end| u64::try_from(end.as_second()).unwrap_or(0))
}

fn is_valid(key: &KeyUser, now: u64) -> bool {
    now < end_of(key)
}

fn invalid(reason: &dyn std::fmt::Display) -> AuthenticationError {
    AuthenticationError::Invalid { reason: reason.to_string() }
}

/// Reads the file of a signing key. One that every user of the machine can write is refused, also while it is in use.
fn read(path: &std::path::Path) -> Result<Vec<u8>, SigningKeyError> {
    let file = || path.display().to_string();
    let read = regular_file::read(path, MAX_KEY_FILE_BYTES);
    let read = read.map_err(|error| SigningKeyError::Read { file: file(), error })?;
    if read.mode & regular_file::WRITABLE_BY_ALL != 0 {
        return Err(SigningKeyError::Writable { file: file() });
    }
    Ok(read.bytes)
}

impl CredentialVerifier for TokenIssuer {
    fn verify<'a>(&'a self, credentials: Credentials<'a>, _: Option<ClientAddress>) -> Verification<'a> {
        verify_bearer(credentials, |token, now, instant| self.identify(token, now, instant))
    }
}

impl ReloadFiles for TokenIssuer {
    fn name(&self) -> &'static str {
        "token_signing_key"
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.settings.key_file.iter().cloned().collect()
    }

    fn reload(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Some(path) = &self.settings.key_file else { return Ok(()) };
        self.key.replace(SigningKey::of_pem(&read(path)?).map_err(|error| error.in_file(path))?);
        Ok(())
    }
}

impl std::fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenIssuer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
