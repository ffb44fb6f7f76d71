//! Access control from a configuration, with the files that it names.

use std::sync::Arc;

use quinistry_http::watch::ReloadFiles;

use super::access_control::AccessControl;
use super::authenticator::{Authenticator, ConnectionVerifier, CredentialVerifier};
use super::certificate::CertificateUsers;
use super::challenge::Challenge;
use super::issue::TokenIssuer;
use super::rules::{Groups, PatternError, Rules};
use crate::config::{AccessConfig, Config};

/// Realm of passwords if the configuration names none.
const DEFAULT_REALM: &str = "quinistry";

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
    let rules = rules(&config.access)?;
    let verifiers: Vec<Arc<dyn CredentialVerifier>> = Vec::new();
    let files: Vec<Arc<dyn ReloadFiles>> = Vec::new();
    // Sources of identities, in the order in which they are asked.
    // API keys (`quinistry.keys`): push a verifier, and its file.
    // Passwords (`auth.htpasswd`): push a verifier, and its file; set `basic_realm`.
    let basic_realm: Option<String> = None;
    // Tokens of another server (`auth.token`): push a verifier, and its files; set the challenge.
    let external: Option<Challenge> = None;
    // Tokens of this registry (`quinistry.tokens`): push a verifier, and set the issuer. The challenge offers them
    // if clients without credentials may do something, since clients give up anonymous pulls after a Basic one.
    let token_issuer: Option<Arc<TokenIssuer>> = None;
    let offers_tokens = rules.grant_to_anonymous();
    // Client certificates (`quinistry.clientcerts`).
    let fields = &config.http.certificate_names;
    let connection = (!fields.is_empty())
        .then(|| Arc::new(CertificateUsers(fields.clone())) as Arc<dyn ConnectionVerifier>);
    let authenticator = Authenticator { verifiers, connection };
    if !authenticator.knows_users() && config.access.rules.is_none() {
        return Ok(LoadedAccess::default());
    }
    let challenge = match (external, &token_issuer) {
        (Some(external), _) => external,
        (None, Some(issuer)) if offers_tokens => {
            Challenge::OwnToken { service: issuer.service.clone(), host: None }
        }
        (None, _) if authenticator.verifiers.is_empty() => Challenge::Impossible,
        (None, _) => Challenge::Basic { realm: basic_realm.unwrap_or_else(|| DEFAULT_REALM.into()) },
    };
    let control = AccessControl {
        authenticator,
        rules,
        challenge,
        token_issuer,
        builtin_is_public: config.access.builtin_is_public,
        trusted_proxies: config.http.trusted_proxies.clone(),
    };
    Ok(LoadedAccess { control: Some(Arc::new(control)), files })
}

/// Compiles the rules of a configuration.
pub fn rules(access: &AccessConfig) -> Result<Rules, PatternError> {
    match &access.rules {
        None => Ok(Rules::default()),
        Some(rules) => Rules::new(rules, Groups::new(&access.groups)?),
    }
}

impl std::fmt::Debug for LoadedAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files: Vec<_> = self.files.iter().map(|file| file.name()).collect();
        f.debug_struct("LoadedAccess").field("control", &self.control).field("files", &files).finish()
    }
}
