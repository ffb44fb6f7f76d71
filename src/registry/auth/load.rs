//! Access control from a configuration, with the files that it names.

use std::sync::Arc;

use quinistry_http::watch::ReloadFiles;

use super::access_control::AccessControl;
use super::authenticator::{Authenticator, CredentialVerifier};
use super::challenge::Challenge;
use super::issue::TokenIssuer;
use super::rules::Rules;
use crate::config::Config;

/// Access control of a configuration.
#[derive(Default)]
pub struct LoadedAccess {
    /// Access control; `None` if there are neither users nor rules, and each client may do everything.
    pub control: Option<Arc<AccessControl>>,
    /// Values that were read from files, and change with them.
    pub files: Vec<Arc<dyn ReloadFiles>>,
}

/// Error of [`load`].
pub type LoadError = Box<dyn std::error::Error + Send + Sync>;

/// Makes the access control of a configuration. Reads the files that it names; blocks.
pub fn load(config: &Config) -> Result<LoadedAccess, LoadError> {
    let verifiers: Vec<Arc<dyn CredentialVerifier>> = Vec::new();
    let files: Vec<Arc<dyn ReloadFiles>> = Vec::new();
    // Sources of identities, in the order in which they are asked.
    // API keys (`quinistry.keys`): push a verifier, and its file.
    // Passwords (`auth.htpasswd`): push a verifier, and its file.
    // Tokens of another server (`auth.token`): push a verifier, and its files.
    // Tokens of this registry (`quinistry.tokens`): push a verifier, and set the issuer.
    let token_issuer: Option<Arc<TokenIssuer>> = None;
    let rules = Rules::default();
    let has_users = !verifiers.is_empty();
    if !has_users {
        return Ok(LoadedAccess::default());
    }
    let challenge = Challenge::default();
    let control = AccessControl {
        authenticator: Authenticator { verifiers, connection: None },
        rules,
        challenge,
        token_issuer,
        builtin_is_public: true,
        trusted_proxies: config.http.trusted_proxies.clone(),
    };
    Ok(LoadedAccess { control: Some(Arc::new(control)), files })
}

impl std::fmt::Debug for LoadedAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files: Vec<_> = self.files.iter().map(|file| file.name()).collect();
        f.debug_struct("LoadedAccess").field("control", &self.control).field("files", &files).finish()
    }
}
