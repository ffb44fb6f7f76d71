//! Checks of the files of users and keys that a configuration names.

use std::io;
use std::path::Path;
use std::sync::Arc;

use quinistry_oci::escape::Escaped;

use super::{Diagnostic, Loaded, Origin, ReadFile, SecretFile, Severity, UsersConfig};
use crate::auth::api_keys;
use crate::auth::htpasswd::{self, Users};
use crate::auth::regular_file::{READABLE_BY_ALL, WRITABLE_BY_ALL};

/// Key that names the file of users.
const USERS: &str = "auth.htpasswd.path";

/// Key that names the file of API keys.
const KEYS: &str = "quinistry.keys.file";

impl Loaded {
    /// Reads the files of users and keys, and adds what is found in them. An error refuses the configuration.
    pub fn check_user_files(&mut self, files: &dyn ReadFile) {
        let Some(UsersConfig { htpasswd, keys_file, .. }) =
            self.config.as_ref().map(|config| config.users.clone())
        else {
            return;
        };
        let users = htpasswd.and_then(|htpasswd| self.check_htpasswd(&htpasswd.path, files));
        if let Some(path) = keys_file {
            self.check_keys(&path, users.as_ref(), files);
        }
        self.diagnostics.sort_by(|one, other| one.origin.cmp(&other.origin));
        if self.count(Severity::Error) > 0 {
            self.config = None;
        }
    }

    /// Returns the users, if the file can be used.
    fn check_htpasswd(&mut self, path: &Path, files: &dyn ReadFile) -> Option<Users> {
        let missing = "is created with user docker and a random password when the registry starts";
        let SecretFile { bytes, mode } = self.read(path, USERS, htpasswd::MAX_FILE_BYTES, missing, files)?;
        if mode.is_some_and(|mode| mode & WRITABLE_BY_ALL != 0) {
            let message =
                format!("every user of the machine can write {}; run `chmod o-w` on it", path.display());
            self.add(self.origin(USERS), Severity::Warning, USERS, message);
        }
        match htpasswd::parse(&bytes) {
            Ok((users, findings)) => {
                for found in findings {
                    self.add(line(path, found.line), found.severity, USERS, found.message);
                }
                if users.is_empty() {
                    let message = format!("{} has no users, and no password is accepted", path.display());
                    self.add(self.origin(USERS), Severity::Warning, USERS, message);
                }
                Some(users)
            }
            Err(error) => {
                self.add(line(path, error.line), Severity::Error, USERS, error.message.into());
                None
            }
        }
    }

    fn check_keys(&mut self, path: &Path, users: Option<&Users>, files: &dyn ReadFile) {
        let missing = "has no keys yet; `quinistry key add` creates it";
        let Some(SecretFile { bytes, mode }) =
            self.read(path, KEYS, api_keys::MAX_FILE_BYTES, missing, files)
        else {
            return;
        };
        let mode = mode.unwrap_or_default();
        if mode & WRITABLE_BY_ALL != 0 {
            let message = format!("every user can write {}; run `chmod 600` on it", path.display());
            self.add(self.origin(KEYS), Severity::Error, KEYS, message);
        } else if mode & READABLE_BY_ALL != 0 {
            let message = format!("every user can read {}; run `chmod 600` on it", path.display());
            self.add(self.origin(KEYS), Severity::Warning, KEYS, message);
        }
        match api_keys::parse(&bytes) {
            Ok((_, keys)) => {
                for owner in keys.owners() {
                    if users.is_some_and(|users| users.get(owner).is_none()) {
                        let message = format!(
                            "keys of user {} are not accepted: there is no such user",
                            Escaped(owner)
                        );
                        self.add(self.origin(KEYS), Severity::Warning, KEYS, message);
                    }
                }
            }
            Err(error) => self.add(line(path, error.line), Severity::Error, KEYS, error.message),
        }
    }

    /// Reads a file; a file that does not exist yet is a note.
    fn read(
        &mut self,
        path: &Path,
        key: &str,
        limit: usize,
        missing: &str,
        files: &dyn ReadFile,
    ) -> Option<SecretFile> {
        let (severity, message) = match files.read(path, limit) {
            Ok(file) => return Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (Severity::Note, format!("{} does not exist, and {missing}", path.display()))
            }
            Err(error) => {
                let message = format!("failed to read {}: {error}; name a readable file", path.display());
                (Severity::Error, message)
            }
        };
        self.add(self.origin(key), severity, key, message);
        None
    }

    fn origin(&self, key: &str) -> Origin {
        let node = self.tree.as_ref().and_then(|tree| tree.at(key));
        node.map_or(Origin::Default, |node| node.origin.clone())
    }

    fn add(&mut self, origin: Origin, severity: Severity, key: &str, message: String) {
        self.diagnostics.push(Diagnostic { origin, severity, key: key.to_owned(), message });
    }
}

/// Returns the place of a line in a file that the configuration names.
fn line(path: &Path, line: u32) -> Origin {
    Origin::File { file: Arc::from(path.display().to_string()), line, column: 1 }
}
