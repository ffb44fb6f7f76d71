//! Access control from a configuration, with the files that it names.

mod tokens;
mod users;

use std::sync::Arc;

use quinistry_http::watch::ReloadFiles;

use super::access_control::AccessControl;
use super::authenticator::{Authenticator, ConnectionVerifier};
use super::certificate::CertificateUsers;
use super::challenge::Challenge;
use super::htpasswd::CreatedUser;
use super::rules::{Groups, PatternError, Rules};
use crate::config::{AccessConfig, Config};

pub use self::users::UserState;

/// Realm of passwords if the configuration names none.
const DEFAULT_REALM: &str = "quinistry";

/// Access control of a configuration.
#[derive(Default)]
pub struct LoadedAccess {
    /// Access control; `None` if there are neither users nor rules, and each client may do everything.
    pub control: Option<Arc<AccessControl>>,
    /// Values that were read from files, and change with them.
    pub files: Vec<Arc<dyn ReloadFiles>>,
    /// User of a password file that did not exist. Its password must be told, but not to the log.
    pub created_user: Option<CreatedUser>,
}

/// Error of [`load`].
pub type LoadError = Box<dyn std::error::Error + Send + Sync>;

/// Makes the access control of a configuration, with what is known of users so far. Reads the files that it
/// names; blocks.
pub fn load(config: &Config, users: &UserState) -> Result<LoadedAccess, LoadError> {
    let rules = rules(&config.access)?;
    // Sources of identities, in the order in which they are asked: API keys, passwords, tokens.
    let user_metrics = users.metrics();
    let users::LoadedUsers { mut verifiers, mut files, realm: basic_realm, missing, versions } =
        users::load(&config.users, users)?;
    // Clients give up anonymous pulls after a Basic challenge, so they get tokens where they may do
    // something.
    let offers_tokens = config.tokens.is_enabled || rules.grant_to_anonymous();
    let token_issuer = match versions.filter(|_| offers_tokens) {
        Some(versions) => Some(tokens::issuer(config, versions)?),
        None => None,
    };
    if let Some(issuer) = &token_issuer {
        verifiers.push(Arc::new(tokens::Counted::new(issuer.clone(), user_metrics)));
        if config.tokens.key.is_some() {
            files.push(issuer.clone());
        }
    }
    let mut external: Option<Challenge> = None;
    if let Some(server) = &config.token_server {
        let (verifier, challenge) = tokens::external(server, config.http.host.clone())?;
        verifiers.push(Arc::new(tokens::Counted::new(verifier.clone(), user_metrics)));
        files.push(verifier);
        external = Some(challenge);
    }
    // Client certificates (`quinistry.clientcerts`).
    let fields = &config.http.certificate_names;
    let connection = (!fields.is_empty()).then(|| {
        let users = Arc::new(CertificateUsers(fields.clone()));
        Arc::new(tokens::Counted::new(users, user_metrics)) as Arc<dyn ConnectionVerifier>
    });
    let authenticator = Authenticator { verifiers, connection };
    if !authenticator.knows_users() && config.access.rules.is_none() {
        return Ok(LoadedAccess::default());
    }
    let challenge = match (external, &token_issuer) {
        (Some(external), _) => external,
        (None, Some(issuer)) => {
            Challenge::OwnToken { service: issuer.service.clone(), host: config.http.host.clone() }
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
    let created_user = missing.map(|file| file.create()).transpose()?.flatten();
    Ok(LoadedAccess { control: Some(Arc::new(control)), files, created_user })
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
        f.debug_struct("LoadedAccess")
            .field("control", &self.control)
            .field("files", &files)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
