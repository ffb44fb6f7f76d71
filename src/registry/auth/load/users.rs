//! Users of an htpasswd file, and API keys, from a configuration.

use std::sync::Arc;

use quinistry_http::watch::ReloadFiles;

use super::LoadError;
use super::tokens::UserVersions;
use crate::auth::api_keys::{ApiKeyVerifier, ApiKeysFile, SeenFiles};
use crate::auth::authenticator::CredentialVerifier;
use crate::auth::htpasswd::HtpasswdFile;
use crate::auth::password::{PasswordChecks, PasswordVerifier};
use crate::config::UsersConfig;
use crate::metrics::AuthMetrics;

/// State of users that outlives a configuration: passwords that were right, failures, and metrics.
#[derive(Debug)]
pub struct UserState {
    passwords: Arc<PasswordChecks>,
    metrics: Arc<AuthMetrics>,
    /// Files of API keys that existed: without one of them, a new configuration is refused.
    key_files: SeenFiles,
    /// Treatment of a password file that does not exist.
    is_created_if_missing: bool,
}

/// Sources of users.
#[derive(Default)]
pub(super) struct LoadedUsers {
    pub(super) verifiers: Vec<Arc<dyn CredentialVerifier>>,
    pub(super) files: Vec<Arc<dyn ReloadFiles>>,
    pub(super) realm: Option<String>,
    /// Password file that is to be created after everything else that can fail: its password is told once.
    pub(super) missing: Option<Arc<HtpasswdFile>>,
    /// Versions of the credentials, by which tokens end; `None` without users.
    pub(super) versions: Option<Arc<UserVersions>>,
}

// === impl UserState ===

impl UserState {
    /// Makes the state of a registry that starts: a password file that does not exist is created. Fails if
    /// the system has no random numbers.
    pub fn new() -> Result<Self, LoadError> {
        let metrics = Arc::new(AuthMetrics::default());
        let passwords =
            PasswordChecks::new(metrics.clone()).map_err(|_| "the system gives no random numbers")?;
        let passwords = Arc::new(passwords);
        Ok(Self { passwords, metrics, key_files: SeenFiles::default(), is_created_if_missing: true })
    }

    /// Returns the same state for a registry that runs: a password file that does not exist is an error then,
    /// since it may be about to come back.
    #[must_use]
    pub fn running(&self) -> Self {
        Self {
            passwords: self.passwords.clone(),
            metrics: self.metrics.clone(),
            key_files: self.key_files.clone(),
            is_created_if_missing: false,
        }
    }

    /// Returns the metrics of credentials.
    #[must_use]
    pub fn metrics(&self) -> &Arc<AuthMetrics> {
        &self.metrics
    }
}

/// Reads the files of users and keys. Blocks.
pub(super) fn load(config: &UsersConfig, state: &UserState) -> Result<LoadedUsers, LoadError> {
    let Some(htpasswd) = &config.htpasswd else { return Ok(LoadedUsers::default()) };
    let opened = if state.is_created_if_missing {
        HtpasswdFile::open_if_exists(&htpasswd.path)?
    } else {
        Some(HtpasswdFile::open(&htpasswd.path)?)
    };
    let is_missing = opened.is_none();
    let file = Arc::new(opened.unwrap_or_else(|| HtpasswdFile::to_be_created(&htpasswd.path)));
    let (mut verifiers, mut files) =
        (Vec::<Arc<dyn CredentialVerifier>>::new(), Vec::<Arc<dyn ReloadFiles>>::new());
    // Keys first: they are recognised by their form, and need no computation of bcrypt.
    let mut keys_verifier = None;
    if let Some(path) = &config.keys_file {
        let keys = Arc::new(ApiKeysFile::open(path, state.key_files.clone())?);
        let verifier = Arc::new(ApiKeyVerifier::new(keys.clone(), file.clone(), state.metrics.clone()));
        keys_verifier = Some(verifier.clone());
        verifiers.push(verifier);
        files.push(keys);
    }
    let versions = Arc::new(UserVersions { users: file.clone(), keys: keys_verifier });
    verifiers.push(Arc::new(PasswordVerifier::new(file.clone(), state.passwords.clone())));
    files.push(file.clone());
    let realm = Some(htpasswd.realm.clone());
    let missing = is_missing.then_some(file);
    Ok(LoadedUsers { verifiers, files, realm, missing, versions: Some(versions) })
}
