//! Files of users and keys that are missing, malformed or removed.

use std::fs;
use std::io;
use std::path::Path;

use super::*;
use crate::config::{self, ReadFile, SecretFile, Source};

/// Files that a configuration may name for secrets: none.
struct NoFiles;

impl ReadFile for NoFiles {
    fn read(&self, _path: &Path, _limit: usize) -> io::Result<SecretFile> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Configuration with a password file and a file of keys in a folder.
fn config(folder: &Path) -> Config {
    let folder = folder.display();
    let text = format!(
        "version: 0.1\nstorage: inmemory\nauth: {{htpasswd: {{realm: a, path: '{folder}/htpasswd'}}}}\n\
         quinistry:\n  keys: {{file: '{folder}/keys'}}\n"
    );
    let loaded = config::load(Some(Source { name: "c.yml", bytes: text.as_bytes() }), Vec::new(), &NoFiles);
    loaded.config.expect("the configuration is accepted")
}

#[test]
fn the_password_file_is_created_after_everything_that_can_fail() {
    let folder = tempfile::tempdir().unwrap();
    let (users, keys) = (folder.path().join("htpasswd"), folder.path().join("keys"));
    let config = config(folder.path());
    fs::write(&keys, "malformed").unwrap();
    load(&config, &UserState::new().unwrap()).unwrap_err();
    assert!(!users.exists(), "its password would be lost");
    fs::write(&keys, "").unwrap();
    let loaded = load(&config, &UserState::new().unwrap()).unwrap();
    assert!(loaded.created_user.is_some() && users.exists());
    let again = load(&config, &UserState::new().unwrap()).unwrap();
    assert!(again.created_user.is_none());
}

#[test]
fn a_file_of_keys_that_is_missing_while_a_registry_runs_refuses_a_configuration_only_if_it_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let (config, keys) = (config(folder.path()), folder.path().join("keys"));
    let users = UserState::new().unwrap();
    load(&config, &users).unwrap();
    load(&config, &users.running()).expect("the file was never there");
    fs::write(&keys, "").unwrap();
    load(&config, &users.running()).unwrap();
    fs::remove_file(&keys).unwrap();
    let error = load(&config, &users.running()).unwrap_err().to_string();
    assert!(error.contains("failed to read API keys"), "{error}");
}
