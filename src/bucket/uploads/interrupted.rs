//! Uploads outside of sessions that no process finishes any more: those of this program and of distribution. Other
//! programs may use the bucket, too, so that only the registry's own folders are looked at.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinistry_store::{StorageError, content_folder, repositories_folder, scratch_folder};

use super::Shared;
use super::folder;
use crate::storage::failed;
use crate::{Multipart, PendingUpload};

/// Age from which on an upload outside of a session is interrupted: one request brings all its bytes, which may take
/// hours.
const WHOLE_AGE: Duration = Duration::from_hours(24);

/// Name of the folders of sessions in keys.
const SESSIONS: &str = "/_uploads/";

/// Aborts the uploads in parts whose sessions have been idle for `age`, and older uploads without a session, and removes
/// what copies have left. Returns their number.
pub(super) async fn clear(
    shared: &Arc<Shared>,
    age: Duration,
    is_dry_run: bool,
) -> Result<usize, StorageError> {
    let now = shared.now();
    let is_older = |time: SystemTime, age| now.duration_since(time).unwrap_or_default() >= age;
    let mut interrupted = 0;
    for within in [content_folder(), repositories_folder(), scratch_folder()] {
        let within = format!("{within}/");
        let pending =
            shared.objects.list_uploads(&within).await.map_err(failed("list the uploads of", &within))?;
        for upload in pending {
            let is_session = upload.key.contains(SESSIONS);
            if !is_older(upload.begun, if is_session { age } else { WHOLE_AGE }) {
                continue;
            }
            // The session may be older than its last request.
            if is_session && let Some((folder, _)) = upload.key.rsplit_once('/') {
                let modified = folder::look(shared, folder).await?.modified;
                if modified.is_some_and(|modified| !is_older(modified, age)) {
                    continue;
                }
            }
            interrupted += 1;
            if !is_dry_run {
                abort(shared, &upload).await?;
            }
        }
    }
    let mut left = Vec::new();
    folder::list(shared, &format!("{}/", scratch_folder()), |key, meta| {
        if is_older(meta.modified, WHOLE_AGE) {
            left.push(key);
        }
    })
    .await?;
    if !is_dry_run {
        folder::remove(shared, &left).await?;
    }
    Ok(interrupted + left.len())
}

async fn abort(shared: &Shared, upload: &PendingUpload) -> Result<(), StorageError> {
    let ended = Multipart { key: &upload.key, id: &upload.id };
    shared.objects.abort(ended).await.map_err(failed("abort the upload of", &upload.key))
}
