//! Description of the layout: the versions that programs must understand, and notes beside them.

use quinistry_oci::to_json;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::replicas::MAX_NOTE_BYTES;
use crate::layout;
use crate::storage::{Created, StorageError};
use crate::{Store, StoreError};

/// Version of the layout that this program writes.
pub(crate) const FORMAT: u32 = 1;

/// Versions of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutVersions {
    /// Version that the writer of the object wrote.
    format: u32,
    /// Least version that a reader must understand.
    min_reader: u32,
    /// Least version that a writer must understand.
    min_writer: u32,
}

impl Store {
    /// Reads the versions of the layout, or writes them where there are none. Returns false if the storage can only be
    /// read.
    pub(super) fn check_format(&self) -> Result<bool, StoreError> {
        let key = layout::format();
        let own = LayoutVersions { format: FORMAT, min_reader: FORMAT, min_writer: FORMAT };
        let (found, is_writable) = match self.storage().create(&key, &to_json(&own)) {
            Ok(Created::New) => return Ok(true),
            Ok(Created::Exists(found)) => (Some(found), true),
            Err(StorageError::ReadOnly) => (self.storage().read(&key, MAX_NOTE_BYTES)?, false),
            Err(error) => return Err(error.into()),
        };
        let Some(found) = found else { return Ok(is_writable) };
        let format: LayoutVersions =
            serde_json::from_slice(&found).map_err(|_| StoreError::FormatUnknown(key.clone()))?;
        let needed = if is_writable { format.min_reader.max(format.min_writer) } else { format.min_reader };
        if needed > FORMAT {
            return Err(StoreError::FormatTooNew { key, format: format.format });
        }
        Ok(is_writable)
    }

    /// Writes a note beside the versions of the layout of a shared storage, in place of the former note of this name.
    /// All else stays. The versions are read again: a newer program may have raised them since the start.
    pub fn keep_note(&self, name: &str, note: Value) -> Result<(), StoreError> {
        let key = layout::format();
        let Some(found) = self.storage().read(&key, MAX_NOTE_BYTES)?.filter(|_| self.is_shared()) else {
            return Ok(());
        };
        let format: Option<Map<String, Value>> = serde_json::from_slice(&found).ok();
        let mut format = format.ok_or_else(|| StoreError::FormatUnknown(key.clone()))?;
        format.insert(name.to_owned(), note);
        Ok(self.storage().write(&[&[(key, &to_json(&format))]])?)
    }
}
