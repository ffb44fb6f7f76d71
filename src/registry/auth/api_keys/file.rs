//! A file of API keys that is in use.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use quinistry_http::watch::ReloadFiles;

use super::record::{ApiKeys, KeyRecord, MAX_FILE_BYTES, RecordError, parse};
use crate::auth::regular_file::{self, READABLE_BY_ALL, ReadFile, WRITABLE_BY_ALL};

/// Keys of a file, which is read again while it is in use.
#[derive(Debug)]
pub struct ApiKeysFile {
    path: PathBuf,
    keys: RwLock<Arc<ApiKeys>>,
    seen: SeenFiles,
}

/// Paths of the files that this process has read. A file that was there and is missing must not end its keys,
/// while one that `quinistry key add` has yet to create has none.
#[derive(Clone, Debug, Default)]
pub struct SeenFiles(Arc<Mutex<BTreeSet<PathBuf>>>);

/// Error of reading the file.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeysFileError {
    /// File that cannot be read.
    #[error("failed to read API keys {}: {error}", path.display())]
    Read {
        /// Path as it was given.
        path: PathBuf,
        /// Reason.
        error: io::Error,
    },
    /// File that every user of the machine can write.
    #[error("every user can write API keys {}; run `chmod 600` on it", path.display())]
    Writable {
        /// Path as it was given.
        path: PathBuf,
    },
    /// File that is no list of keys.
    #[error("API keys {}, {error}", path.display())]
    Parse {
        /// Path as it was given.
        path: PathBuf,
        /// Place and problem.
        error: RecordError,
    },
}

// === impl ApiKeysFile ===

impl ApiKeysFile {
    /// Reads a file. One that does not exist, and was not seen before, has no keys yet. Blocks.
    pub fn open(path: impl Into<PathBuf>, seen: SeenFiles) -> Result<Self, ApiKeysFileError> {
        let path = path.into();
        let keys = seen.read(&path)?.unwrap_or_else(|| {
            tracing::warn!(file = %path.display(), "file of API keys does not exist, `quinistry key add` creates it");
            ApiKeys::default()
        });
        Ok(Self { path, keys: RwLock::new(Arc::new(keys)), seen })
    }

    /// Returns the keys of now.
    #[must_use]
    pub fn keys(&self) -> Arc<ApiKeys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ReloadFiles for ApiKeysFile {
    fn name(&self) -> &'static str {
        "keys"
    }

    fn paths(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn reload(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if let Some(keys) = self.seen.read(&self.path)? {
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        }
        Ok(())
    }
}

// === impl SeenFiles ===

impl SeenFiles {
    /// Reads keys; `None` if the file does not exist and was never seen.
    fn read(&self, path: &Path) -> Result<Option<ApiKeys>, ApiKeysFileError> {
        match read(path) {
            Err(ApiKeysFileError::Read { error, .. })
                if error.kind() == io::ErrorKind::NotFound && !self.paths().contains(path) =>
            {
                Ok(None)
            }
            read => {
                let keys = read?;
                self.paths().insert(path.to_owned());
                Ok(Some(keys))
            }
        }
    }

    fn paths(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads keys, and logs that other users can read the file.
fn read(path: &Path) -> Result<ApiKeys, ApiKeysFileError> {
    let file = regular_file::read(path, MAX_FILE_BYTES);
    let file = file.map_err(|error| ApiKeysFileError::Read { path: path.into(), error })?;
    let (_, keys) = check_file(path, &file)?;
    if file.mode & READABLE_BY_ALL != 0 {
        tracing::warn!(file = %path.display(), "every user can read the file of API keys, run `chmod 600` on it");
    }
    Ok(keys)
}

/// Checks mode and content of a file that was read.
pub fn check_file(path: &Path, file: &ReadFile) -> Result<(Vec<KeyRecord>, ApiKeys), ApiKeysFileError> {
    if file.mode & WRITABLE_BY_ALL != 0 {
        return Err(ApiKeysFileError::Writable { path: path.into() });
    }
    parse(&file.bytes).map_err(|error| ApiKeysFileError::Parse { path: path.into(), error })
}
