//! Uploads in parts that no process finishes any more: those of this program and of distribution.

use std::sync::Arc;
use std::time::Duration;

use quinistry_store::StorageError;

use super::Shared;
use super::failure::failed;
use super::folder;
use crate::Multipart;

/// Age from which on an upload outside of a session is interrupted: one request brings all its bytes.
const WHOLE_AGE: Duration = Duration::from_hours(24);

/// Name of the folders of sessions in keys.
const SESSIONS: &str = "/_uploads/";

/// Aborts the uploads in parts whose sessions have been idle for `age`, and older uploads without a session.
/// Returns their number.
pub(super) async fn clear(
    shared: &Arc<Shared>,
    age: Duration,
    is_dry_run: bool,
) -> Result<usize, StorageError> {
    let pending =
        shared.objects.list_uploads("").await.map_err(failed("list the uploads of", "the bucket"))?;
    let now = shared.now();
    let mut interrupted = 0;
    for upload in pending {
        let is_session = upload.key.contains(SESSIONS);
        let limit = if is_session { age } else { age.min(WHOLE_AGE) };
        if now.duration_since(upload.begun).unwrap_or_default() < limit {
            continue;
        }
        // The session may be older than its last request.
        if is_session && let Some((folder, _)) = upload.key.rsplit_once('/') {
            let modified = folder::look(shared, folder).await?.modified;
            if modified.is_some_and(|modified| now.duration_since(modified).unwrap_or_default() < age) {
                continue;
            }
        }
        interrupted += 1;
        if !is_dry_run {
            let ended = Multipart { key: &upload.key, id: &upload.id };
            shared.objects.abort(ended).await.map_err(failed("abort the upload of", &upload.key))?;
        }
    }
    Ok(interrupted)
}
