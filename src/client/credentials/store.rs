//! Writing and removing entries of `auths`, with all else in the file left as it is.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{CredentialError, file};

/// Longest chain of symbolic links that is followed, as long as Linux's.
const MAX_LINKS: usize = 40;

/// Puts `auth` under `key`. Without one, writes an empty entry, which refers to the helper.
pub(super) fn put(path: &Path, key: &str, auth: Option<String>) -> Result<(), CredentialError> {
    let mut document = read(path)?;
    let mut auths = auths(path, &mut document)?;
    auths.insert(key.into(), auth.map_or_else(|| json!({}), |auth| json!({"auth": auth})));
    document.insert("auths".into(), auths.into());
    write(path, &document)
}

/// Removes all entries for a host as a whole. Returns true if there were any.
pub(super) fn remove(path: &Path, host: &str) -> Result<bool, CredentialError> {
    let mut document = read(path)?;
    let mut auths = auths(path, &mut document)?;
    let before = auths.len();
    auths.retain(|key, _| !file::is_for_host(key, host));
    if auths.len() == before {
        return Ok(false);
    }
    document.insert("auths".into(), auths.into());
    write(path, &document)?;
    Ok(true)
}

fn read(path: &Path) -> Result<Map<String, Value>, CredentialError> {
    match fs::read(path) {
        Ok(text) => file::document(&text).map_err(|reason| malformed(path, reason)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
        Err(source) => Err(CredentialError::Read { path: path.into(), source }),
    }
}

/// Takes the section out of the document.
fn auths(path: &Path, document: &mut Map<String, Value>) -> Result<Map<String, Value>, CredentialError> {
    let auths = document.get_mut("auths").map(Value::take).unwrap_or_default();
    file::section(auths, "'auths'").map_err(|reason| malformed(path, reason))
}

fn malformed(path: &Path, reason: String) -> CredentialError {
    CredentialError::Malformed { path: path.into(), reason }
}

/// Replaces the file in one step.
fn write(path: &Path, document: &Map<String, Value>) -> Result<(), CredentialError> {
    let failed = |source| CredentialError::Write { path: path.into(), source };
    let path = behind_links(path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    // Temporary files have mode 0600, which keeps secrets from other users.
    let mut file = tempfile::Builder::new().prefix(".config-").tempfile_in(folder).map_err(failed)?;
    serde_json::to_writer_pretty(&mut file, document).map_err(|error| failed(error.into()))?;
    file.write_all(b"\n").map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Returns the file that a chain of links leads to, whether it exists or not, so that the file is replaced
/// and the link stays.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            // An absolute target replaces the whole path.
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            // The path is not a link, or does not exist.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many symbolic links in a row"))
}
