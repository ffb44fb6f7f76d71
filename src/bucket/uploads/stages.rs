//! Entries that follow an upload, in stages.

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use quinistry_store::{Entry, StorageError};

use super::Shared;
use crate::Condition;
use crate::storage::failed;

/// Greatest number of entries that are written at the same time.
const WRITES_AT_ONCE: usize = 32;

/// Writes stages one after the other.
pub(super) async fn write(shared: &Shared, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
    for stage in stages {
        let writes = stage.iter().map(|(key, bytes)| async move {
            let body = Bytes::copy_from_slice(bytes).into();
            let written = shared.objects.put(key.as_str(), body, Condition::Always).await;
            written.map(drop).map_err(failed("write", key))
        });
        stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).try_collect::<()>().await?;
    }
    Ok(())
}
