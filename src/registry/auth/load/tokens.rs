//! Tokens of another server and of this registry, from a configuration.

use std::pin::Pin;
use std::sync::Arc;

use http::Uri;
use quinistry_http::client_address::ClientAddress;

use crate::auth::api_keys::{ApiKeyVerifier, KeyUser};
use crate::auth::authenticator::{ConnectionVerifier, CredentialVerifier, Credentials};
use crate::auth::challenge::Challenge;
use crate::auth::htpasswd::HtpasswdFile;
use crate::auth::issue::{CredentialVersions, SigningKeyError, TokenIssuer, TokenSettings};
use crate::auth::token::external::{ExternalTokens, KeyFilesError};
use crate::auth::token::verification::TokenPolicy;
use crate::auth::{AuthenticationError, Identity};
use crate::config::{Config, TokenServer};
use crate::metrics::{AuthMethod, AuthMetrics};

/// Name of a registry in its own tokens, unless `http.host` names it.
const DEFAULT_SERVICE: &str = "quinistry";

/// Versions of passwords and API keys, from the files of now.
#[derive(Debug)]
pub(super) struct UserVersions {
    pub(super) users: Arc<HtpasswdFile>,
    pub(super) keys: Option<Arc<ApiKeyVerifier>>,
}

impl CredentialVersions for UserVersions {
    fn version_of_user(&self, user: &str) -> Option<[u8; 8]> {
        self.users.version_of_password(user)
    }

    fn api_key(&self, id: &str) -> Option<KeyUser> {
        self.keys.as_ref()?.key_user(id)
    }
}

/// Verifier whose results are counted: of tokens, or of client certificates.
#[derive(Debug)]
pub(super) struct Counted<V> {
    verifier: Arc<V>,
    metrics: Arc<AuthMetrics>,
}

impl<V> Counted<V> {
    pub(super) fn new(verifier: Arc<V>, metrics: &Arc<AuthMetrics>) -> Self {
        Self { verifier, metrics: metrics.clone() }
    }
}

impl<V: ConnectionVerifier> ConnectionVerifier for Counted<V> {
    fn identify(&self, extensions: &http::Extensions) -> Option<Identity> {
        let identity = self.verifier.identify(extensions)?;
        self.metrics.attempted(AuthMethod::Certificate, &Ok(identity.clone()));
        Some(identity)
    }
}

impl<V: CredentialVerifier> CredentialVerifier for Counted<V> {
    fn verify<'a>(
        &'a self,
        credentials: Credentials<'a>,
        client: Option<ClientAddress>,
    ) -> Pin<Box<dyn Future<Output = Option<Result<Identity, AuthenticationError>>> + Send + 'a>> {
        Box::pin(async move {
            let result = self.verifier.verify(credentials, client).await?;
            self.metrics.attempted(AuthMethod::Token, &result);
            Some(result)
        })
    }
}

/// Reads the keys of another server, and makes the challenge that sends clients there.
pub(super) fn external(
    server: &TokenServer,
    host: Option<Uri>,
) -> Result<(Arc<ExternalTokens>, Challenge), KeyFilesError> {
    let policy = TokenPolicy {
        algorithms: server.algorithms.clone(),
        issuer: server.issuer.clone(),
        audience: server.service.clone(),
    };
    let tokens = ExternalTokens::open(policy, server.keys.clone())?;
    let challenge = Challenge::ExternalToken {
        realm: server.realm.clone(),
        service: server.service.clone(),
        own_path: server.own_path.clone(),
        host,
    };
    Ok((Arc::new(tokens), challenge))
}

/// Makes the issuer of this registry's own tokens.
pub(super) fn issuer(
    config: &Config,
    versions: Arc<dyn CredentialVersions>,
) -> Result<Arc<TokenIssuer>, SigningKeyError> {
    let host = config.http.host.as_ref().and_then(|host| host.authority());
    let settings = TokenSettings {
        service: host.map_or_else(|| DEFAULT_SERVICE.into(), ToString::to_string),
        other_services: config.tokens.services.clone(),
        lifetime: config.tokens.lifetime,
        key_file: config.tokens.key.clone(),
    };
    let secret = config.http.secret.as_ref().map(|secret| secret.0.as_bytes());
    TokenIssuer::open(settings, secret, versions).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use quinistry_http::metrics::Exposition;

    use super::*;
    use crate::auth::IdentityProof;

    #[derive(Debug)]
    struct OneCertificate;

    impl ConnectionVerifier for OneCertificate {
        fn identify(&self, _: &http::Extensions) -> Option<Identity> {
            Some(Identity { proof: IdentityProof::Certificate, ..Identity::anonymous() })
        }
    }

    #[test]
    fn tokens_of_passwords_need_a_line_that_a_password_matches() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "bob:!\n").unwrap();
        let users = Arc::new(HtpasswdFile::open(file.path()).unwrap());
        assert_eq!(UserVersions { users, keys: None }.version_of_user("bob"), None);
    }

    #[test]
    fn uses_of_client_certificates_are_counted() {
        let metrics = Arc::<AuthMetrics>::default();
        let counted = Counted::new(Arc::new(OneCertificate), &metrics);
        assert!(counted.identify(&http::Extensions::new()).is_some());
        let mut page = Exposition::default();
        metrics.write(&mut page);
        let text = page.into_text();
        let line = "quinistry_auth_attempts_total{how=\"certificate\",result=\"success\"} 1";
        assert!(text.contains(line), "{text}");
    }
}
