//! Docker's configuration file and credential helpers, from which credentials are read and in which they are
//! stored.
//!
//! Read: `auths` (`auth`, `username` and `password`, `identitytoken`), `credHelpers`, `credsStore`. Written:
//! one entry; all else in the file stays. Secrets are never shown, not even by `Debug`.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

mod file;
mod helper;
mod store;

use file::ConfigFile;

/// Secret text, which no format shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

// === impl Secret ===

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for its recipient alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Credentials for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// User and password, for the registry itself or its token server.
    Password {
        /// Name of the user.
        username: String,
        /// Password of the user.
        password: Secret,
    },
    /// A refresh token, for the token server.
    IdentityToken(Secret),
}

// === impl Credentials ===

impl Credentials {
    /// Parses the answer of a credential helper to `get`. Helpers without credentials print nothing, `null`, or empty
    /// texts. The error repeats nothing of the answer.
    pub fn from_helper_output(output: &[u8]) -> Result<Option<Self>, &'static str> {
        helper::parse(output)
    }
}

/// Reason why credentials cannot be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file exists and cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("failed to write {}", path.display())]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The file is not in the form that Docker writes.
    #[error("{} is not a docker configuration: {reason}", path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// Place and kind of the mistake.
        reason: String,
    },
    /// Neither variable names a folder for the configuration.
    #[error("neither DOCKER_CONFIG nor HOME is set, so there is no place for credentials")]
    NoHome,
    /// A credential helper cannot be run, or fails.
    #[error("credential helper docker-credential-{name} failed: {reason}")]
    Helper {
        /// Name of the helper in the configuration.
        name: String,
        /// Error of the helper.
        reason: String,
    },
}

/// Docker's configuration file, which need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerConfig {
    path: PathBuf,
}

// === impl DockerConfig ===

impl DockerConfig {
    /// Names the file at `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Names `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    pub fn from_env() -> Result<Self, CredentialError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")));
        Ok(Self::at(folder.ok_or(CredentialError::NoHome)?.join("config.json")))
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the credentials for a repository, or for a registry as a whole: from the registry's helper,
    /// from the common helper, or from the entry of the file that names the longest part of the repository.
    pub async fn get(
        &self,
        host: &str,
        repository: Option<&str>,
    ) -> Result<Option<Credentials>, CredentialError> {
        let file = self.read()?;
        if let Some(helper) = file.helper(host, repository)
            && let Some(found) = helper::get(helper, key(host)).await?
        {
            return Ok(Some(found));
        }
        file.credentials(host, repository).map_err(|reason| self.malformed(reason))
    }

    /// Stores credentials for a registry: with its helper if it has one, else in the file.
    pub async fn put(&self, host: &str, username: &str, password: &Secret) -> Result<(), CredentialError> {
        let file = self.read()?;
        let secret = match file.helper(host, None) {
            Some(helper) => {
                helper::store(helper, key(host), username, password).await?;
                None
            }
            None => Some(STANDARD.encode(format!("{username}:{}", password.expose()))),
        };
        store::put(&self.path, key(host), secret)
    }

    /// Removes the credentials for a registry as a whole, in every spelling of its name, from its helper and
    /// from the file. Returns whether there were any. Entries for single repositories stay.
    pub async fn remove(&self, host: &str) -> Result<bool, CredentialError> {
        let file = self.read()?;
        let erased = match file.helper(host, None) {
            Some(helper) => helper::erase(helper, key(host)).await?,
            None => false,
        };
        Ok(store::remove(&self.path, host)? || erased)
    }

    fn read(&self) -> Result<ConfigFile, CredentialError> {
        match fs::read(&self.path) {
            Ok(text) => ConfigFile::parse(&text).map_err(|reason| self.malformed(reason)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ConfigFile::default()),
            Err(source) => Err(CredentialError::Read { path: self.path.clone(), source }),
        }
    }

    fn malformed(&self, reason: String) -> CredentialError {
        CredentialError::Malformed { path: self.path.clone(), reason }
    }
}

/// Returns the key under which Docker stores a host's credentials.
fn key(host: &str) -> &str {
    if host == "docker.io" { "https://index.docker.io/v1/" } else { host }
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
        assert_eq!(config.get("localhost:5000", None).await.unwrap(), Some(password("u", "p:q")));
        assert_eq!(config.get("a.example.com", None).await.unwrap(), Some(password("u", "p")));
        let token = Credentials::IdentityToken(Secret::new("t"));
        assert_eq!(config.get("b.example.com", None).await.unwrap(), Some(token));
        assert_eq!(config.get("c.example.com", None).await.unwrap(), None);
        assert_eq!(config.get("localhost:5001", None).await.unwrap(), None);
        assert_eq!(config.get("docker.io", None).await.unwrap(), Some(password("hub", "x")));
    }

    #[tokio::test]
    async fn a_broken_file_is_an_error_that_shows_no_secret() {
        let (_folder, broken) = config(r#"{"auths":{"a":{"auth":["hunter2"]}}}"#);
        let error = format!("{:?}", broken.get("a", None).await.unwrap_err());
        assert!(!error.contains("hunter2"), "{error}");
        let (_folder, broken) = config(r#"{"auths":{"a":{"auth":"!"}}}"#);
        assert!(broken.get("a", None).await.is_err());
        assert_eq!(DockerConfig::at("/missing/config.json").get("a", None).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_put_is_found_again_and_the_rest_stays() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_folder, config) =
            config(r#"{"detachKeys":"x","auths":{"a":{"identitytoken":"t"},"b":{"auth":"dTpw"}}}"#);
        config.put("a", "user", &Secret::new("hunter2")).await.unwrap();
        assert_eq!(config.get("a", None).await.unwrap(), Some(password("user", "hunter2")));
        assert_eq!(config.get("b", None).await.unwrap(), Some(password("u", "p")));
        assert!(fs::read_to_string(config.path()).unwrap().contains("detachKeys"));
        assert_eq!(fs::metadata(config.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{:?}", config.get("a", None).await).contains("hunter2"));
    }

    #[tokio::test]
    async fn a_folder_is_made_for_the_first_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let config = DockerConfig::at(folder.path().join("new/config.json"));
        config.put("docker.io", "u", &Secret::new("p")).await.unwrap();
        assert!(fs::read_to_string(config.path()).unwrap().contains("https://index.docker.io/v1/"));
    }

    #[tokio::test]
    async fn a_file_without_content_is_no_configuration_and_can_be_written() {
        for text in ["", "\n", " \t\r\n", "null", "{}", "\u{feff}{}", r#"{"auths":null,"credsStore":null}"#] {
            let (_folder, config) = config(text);
            assert_eq!(config.get("a", None).await.unwrap(), None, "{text:?}");
            assert!(!config.remove("a").await.unwrap(), "{text:?}");
            config.put("a", "u", &Secret::new("p")).await.unwrap();
            assert_eq!(config.get("a", Some("b/c")).await.unwrap(), Some(password("u", "p")), "{text:?}");
        }
    }

    #[tokio::test]
    async fn links_stay_links_and_what_they_lead_to_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("second.json", at("config.json")).unwrap();
        std::os::unix::fs::symlink("made/of/them.json", at("second.json")).unwrap();
        let config = DockerConfig::at(at("config.json"));
        config.put("a", "u", &Secret::new("p")).await.unwrap();
        config.put("b", "u", &Secret::new("p")).await.unwrap();
        assert!(config.remove("b").await.unwrap());
        assert_eq!(fs::read_link(at("config.json")).unwrap(), Path::new("second.json"));
        assert_eq!(fs::read_link(at("second.json")).unwrap(), Path::new("made/of/them.json"));
        assert!(fs::read_to_string(at("made/of/them.json")).unwrap().contains("\"a\""));

        std::os::unix::fs::symlink("loop.json", at("loop.json")).unwrap();
        let config = DockerConfig::at(at("loop.json"));
        assert!(config.put("a", "u", &Secret::new("p")).await.is_err());
        assert!(fs::symlink_metadata(at("loop.json")).unwrap().is_symlink());
    }

    #[tokio::test]
    async fn what_is_removed_is_gone_in_every_spelling_and_the_rest_stays() {
        let (_folder, config) = config(
            r#"{"detachKeys":"x","auths":{"https://a.io/v2/":{"auth":"dTpw"},"a.io":{"auth":"dTpw"},
                "a.io/team":{"auth":"dTpw"},"b.io":{"auth":"dTpw"}}}"#,
        );
        assert!(config.remove("a.io").await.unwrap());
        assert!(!config.remove("a.io").await.unwrap());
        assert_eq!(config.get("a.io", Some("other")).await.unwrap(), None);
        assert_eq!(config.get("a.io", Some("team/x")).await.unwrap(), Some(password("u", "p")));
        assert_eq!(config.get("b.io", None).await.unwrap(), Some(password("u", "p")));
        assert!(fs::read_to_string(config.path()).unwrap().contains("detachKeys"));
    }
}
