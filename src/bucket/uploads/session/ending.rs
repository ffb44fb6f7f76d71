//! End of a session: its bytes become an object under their key, or are removed.

use futures_util::TryStreamExt as _;
use quinistry_oci::{Algorithm, Digest, Hasher};
use quinistry_store::{Entry, StorageError};

use super::{SessionUpload, Stage};
use crate::objects::present;
use crate::storage::failed;
use crate::uploads::{copy, folder, stages};
use crate::{Condition, Payload};

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
                    self.stage = Stage::Staged;
                    self.staged = Some(self.assembly.writer.key().to_owned());
                }
            }
        }
        if let Some(from) = self.staged.clone().filter(|_| self.stage == Stage::Staged) {
            self.copy_from(&from, key, length).await?;
        }
        stages::write(&self.shared, then).await?;
        self.shared.ended.add(&self.folder);
        self.stage = Stage::Finished;
        Ok(())
    }

    /// Copies the staged bytes to their key. Bytes of the same length there are left: the key is the digest of the
    /// bytes, so that they would be replaced by the same ones.
    async fn copy_from(&self, from: &str, key: &str, length: u64) -> Result<(), StorageError> {
        if self.length_at(key).await? == Some(length) {
            return Ok(());
        }
        let Err(error) = copy::copy(&self.shared, from, key, length).await else { return Ok(()) };
        // A process that has stored the same bytes removes the session's folder afterwards.
        if self.length_at(key).await? == Some(length) { Ok(()) } else { Err(error) }
    }

    async fn length_at(&self, key: &str) -> Result<Option<u64>, StorageError> {
        let found = present(self.shared.objects.head(key).await).map_err(failed("look up", key))?;
        Ok(found.map(|meta| meta.length))
    }

    /// Tells other replicas that a session has become a blob, and removes its objects, while the client goes on. Not
    /// before the links are written: until then another replica must be able to go on with the session.
    pub(super) fn clear_later(&mut self) {
        let base = self.base.take();
        let ended = base.as_ref().filter(|_| !self.shared.is_exclusive);
        let ended = ended.map(|base| folder::record_key(&self.folder, base.seq + 1));
        let last = base.map_or(0, |base| base.seq);
        let mut keys: Vec<String> = (1..=last).map(|seq| folder::record_key(&self.folder, seq)).collect();
        if last > 0 {
            keys.push(folder::started_key(&self.folder));
        }
        keys.extend(self.staged.take());
        if keys.is_empty() {
            return;
        }
        let shared = self.shared.clone();
        self.shared.runtime.spawn(async move {
            if let Some(ended) = ended
                && let Err(error) = shared.objects.put(&ended, Payload::default(), Condition::Always).await
            {
                tracing::warn!(%error, "cannot tell of an ended upload session, leaving it until it expires");
                return;
            }
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
            folder::mark_ended(&self.shared, &self.folder).await?;
        }
        folder::clear(&self.shared, &self.folder).await?;
        is_own
    }

    /// Hashes all bytes by an algorithm that no request before the last one has announced: they become an
    /// object in the session's folder, and are read.
    pub(super) async fn read_back(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        if !self.is_within_folder() {
            return Err(StorageError::Broken);
        }
        self.assembly.complete().await?;
        let key = self.assembly.writer.key().to_owned();
        (self.stage, self.staged) = (Stage::Staged, Some(key.clone()));
        let object = self.shared.objects.get(&key, None, None).await.map_err(failed("read", &key))?;
        let mut hasher = Hasher::new(algorithm);
        let mut body = object.body;
        while let Some(bytes) = body.try_next().await.map_err(failed("read", &key))? {
            hasher.update(&bytes);
        }
        Ok(hasher.finish())
    }
}
