//! Upload of one request, whose digest is known before the bytes come.

use std::sync::Arc;

use quinistry_oci::{Algorithm, Digest};
use quinistry_store::{Entry, Key, RoomFuture, StorageError, Upload, scratch_folder};
use uuid::Uuid;

use super::assembly::Assembly;
use super::parts::PartWriter;
use super::progress::Progress;
use super::{Shared, copy, stages};
use crate::Condition;

/// Upload of one request. Its parts go straight to their key; where the digest does not tell the key, they
/// are copied there.
#[derive(Debug)]
pub(super) struct WholeUpload {
    shared: Arc<Shared>,
    assembly: Assembly,
    is_spent: bool,
}

impl WholeUpload {
    pub(super) fn new(shared: &Arc<Shared>, digest: &Digest, length: Option<u64>, key: Option<&Key>) -> Self {
        let progress = Progress::new(shared.sizes(length), Some(digest.algorithm()));
        let key = match key {
            Some(key) => key.to_string(),
            None => format!("{}/{}", scratch_folder(), Uuid::new_v4()),
        };
        let mut assembly = Assembly::new(shared, progress, PartWriter::new(shared, key));
        assembly.length = length;
        Self { shared: shared.clone(), assembly, is_spent: false }
    }

    fn check_usable(&self) -> Result<(), StorageError> {
        if self.is_spent { Err(StorageError::Broken) } else { Ok(()) }
    }
}

/// Stores the bytes of an upload under a key, and then the stages.
async fn place(
    shared: &Arc<Shared>,
    assembly: &mut Assembly,
    key: &str,
    then: &[&[Entry<'_>]],
) -> Result<(), StorageError> {
    if assembly.progress.parts() == 0 {
        assembly.put_at(key).await?;
        return stages::write(shared, then).await;
    }
    assembly.complete().await?;
    if assembly.writer.key() == key {
        return stages::write(shared, then).await;
    }
    let from = assembly.writer.key().to_owned();
    copy::copy(shared, &from, key, assembly.progress.offset()).await?;
    stages::write(shared, then).await?;
    // The content is stored, so that the push succeeds.
    if let Err(error) = shared.objects.delete(&from, Condition::Always, None).await {
        tracing::warn!(%error, "cannot remove copied content, leaving it until it expires");
    }
    Ok(())
}

impl Upload for WholeUpload {
    fn offset(&self) -> u64 {
        self.assembly.progress.offset()
    }

    fn room(&mut self, bytes: usize) -> Option<RoomFuture> {
        self.assembly.room(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.check_usable()?;
        let appended = self.shared.wait(self.assembly.append(bytes));
        self.is_spent = appended.is_err();
        appended
    }

    fn acknowledge(&mut self) -> Result<u64, StorageError> {
        self.check_usable()?;
        Ok(self.offset())
    }

    fn is_hashing(&self) -> bool {
        true
    }

    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        self.assembly.digest(algorithm).ok_or(StorageError::Broken)
    }

    fn finish(&mut self, key: &Key, then: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.check_usable()?;
        self.is_spent = true;
        let Self { shared, assembly, .. } = self;
        shared.wait(place(shared, assembly, key.as_str(), then))
    }

    fn abort(&mut self) -> Result<(), StorageError> {
        self.is_spent = true;
        self.shared.wait(self.assembly.writer.abort())
    }

    fn is_spent(&self) -> bool {
        self.is_spent
    }
}
