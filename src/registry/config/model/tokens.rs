//! Tokens of another server, and of this registry.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::auth::token::algorithm::AllowedAlgorithms;
pub use crate::auth::token::external::KeyFiles;

/// Server whose tokens are accepted (`auth.token`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenServer {
    /// URL at which clients get tokens.
    pub realm: String,
    /// Name of this registry in tokens.
    pub service: String,
    /// Issuer that tokens must name.
    pub issuer: String,
    /// Files with the server's keys.
    pub keys: KeyFiles,
    /// Algorithms that are accepted.
    pub algorithms: AllowedAlgorithms,
    /// Path on this registry's own host that stands in for `realm`, beginning with `/`.
    pub own_path: Option<String>,
}

/// Tokens that this registry issues (`quinistry.tokens`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnTokens {
    /// True if clients get tokens also where they could send user and password with each request.
    pub is_enabled: bool,
    /// Lifetime of a token, at least a minute.
    pub lifetime: Duration,
    /// File of the private key that signs; without one, the key is derived from `http.secret`.
    pub key: Option<PathBuf>,
    /// Other registries that tokens are issued for.
    pub services: Vec<String>,
}

/// Text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
