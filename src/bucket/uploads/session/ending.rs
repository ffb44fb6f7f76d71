//! End of a session: its bytes become an object under their key, or are removed.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use quinistry_oci::{Algorithm, Digest, Hasher};
use quinistry_store::{Entry, StorageError};

use super::{SessionUpload, Stage};
use crate::uploads::failure::failed;
use crate::uploads::{copy, folder, stages};
use crate::{Condition, ObjectErrorKind, Payload};

impl SessionUpload {
    /// Stores the bytes under their key, and then the stages.
    pub(super) async fn finish_now(&mut self, key: &str, then: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        let length = self.assembly.progress.offset();
        if self.stage != Stage::Staged {
            self.load().await?;
            if self.assembly.progress.parts() == 0 {
                self.assembly.put_at(key).await?;
                self.is_loaded = length == 0;
            } else {
                self.assembly.complete().await?;
                if self.assembly.writer.key() != key {
                    (self.stage, self.is_staged) = (Stage::Staged, true);
                }
            }
        }
        // Bytes of the same length under the key are left: they would be replaced by the same ones.
        if self.stage == Stage::Staged && self.length_at(key).await? != Some(length) {
            let from = folder::data_key(&self.folder);
            copy::copy(&self.shared, &from, key, length).await?;
        }
        let ended = (!self.shared.is_exclusive && self.base.is_some())
            .then(|| (folder::ended_key(&self.folder), Bytes::new()));
        stages::write(&self.shared, then, ended).await?;
        self.shared.ended.add(&self.folder);
        self.stage = Stage::Finished;
        Ok(())
    }

    async fn length_at(&self, key: &str) -> Result<Option<u64>, StorageError> {
        match self.shared.objects.head(key).await {
            Ok(meta) => Ok(Some(meta.length)),
            Err(error) if error.kind == ObjectErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("look up", key)(error)),
        }
    }

    /// Removes the objects of a session that has become a blob, while the client goes on.
    pub(super) fn clear_later(&mut self) {
        let last = self.base.take().map_or(0, |base| base.seq);
        let mut keys: Vec<String> = (1..=last).map(|seq| folder::record_key(&self.folder, seq)).collect();
        if last > 0 {
            keys.push(folder::started_key(&self.folder));
        }
        if self.is_staged {
            keys.push(folder::data_key(&self.folder));
        }
        if keys.is_empty() {
            return;
        }
        let shared = self.shared.clone();
        self.shared.runtime.spawn(async move {
            if let Err(error) = folder::remove(&shared, &keys).await {
                tracing::warn!(%error, "cannot remove upload session, leaving it until it expires");
            }
        });
    }

    /// Ends the session without a blob.
    pub(super) async fn end(&mut self) -> Result<(), StorageError> {
        let is_own = self.assembly.writer.abort().await;
        self.shared.ended.add(&self.folder);
        if !self.shared.is_exclusive {
            let key = folder::ended_key(&self.folder);
            let written = self.shared.objects.put(&key, Payload::default(), Condition::Always).await;
            written.map_err(failed("write", &key))?;
        }
        folder::clear(&self.shared, &self.folder).await?;
        is_own
    }

    /// Hashes all bytes by an algorithm that no request before the last one has announced: they become an
    /// object in the session's folder, and are read.
    pub(super) async fn read_back(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        if self.assembly.writer.key() != folder::data_key(&self.folder) {
            return Err(StorageError::Broken);
        }
        self.assembly.complete().await?;
        (self.stage, self.is_staged) = (Stage::Staged, true);
        let key = folder::data_key(&self.folder);
        let object = self.shared.objects.get(&key, None, None).await.map_err(failed("read", &key))?;
        let mut hasher = Hasher::new(algorithm);
        let mut body = object.body;
        while let Some(bytes) = body.try_next().await.map_err(failed("read", &key))? {
            hasher.update(&bytes);
        }
        Ok(hasher.finish())
    }
}
