//! Writes one entry of `auths`, and leaves everything else in the file as it is.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::CredentialError;

/// Puts `auth` under `key`; without one, an empty entry says that a helper knows.
pub(super) fn put(path: &Path, key: &str, auth: Option<String>) -> Result<(), CredentialError> {
    let failed = |source| CredentialError::Write { path: path.into(), source };
    let malformed =
        || CredentialError::Malformed { path: path.into(), reason: "'auths' is not an object".into() };
    let mut document = match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|_| malformed())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Value::Object(Map::new()),
        Err(source) => return Err(CredentialError::Read { path: path.into(), source }),
    };
    let auths = document.as_object_mut().ok_or_else(malformed)?.entry("auths").or_insert_with(|| json!({}));
    let entry = auth.map_or_else(|| json!({}), |auth| json!({"auth": auth}));
    auths.as_object_mut().ok_or_else(malformed)?.insert(key.into(), entry);

    // The file that a link points at is meant, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    // Temporary files have mode 0600, which is what is wanted here.
    let mut file = tempfile::Builder::new().prefix(".config-").tempfile_in(folder).map_err(failed)?;
    serde_json::to_writer_pretty(&mut file, &document).map_err(|error| failed(error.into()))?;
    file.write_all(b"\n").map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(())
}
