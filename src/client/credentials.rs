//! Docker's configuration file and credential helpers: where credentials are found and kept.
//!
//! Read: `auths` (`auth`, `username` and `password`, `identitytoken`), `credHelpers`, `credsStore`. Written:
//! one entry, everything else in the file stays. Secrets are never shown, not even by `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

mod helper;
mod store;

/// Text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

// === impl Secret ===

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What one identifies oneself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// For the registry itself or its token server.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, for the token server.
    IdentityToken(Secret),
}

/// Why credentials cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file is there and cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("failed to write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what docker writes.
    #[error("{} is not a docker configuration: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no place for a configuration.
    #[error("neither DOCKER_CONFIG nor HOME is set, so there is no place for credentials")]
    NoHome,
    /// A helper cannot be run, or fails.
    #[error("credential helper docker-credential-{name} failed: {reason}")]
    Helper {
        /// Its name in the configuration.
        name: String,
        /// What it says.
        reason: String,
    },
}

/// Docker's configuration file, which need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerConfig {
    path: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry(***)")
    }
}

// === impl DockerConfig ===

impl DockerConfig {
    /// The file at `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    pub fn from_env() -> Result<Self, CredentialError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")));
        Ok(Self::at(folder.ok_or(CredentialError::NoHome)?.join("config.json")))
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The credentials for a registry, from its helper, from the common helper, or from the file itself.
    pub async fn get(&self, host: &str) -> Result<Option<Credentials>, CredentialError> {
        let file = self.read()?;
        if let Some(helper) = file.helper(host)
            && let Some(found) = helper::get(helper, key(host)).await?
        {
            return Ok(Some(found));
        }
        let Some(entry) = find(&file.auths, host) else { return Ok(None) };
        entry.credentials().map_err(|reason| CredentialError::Malformed {
            path: self.path.clone(),
            reason: format!("the entry of {host}: {reason}"),
        })
    }

    /// Keeps credentials for a registry: with its helper if it has one, else in the file.
    pub async fn put(&self, host: &str, username: &str, password: &Secret) -> Result<(), CredentialError> {
        let file = self.read()?;
        let helper = file.helper(host);
        let secret = match helper {
            Some(helper) => {
                helper::store(helper, key(host), username, password).await?;
                None
            }
            None => Some(STANDARD.encode(format!("{username}:{}", password.expose()))),
        };
        store::put(&self.path, key(host), secret)
    }

    fn read(&self) -> Result<File, CredentialError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::default()),
            Err(source) => return Err(CredentialError::Read { path: self.path.clone(), source }),
        };
        // Line and column, and not the message of the parser, which quotes values.
        serde_json::from_slice(&text).map_err(|error| CredentialError::Malformed {
            path: self.path.clone(),
            reason: format!("line {}, column {}", error.line(), error.column()),
        })
    }
}

impl File {
    fn helper(&self, host: &str) -> Option<&str> {
        find(&self.cred_helpers, host)
            .or(self.creds_store.as_ref())
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }
}

impl Entry {
    fn credentials(&self) -> Result<Option<Credentials>, &'static str> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credentials::IdentityToken(Secret(token))));
        }
        let (username, password) = if let Some(auth) = given(&self.auth) {
            let decoded = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.ok_or("'auth' is not base64 of text")?;
            let (username, password) = decoded.split_once(':').ok_or("'auth' holds no colon")?;
            // Docker once padded with NUL.
            (username.to_owned(), password.trim_end_matches('\0').to_owned())
        } else {
            match (given(&self.username), given(&self.password)) {
                (Some(username), Some(password)) => (username, password),
                _ => return Ok(None),
            }
        };
        Ok(Some(Credentials::Password { username, password: Secret(password) }))
    }
}

/// The name under which docker keeps a host.
fn key(host: &str) -> &str {
    if host == "docker.io" { "https://index.docker.io/v1/" } else { host }
}

/// An entry by host; other tools write keys with a scheme and a version.
fn find<'a, T>(entries: &'a BTreeMap<String, T>, host: &str) -> Option<&'a T> {
    let bare = |key: &str| {
        let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        let key = key.trim_end_matches('/');
        key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key).to_owned()
    };
    let key = key(host);
    entries
        .get(key)
        .or_else(|| entries.iter().find(|(name, _)| bare(name) == bare(key)).map(|(_, entry)| entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, DockerConfig) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, text).unwrap();
        (folder, DockerConfig::at(path))
    }

    fn password(username: &str, password: &str) -> Credentials {
        Credentials::Password { username: username.into(), password: Secret::new(password) }
    }

    #[tokio::test]
    async fn credentials_are_found_in_every_spelling() {
        let (_folder, config) = config(
            r#"{"auths":{
                "localhost:5000":{"auth":"dTpwOnE="},
                "https://a.example.com/v2/":{"username":"u","password":"p"},
                "b.example.com":{"auth":"dTpw","identitytoken":"t"},
                "c.example.com":{},
                "https://index.docker.io/v1/":{"auth":"aHViOng="}}}"#,
        );
        assert_eq!(config.get("localhost:5000").await.unwrap(), Some(password("u", "p:q")));
        assert_eq!(config.get("a.example.com").await.unwrap(), Some(password("u", "p")));
        let token = Credentials::IdentityToken(Secret::new("t"));
        assert_eq!(config.get("b.example.com").await.unwrap(), Some(token));
        assert_eq!(config.get("c.example.com").await.unwrap(), None);
        assert_eq!(config.get("localhost:5001").await.unwrap(), None);
        assert_eq!(config.get("docker.io").await.unwrap(), Some(password("hub", "x")));
    }

    #[tokio::test]
    async fn a_broken_file_is_an_error_that_shows_no_secret() {
        let (_folder, broken) = config(r#"{"auths":{"a":{"auth":["hunter2"]}}}"#);
        let error = format!("{:?}", broken.get("a").await.unwrap_err());
        assert!(!error.contains("hunter2"), "{error}");
        let (_folder, broken) = config(r#"{"auths":{"a":{"auth":"!"}}}"#);
        assert!(broken.get("a").await.is_err());
        assert_eq!(DockerConfig::at("/missing/config.json").get("a").await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_put_is_found_again_and_the_rest_stays() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_folder, config) =
            config(r#"{"detachKeys":"x","auths":{"a":{"identitytoken":"t"},"b":{"auth":"dTpw"}}}"#);
        config.put("a", "user", &Secret::new("hunter2")).await.unwrap();
        assert_eq!(config.get("a").await.unwrap(), Some(password("user", "hunter2")));
        assert_eq!(config.get("b").await.unwrap(), Some(password("u", "p")));
        assert!(fs::read_to_string(config.path()).unwrap().contains("detachKeys"));
        assert_eq!(fs::metadata(config.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{:?}", config.get("a").await).contains("hunter2"));
    }

    #[tokio::test]
    async fn a_folder_is_made_for_the_first_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let config = DockerConfig::at(folder.path().join("new/config.json"));
        config.put("docker.io", "u", &Secret::new("p")).await.unwrap();
        assert!(fs::read_to_string(config.path()).unwrap().contains("https://index.docker.io/v1/"));
    }
}
