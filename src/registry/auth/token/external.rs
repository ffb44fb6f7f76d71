//! Tokens of another server (`auth.token`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use quinistry_http::client_address::ClientAddress;
use quinistry_http::watch::ReloadFiles;

use super::access::TokenCeiling;
use super::bearer::{KeysInUse, verify_bearer};
use super::cache::TokenCache;
use super::claims::TokenValidity;
use super::keys::{KeyFileError, MAX_KEY_FILE_BYTES, NO_KEYS, TokenKeys};
use super::verification::{TokenPolicy, verify};
use crate::auth::authenticator::{CredentialVerifier, Credentials, Verification};
use crate::auth::regular_file;
use crate::auth::{AuthenticationError, Identity, IdentityProof};

/// Files with the keys of a token server. At least one is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFiles {
    /// Certificates in PEM.
    pub root_bundle: Option<PathBuf>,
    /// JWK set.
    pub jwks: Option<PathBuf>,
}

/// Error of [`ExternalTokens::open`].
#[derive(Debug, thiserror::Error)]
pub enum KeyFilesError {
    /// File that cannot be read.
    #[error("failed to read {file}: {error}")]
    Read {
        /// Path.
        file: String,
        /// Reason.
        error: std::io::Error,
    },
    /// File whose keys cannot be used.
    #[error("file {file} of a token server's keys {error}")]
    Keys {
        /// Path.
        file: String,
        /// Reason.
        error: KeyFileError,
    },
}

/// Source of identities from the tokens of another server.
pub struct ExternalTokens {
    policy: TokenPolicy,
    files: KeyFiles,
    keys: KeysInUse<TokenKeys, KnownToken>,
}

#[derive(Clone)]
struct KnownToken {
    identity: Identity,
    validity: TokenValidity,
}

// === impl KeyFiles ===

impl KeyFiles {
    fn load(&self) -> Result<TokenKeys, KeyFilesError> {
        let mut keys = TokenKeys::default();
        let add_bundle: AddKeys = TokenKeys::add_bundle;
        for (path, add) in [(&self.root_bundle, add_bundle), (&self.jwks, TokenKeys::add_jwk_set)] {
            let Some(path) = path else { continue };
            let file = path.display().to_string();
            let bytes = read(path).map_err(|error| KeyFilesError::Read { file: file.clone(), error })?;
            let added = add(&mut keys, &bytes);
            if !added.map_err(|error| KeyFilesError::Keys { file: file.clone(), error })? {
                tracing::warn!("file {file} of a token server's keys {NO_KEYS}");
            }
        }
        Ok(keys)
    }
}

type AddKeys = fn(&mut TokenKeys, &[u8]) -> Result<bool, KeyFileError>;

fn read(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    Ok(regular_file::read(path, MAX_KEY_FILE_BYTES)?.bytes)
}

// === impl ExternalTokens ===

impl ExternalTokens {
    /// Reads the keys. Blocks.
    pub fn open(policy: TokenPolicy, files: KeyFiles) -> Result<Self, KeyFilesError> {
        let keys = files.load()?;
        Ok(Self { policy, files, keys: KeysInUse::new(keys) })
    }

    /// Verifies a token at `now`, in seconds since the epoch. What was found is remembered by the monotonic
    /// clock.
    fn identify(&self, token: &str, now: u64, instant: Instant) -> Result<Identity, AuthenticationError> {
        let invalid = |reason: String| AuthenticationError::Invalid { reason };
        let current = self.keys.current();
        let (key, length) = (TokenCache::<KnownToken>::key(token), token.len());
        if let Some(known) = current.verified.get(&key, instant) {
            known.validity.check(now).map_err(|error| invalid(error.to_string()))?;
            return Ok(known.identity);
        }
        let token =
            verify(token, &self.policy, &current.keys, now).map_err(|error| invalid(error.to_string()))?;
        let identity = Identity {
            name: token.subject.map(Into::into),
            proof: IdentityProof::ExternalToken,
            ceiling: Some(Arc::new(TokenCeiling::new(token.access, None))),
        };
        let known = KnownToken { identity: identity.clone(), validity: token.validity };
        current.verified.insert(key, length, known, instant);
        Ok(identity)
    }
}

impl CredentialVerifier for ExternalTokens {
    fn verify<'a>(&'a self, credentials: Credentials<'a>, _: Option<ClientAddress>) -> Verification<'a> {
        verify_bearer(credentials, |token, now, instant| Some(self.identify(token, now, instant)))
    }
}

impl ReloadFiles for ExternalTokens {
    fn name(&self) -> &'static str {
        "token_keys"
    }

    fn paths(&self) -> Vec<PathBuf> {
        [&self.files.root_bundle, &self.files.jwks].into_iter().flatten().cloned().collect()
    }

    fn reload(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.keys.replace(self.files.load()?);
        Ok(())
    }
}

impl std::fmt::Debug for ExternalTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalTokens")
            .field("policy", &self.policy)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use serde_json::json;

    use super::super::algorithm::AllowedAlgorithms;
    use super::super::key::encode;
    use super::super::tests::signer::Signer;
    use super::*;
    use crate::auth::Right;

    const NOW: u64 = 1_800_000_000;

    fn jwks(signer: &Signer) -> String {
        let key = json!({"kid": "a", "kty": "OKP", "crv": "Ed25519", "x": encode(&signer.public())});
        json!({"keys": [key]}).to_string()
    }

    fn token(signer: &Signer, subject: &str) -> String {
        let claims = json!({
            "iss": "i", "aud": "s", "sub": subject, "exp": NOW + 300,
            "access": [{"type": "repository", "name": "a", "actions": ["pull"]}],
        });
        signer.sign(&json!({"alg": "EdDSA", "kid": "a"}), &claims)
    }

    fn open(folder: &tempfile::TempDir, signer: &Signer) -> ExternalTokens {
        let path = folder.path().join("jwks.json");
        fs::write(&path, jwks(signer)).unwrap();
        let policy = TokenPolicy {
            algorithms: AllowedAlgorithms::default(),
            issuer: "i".into(),
            audience: "s".into(),
        };
        ExternalTokens::open(policy, KeyFiles { root_bundle: None, jwks: Some(path) }).unwrap()
    }

    #[test]
    fn a_tokens_identity_is_limited_to_its_access() {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::ed25519());
        let tokens = open(&folder, &signer);
        let identity = tokens.identify(&token(&signer, "alice"), NOW, Instant::now()).unwrap();
        assert_eq!((identity.name.as_deref(), identity.proof), (Some("alice"), IdentityProof::ExternalToken));
        let ceiling = identity.ceiling.unwrap();
        assert!(
            ceiling.permits(&"a".parse().unwrap(), Right::Pull)
                && ceiling.can_be_widened(crate::auth::challenge::Scope::Catalog)
        );
        assert!(!ceiling.permits(&"a".parse().unwrap(), Right::Push));
        assert!(!ceiling.permits(&"b".parse().unwrap(), Right::Pull));
        let anonymous = tokens.identify(&token(&signer, ""), NOW, Instant::now()).unwrap();
        assert_eq!((anonymous.name, anonymous.proof), (None, IdentityProof::ExternalToken));
    }

    #[test]
    fn a_set_without_keys_for_tokens_withdraws_the_former_ones() {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::ed25519());
        let tokens = open(&folder, &signer);
        let token = token(&signer, "alice");
        let path = folder.path().join("jwks.json");
        for empty in [json!({"keys": []}), json!({"keys": [{"kid": "a", "kty": "OKP", "use": "enc"}]})] {
            fs::write(&path, jwks(&signer)).unwrap();
            tokens.reload().unwrap();
            assert!(tokens.identify(&token, NOW, Instant::now()).is_ok());
            fs::write(&path, empty.to_string()).unwrap();
            tokens.reload().unwrap();
            assert!(tokens.identify(&token, NOW, Instant::now()).is_err(), "{empty}");
        }
    }

    #[test]
    fn a_remembered_token_ends_at_its_time_and_with_its_keys() {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::ed25519());
        let tokens = open(&folder, &signer);
        let (token, start) = (token(&signer, "alice"), Instant::now());
        assert!(tokens.identify(&token, NOW, start).is_ok());
        assert!(tokens.identify(&token, NOW + 359, start).is_ok());
        assert!(tokens.identify(&token, NOW + 360, start).is_err());
        // The wall clock goes back by an hour; the cache goes by the monotonic one.
        assert!(tokens.identify(&token, NOW - 3600, start + Duration::from_secs(1)).is_ok());
        fs::write(folder.path().join("jwks.json"), jwks(&Signer::ed25519())).unwrap();
        tokens.reload().unwrap();
        assert!(tokens.identify(&token, NOW, start).is_err());
    }

    #[test]
    fn a_broken_file_keeps_the_keys_that_are_in_use() {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::ed25519());
        let tokens = open(&folder, &signer);
        let path = folder.path().join("jwks.json");
        for broken in ["", "{}", r#"{"keys":[{}]}"#, "not JSON"] {
            fs::write(&path, broken).unwrap();
            let error = tokens.reload().unwrap_err().to_string();
            assert!(error.contains("jwks.json"), "{error}");
            assert!(tokens.identify(&token(&signer, "alice"), NOW, Instant::now()).is_ok());
        }
        fs::remove_file(&path).unwrap();
        assert!(tokens.reload().is_err());
        fs::create_dir(&path).unwrap();
        assert!(tokens.reload().is_err());
        assert!(tokens.identify(&token(&signer, "bob"), NOW, Instant::now()).is_ok());
    }
}
