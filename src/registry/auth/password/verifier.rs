//! Source of identities from user names and passwords of an htpasswd file.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use quinistry_http::Network;
use quinistry_http::client_address::ClientAddress;

use super::checks::{PasswordAttempt, PasswordChecks};
use crate::auth::authenticator::{CredentialVerifier, Credentials};
use crate::auth::htpasswd::HtpasswdFile;
use crate::auth::{AuthenticationError, Identity, IdentityProof};
use crate::metrics::AuthMethod;

/// Verifier of passwords.
#[derive(Debug)]
pub struct PasswordVerifier {
    file: Arc<HtpasswdFile>,
    checks: Arc<PasswordChecks>,
}

// === impl PasswordVerifier ===

impl PasswordVerifier {
    /// Makes a verifier of a file's users. The state of the checks may be that of a former verifier, also of
    /// another file: what it remembers holds only for the same user with the same line.
    #[must_use]
    pub fn new(file: Arc<HtpasswdFile>, checks: Arc<PasswordChecks>) -> Self {
        Self { file, checks }
    }

    /// Returns a value that changes with the user's line; `None` if there is no such user.
    #[must_use]
    pub fn version_of(&self, user: &str) -> Option<[u8; 8]> {
        self.file.version_of(user)
    }

    async fn verify_password(
        &self,
        user: &str,
        password: &[u8],
        client: Option<ClientAddress>,
    ) -> Result<Identity, AuthenticationError> {
        let invalid = |reason: &str| Err(AuthenticationError::Invalid { reason: reason.into() });
        let users = self.file.users();
        let (line, hash) = users.to_check(user);
        let network = Network::of(client);
        let attempt = PasswordAttempt { network, user, line, hash, password };
        if !self.checks.check(attempt, Instant::now()).await? {
            return invalid(if users.get(user).is_some() {
                "password is wrong"
            } else {
                "user does not exist"
            });
        }
        // The file may have been read again while the password was checked.
        if !self.file.users().holds(user, line) {
            return invalid("password has changed");
        }
        // Of the users that the password was checked against: the file may have been read again.
        let proof = IdentityProof::Password { version: HtpasswdFile::version_of_password_in(&users, user) };
        Ok(Identity { name: Some(user.into()), proof, ceiling: None })
    }
}

impl CredentialVerifier for PasswordVerifier {
    fn verify<'a>(
        &'a self,
        credentials: Credentials<'a>,
        client: Option<ClientAddress>,
    ) -> Pin<Box<dyn Future<Output = Option<Result<Identity, AuthenticationError>>> + Send + 'a>> {
        Box::pin(async move {
            let Credentials::Basic { user, password } = credentials else { return None };
            let result = self.verify_password(user, password, client).await;
            self.checks.metrics().attempted(AuthMethod::Password, &result);
            Some(result)
        })
    }
}
