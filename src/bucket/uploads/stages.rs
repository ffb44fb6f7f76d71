//! Entries that follow an upload, in stages.

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use quinistry_store::{Entry, StorageError};

use super::Shared;
use crate::Condition;
use crate::storage::failed;

/// Greatest number of entries that are written at the same time.
const WRITES_AT_ONCE: usize = 32;

/// Writes stages one after the other, and an object with the last one.
pub(super) async fn write(
    shared: &Shared,
    stages: &[&[Entry<'_>]],
    beside_last: Option<(String, Bytes)>,
) -> Result<(), StorageError> {
    let mut entries: Vec<Vec<(String, Bytes)>> = stages
        .iter()
        .map(|stage| {
            stage.iter().map(|(key, bytes)| (key.to_string(), Bytes::copy_from_slice(bytes))).collect()
        })
        .collect();
    if let Some(beside) = beside_last {
        match entries.last_mut() {
            Some(last) => last.push(beside),
            None => entries.push(vec![beside]),
        }
    }
    for stage in entries {
        let writes = stage.into_iter().map(|(key, bytes)| async move {
            let written = shared.objects.put(&key, bytes.into(), Condition::Always).await;
            written.map(drop).map_err(failed("write", &key))
        });
        stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).try_collect::<()>().await?;
    }
    Ok(())
}
