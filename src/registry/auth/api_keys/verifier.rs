//! Source of identities from API keys.

use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use quinistry_http::client_address::ClientAddress;
use ring::hmac;
use subtle::ConstantTimeEq as _;

use super::file::ApiKeysFile;
use super::key::{self, KeyId};
use crate::auth::authenticator::{CredentialVerifier, Credentials};
use crate::auth::htpasswd::HtpasswdFile;
use crate::auth::{AuthenticationError, Ceiling, Identity, IdentityProof};
use crate::metrics::{AuthMethod, AuthMetrics};

/// User names beside the owner's with which a key is sent as a password.
const KEY_USERS: [&str; 3] = ["key", "<token>", "oauth2accesstoken"];

/// Label of the versions of keys.
const VERSION_LABEL: &[u8] = b"quinistry API key";

/// Verifier of API keys.
#[derive(Debug)]
pub struct ApiKeyVerifier {
    keys: Arc<ApiKeysFile>,
    users: Arc<HtpasswdFile>,
    metrics: Arc<AuthMetrics>,
}

/// State of a key that a token was issued for.
#[derive(Clone, Debug)]
pub struct KeyUser {
    /// Owner of the key.
    pub owner: Arc<str>,
    /// Limit of the key.
    pub ceiling: Arc<dyn Ceiling>,
    /// Time from which on the key is not valid.
    pub expires: Option<Timestamp>,
    /// Value that changes with the key and with its owner's line: a token that holds it ends then.
    pub version: [u8; 8],
}

// === impl ApiKeyVerifier ===

impl ApiKeyVerifier {
    /// Makes a verifier of a file's keys, whose owners are the users of another file.
    #[must_use]
    pub fn new(keys: Arc<ApiKeysFile>, users: Arc<HtpasswdFile>, metrics: Arc<AuthMetrics>) -> Self {
        Self { keys, users, metrics }
    }

    /// Returns the state of a key; `None` if the key or its owner does not exist.
    #[must_use]
    pub fn key_user(&self, id: &str) -> Option<KeyUser> {
        let keys = self.keys.keys();
        let key = keys.get(&KeyId::parse(id)?)?;
        let owner = self.users.version_of(&key.owner)?;
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, VERSION_LABEL));
        context.update(&key.sha256);
        context.update(&owner);
        let version = *context.sign().as_ref().first_chunk().expect("a tag has 32 bytes");
        let ceiling: Arc<dyn Ceiling> = key.ceiling.clone();
        Some(KeyUser { owner: key.owner.clone(), ceiling, expires: key.expires, version })
    }

    /// Verifies a key, which `user` has sent; `None` if the text has not the form of a key.
    fn verify_key(
        &self,
        user: Option<&str>,
        text: &str,
        now: Timestamp,
    ) -> Option<Result<Identity, AuthenticationError>> {
        let id = key::id_of(text)?;
        let invalid = |reason: &str| {
            Some(Err(AuthenticationError::Invalid { reason: format!("API key {id} {reason}") }))
        };
        let keys = self.keys.keys();
        let Some(key) = keys.get(&id) else { return invalid("does not exist") };
        if !bool::from(key::hash(text).ct_eq(&key.sha256)) {
            return invalid("has another secret");
        }
        if key.expires.is_some_and(|expires| expires <= now) {
            return invalid("has expired");
        }
        if self.users.users().get(&key.owner).is_none() {
            return invalid("belongs to a user that does not exist");
        }
        if user.is_some_and(|user| user != &*key.owner && !KEY_USERS.contains(&user)) {
            return invalid("belongs to another user");
        }
        Some(Ok(Identity {
            name: Some(key.owner.clone()),
            proof: IdentityProof::ApiKey(key.id.clone()),
            ceiling: Some(key.ceiling.clone()),
        }))
    }
}

impl CredentialVerifier for ApiKeyVerifier {
    fn verify<'a>(
        &'a self,
        credentials: Credentials<'a>,
        _client: Option<ClientAddress>,
    ) -> Pin<Box<dyn Future<Output = Option<Result<Identity, AuthenticationError>>> + Send + 'a>> {
        let now = Timestamp::now();
        let result = match credentials {
            Credentials::Basic { user, password } => {
                std::str::from_utf8(password).ok().and_then(|text| self.verify_key(Some(user), text, now))
            }
            Credentials::Bearer(text) => self.verify_key(None, text, now),
        };
        if let Some(result) = &result {
            self.metrics.attempted(AuthMethod::Key, result);
        }
        Box::pin(std::future::ready(result))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use quinistry_http::watch::ReloadFiles as _;

    use super::*;
    use crate::auth::api_keys::{KeyRecord, NewKey, SeenFiles, add_record};
    use crate::auth::right::Right;

    /// Folder with users, and the keys of one of them.
    struct Fixture {
        folder: tempfile::TempDir,
        key: NewKey,
        verifier: ApiKeyVerifier,
    }

    impl Fixture {
        fn new(change: impl FnOnce(&mut KeyRecord)) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (users, keys) = (folder.path().join("htpasswd"), folder.path().join("keys"));
            fs::write(&users, "ci:!\nalice:!\n").unwrap();
            let key = NewKey::random().unwrap();
            let mut record = KeyRecord::new(&key, "ci", Timestamp::now());
            change(&mut record);
            fs::write(&keys, add_record(b"", &record).unwrap()).unwrap();
            fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
            let users = Arc::new(HtpasswdFile::open(users).unwrap());
            let keys = Arc::new(ApiKeysFile::open(keys, SeenFiles::default()).unwrap());
            Self { folder, key, verifier: ApiKeyVerifier::new(keys, users, Arc::default()) }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        async fn log_in(
            &self,
            credentials: Credentials<'_>,
        ) -> Option<Result<Identity, AuthenticationError>> {
            self.verifier.verify(credentials, None).await
        }

        /// Returns the reason for which the key is refused as a token.
        async fn refusal(&self) -> String {
            match self.log_in(Credentials::Bearer(&self.key.text)).await.unwrap() {
                Ok(identity) => panic!("{identity:?}"),
                Err(AuthenticationError::Invalid { reason }) => reason.replace(self.key.id.as_str(), "ID"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[tokio::test]
    async fn a_key_is_a_token_and_a_password_of_its_owner() {
        let registry = Fixture::new(|_| ());
        let key = registry.key.text.as_str();
        let identity = registry.log_in(Credentials::Bearer(key)).await.unwrap().unwrap();
        assert_eq!(identity.name.as_deref(), Some("ci"));
        assert_eq!(identity.proof, IdentityProof::ApiKey(registry.key.id.as_str().into()));
        for (user, is_let_in) in
            [("ci", true), ("key", true), ("<token>", true), ("alice", false), ("", false)]
        {
            let credentials = Credentials::Basic { user, password: key.as_bytes() };
            assert_eq!(registry.log_in(credentials).await.unwrap().is_ok(), is_let_in, "{user}");
        }
    }

    #[tokio::test]
    async fn other_credentials_are_left_to_other_verifiers() {
        let registry = Fixture::new(|_| ());
        let cut = &registry.key.text[..80];
        for password in [b"secret".as_slice(), b"qk_", cut.as_bytes(), b"\xff"] {
            assert!(registry.log_in(Credentials::Basic { user: "ci", password }).await.is_none());
        }
        assert!(registry.log_in(Credentials::Bearer("a.b.c")).await.is_none());
    }

    #[tokio::test]
    async fn keys_that_are_unknown_forged_or_expired_are_refused() {
        assert_eq!(
            Fixture::new(|key| key.id = "0123456789ab".into()).refusal().await,
            "API key ID does not exist"
        );
        let forged = Fixture::new(|key| key.sha256 = "00".repeat(32)).refusal().await;
        assert_eq!(forged, "API key ID has another secret");
        let past = (Timestamp::now() - jiff::SignedDuration::from_secs(1)).to_string();
        let expired = Fixture::new(|key| key.expires = Some(past)).refusal().await;
        assert_eq!(expired, "API key ID has expired");
        let other = Fixture::new(|key| key.owner = "nemo".into()).refusal().await;
        assert_eq!(other, "API key ID belongs to a user that does not exist");
    }

    #[tokio::test]
    async fn a_key_ends_with_its_owner_and_with_its_line() {
        let registry = Fixture::new(|_| ());
        let before = registry.verifier.key_user(registry.key.id.as_str()).unwrap();
        fs::write(registry.path("htpasswd"), "ci:*\nalice:!\n").unwrap();
        registry.verifier.users.reload().unwrap();
        let after = registry.verifier.key_user(registry.key.id.as_str()).unwrap();
        assert_ne!(before.version, after.version);
        fs::write(registry.path("htpasswd"), "alice:!\n").unwrap();
        registry.verifier.users.reload().unwrap();
        assert_eq!(registry.refusal().await, "API key ID belongs to a user that does not exist");
        assert!(registry.verifier.key_user(registry.key.id.as_str()).is_none());
        fs::write(registry.path("htpasswd"), "ci:!\n").unwrap();
        registry.verifier.users.reload().unwrap();
        fs::write(registry.path("keys"), "").unwrap();
        registry.verifier.keys.reload().unwrap();
        assert_eq!(registry.refusal().await, "API key ID does not exist");
    }

    #[tokio::test]
    async fn a_key_has_its_ceiling() {
        let registry = Fixture::new(|key| {
            key.repositories = Some(vec!["team/*".into()]);
            key.can = Some(vec!["pull".into()]);
        });
        let identity = registry.log_in(Credentials::Bearer(&registry.key.text)).await.unwrap().unwrap();
        let ceiling = identity.ceiling.unwrap();
        assert!(ceiling.permits(&"team/app".parse().unwrap(), Right::Pull));
        assert!(!ceiling.permits(&"team/app".parse().unwrap(), Right::Push));
        assert!(!ceiling.permits(&"other".parse().unwrap(), Right::Pull));
    }

    #[test]
    fn row_99_a_file_of_keys_that_every_user_can_write_is_refused() {
        let registry = Fixture::new(|_| ());
        let path = registry.path("keys");
        for (mode, is_accepted) in
            [(0o600, true), (0o640, true), (0o644, true), (0o666, false), (0o602, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(registry.verifier.keys.reload().is_ok(), is_accepted, "{mode:o}");
        }
        assert!(!registry.verifier.keys.keys().is_empty(), "the former keys stay in effect");
        let error = ApiKeysFile::open(&path, SeenFiles::default()).unwrap_err().to_string();
        assert!(error.ends_with("run `chmod 600` on it"), "{error}");
    }

    #[test]
    fn a_file_that_does_not_exist_has_no_keys_yet() {
        let folder = tempfile::tempdir().unwrap();
        let (path, seen) = (folder.path().join("keys"), SeenFiles::default());
        let keys = ApiKeysFile::open(&path, seen.clone()).unwrap();
        assert!(keys.keys().is_empty());
        keys.reload().expect("the file is yet to be created");
        let record = KeyRecord::new(&NewKey::random().unwrap(), "ci", Timestamp::now());
        fs::write(&path, add_record(b"", &record).unwrap()).unwrap();
        keys.reload().unwrap();
        assert!(!keys.keys().is_empty());
        fs::remove_file(&path).unwrap();
        assert!(keys.reload().is_err() && !keys.keys().is_empty(), "a removed file keeps the keys");
        ApiKeysFile::open(&path, seen).expect_err("a new configuration keeps them, too");
        fs::write(&path, "").unwrap();
        keys.reload().unwrap();
        assert!(keys.keys().is_empty(), "an emptied file ends them");
    }
}
