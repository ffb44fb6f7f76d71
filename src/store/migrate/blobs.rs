//! Copying of blobs, with their bytes hashed on the way, and of aliases.

use std::io;
use std::sync::{Mutex, PoisonError};

use quinistry_oci::WithCauses;
use quinistry_oci::{Algorithm, Content, Digest, Hasher};

use super::known::{KnownDigests, beginning};
use super::listing::Pairs;
use super::pass::{Pass, is_of_other_type};
use super::workers::share_out;
use crate::MAX_LINK_BYTES;
use crate::layout::{Key, aliases, blob, blobs, content_digest};
use crate::storage::{Entry, Meta, StorageError, Upload, UploadStart};

/// Number of aliases that are copied at once.
const ALIASES_AT_ONCE: usize = 256;

/// State of a blob or of a part of a manifest in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartState {
    /// The target has it, or will have it after a run that is not dry.
    Whole,
    /// The source does not have it either.
    Missing,
    /// The source has it, and it cannot be copied.
    Failed,
}

/// Failure of a copy.
enum CopyError {
    /// The bytes of the source are not what they should be.
    Source(String),
    /// The storage does not answer, or the target cannot be written.
    Storage(StorageError),
}

impl From<StorageError> for CopyError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// Blob to look at: its digest, and its metadata in both storages.
type Work = (Digest, Meta, Option<Meta>);

/// Copies all blobs that the target lacks, or has in another length.
pub(super) fn copy_all(pass: &Pass<'_>) -> Result<(), StorageError> {
    let mut pairs = Pairs::new(pass.from, pass.to, &blobs(), None);
    let whole = Mutex::new(Vec::new());
    let note = |digest: &Digest| {
        whole.lock().unwrap_or_else(PoisonError::into_inner).push(beginning(digest));
    };
    let next = || -> Result<Option<Work>, StorageError> {
        while let Some(pair) = pairs.next()? {
            let Some(digest) = content_digest(pair.key.as_str()) else { continue };
            let has_equal_lengths = pair.has_equal_lengths();
            let Some(from) = pair.from else {
                // Parts of manifests that an earlier run copied, and that the source has removed since.
                note(&digest);
                continue;
            };
            pass.observer.looked_at(1);
            if has_equal_lengths && !pass.wanted.verifies {
                pass.report().unchanged += 1;
                note(&digest);
                continue;
            }
            return Ok(Some((digest, from, pair.to)));
        }
        Ok(None)
    };
    share_out(pass.wanted.jobs, next, |(digest, from, to)| {
        if pass.update_blob(&digest, &from, to.as_ref())? == PartState::Whole {
            note(&digest);
        }
        Ok(())
    })?;
    let whole = whole.into_inner().unwrap_or_else(PoisonError::into_inner);
    *pass.blobs.write().unwrap_or_else(PoisonError::into_inner) = KnownDigests::of(whole);
    Ok(())
}

/// Copies the aliases of blobs that were pushed by another hash than SHA-256.
pub(super) fn copy_aliases(pass: &Pass<'_>) -> Result<(), StorageError> {
    let mut pairs = Pairs::new(pass.from, pass.to, &aliases(Algorithm::Sha512), None);
    loop {
        let mut missing: Vec<Key> = Vec::new();
        while missing.len() < ALIASES_AT_ONCE {
            let Some(pair) = pairs.next()? else { break };
            let is_equal = pair.has_equal_lengths() && !pass.wanted.verifies;
            if pair.from.is_some() && !is_equal {
                missing.push(pair.key);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let read = pass.read(&missing, MAX_LINK_BYTES)?;
        let mut entries: Vec<Entry<'_>> = Vec::new();
        for (key, bytes) in missing.iter().zip(&read) {
            let Some(bytes) = bytes else { continue };
            let Some(canonical) = link_target(bytes) else {
                pass.add_fault(key, &"is not a valid link");
                continue;
            };
            match pass.ensure_blob(&canonical)? {
                PartState::Whole => entries.push((key.clone(), bytes)),
                PartState::Missing => pass.report().dangling += 1,
                PartState::Failed => {}
            }
        }
        pass.write(&[&entries])?;
        pass.report().links += entries.len() as u64;
        pass.observer.looked_at(missing.len() as u64);
    }
}

/// Returns the digest that a link holds.
pub(super) fn link_target(bytes: &[u8]) -> Option<Digest> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

impl Pass<'_> {
    /// Returns the state of a blob, which is copied first if the target lacks it: one that was pushed to the
    /// source after its blobs were listed.
    pub(super) fn ensure_blob(&self, digest: &Digest) -> Result<PartState, StorageError> {
        if digest.algorithm() != Algorithm::Sha256 {
            return Ok(PartState::Missing);
        }
        if self.blobs.read().unwrap_or_else(PoisonError::into_inner).contains(digest) {
            return Ok(PartState::Whole);
        }
        if self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains_key(digest) {
            return Ok(PartState::Failed);
        }
        let key = blob(digest);
        let Some(from) = self.from.head(&key)? else { return Ok(PartState::Missing) };
        let to = self.to.head(&key)?;
        let state = match &to {
            Some(to) if to.length == from.length && !self.wanted.verifies => PartState::Whole,
            to => self.update_blob(digest, &from, to.as_ref())?,
        };
        if state == PartState::Whole {
            self.blobs.write().unwrap_or_else(PoisonError::into_inner).insert(digest);
        }
        Ok(state)
    }

    /// Copies a blob, unless the target has its bytes.
    fn update_blob(
        &self,
        digest: &Digest,
        from: &Meta,
        to: Option<&Meta>,
    ) -> Result<PartState, StorageError> {
        if let Some(to) = to.filter(|to| to.length == from.length)
            && self.has_digest(digest, to)?
        {
            self.report().unchanged += 1;
            return Ok(PartState::Whole);
        }
        let copied = if self.wanted.is_dry_run { Ok(from.length) } else { self.copy_blob(digest, from, to) };
        match copied {
            Ok(length) => {
                let mut report = self.report();
                report.blobs += 1;
                report.bytes += length;
                Ok(PartState::Whole)
            }
            Err(CopyError::Source(reason)) => {
                self.add_fault(&blob(digest), &reason);
                self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone(), reason);
                Ok(PartState::Failed)
            }
            Err(CopyError::Storage(error)) => Err(error),
        }
    }

    /// Returns true if the target has bytes of a digest.
    fn has_digest(&self, digest: &Digest, meta: &Meta) -> Result<bool, StorageError> {
        let Some(content) = self.to.open_known(&blob(digest), meta)? else { return Ok(false) };
        match content.digest(Algorithm::Sha256) {
            Ok(found) => Ok(found == *digest),
            Err(error) if is_temporary(&error) => Err(read_error(digest, error)),
            // Bytes that cannot be read are replaced.
            Err(_) => Ok(false),
        }
    }

    /// Copies the bytes of a blob, and returns their number.
    fn copy_blob(&self, digest: &Digest, from: &Meta, to: Option<&Meta>) -> Result<u64, CopyError> {
        let key = blob(digest);
        let content = match self.from.open_known(&key, from) {
            Ok(Some(content)) => content,
            Ok(None) => return Err(CopyError::Source("was removed while it was copied".to_owned())),
            Err(error) if error.is_temporary() => return Err(error.into()),
            Err(error) => return Err(CopyError::Source(WithCauses(&error).to_string())),
        };
        let upload = self.receive(digest, &content)?;
        match finish(upload, &key) {
            Err(error) if to.is_some() && is_of_other_type(&error) => {
                self.to.remove(&key)?;
                let upload = self.receive(digest, &content)?;
                finish(upload, &key)?;
            }
            finished => finished?,
        }
        Ok(content.len())
    }

    /// Brings the bytes of a blob to the target, where no reader sees them yet.
    fn receive(&self, digest: &Digest, content: &Content) -> Result<Box<dyn Upload>, CopyError> {
        let start = UploadStart::Whole { digest, length: Some(content.len()), key: Some(&blob(digest)) };
        let mut upload = self.to.uploads().begin(start)?;
        let received = self.append_all(digest, content, &mut *upload);
        if received.is_err() {
            upload.abort()?;
        }
        received.map(|()| upload)
    }

    fn append_all(
        &self,
        digest: &Digest,
        content: &Content,
        upload: &mut dyn Upload,
    ) -> Result<(), CopyError> {
        let mut hasher = (!upload.is_hashing()).then(|| Hasher::new(Algorithm::Sha256));
        for chunk in content.chunks() {
            let chunk = chunk.map_err(|error| {
                if is_temporary(&error) {
                    CopyError::Storage(read_error(digest, error))
                } else {
                    CopyError::Source(format!("cannot be read: {}", WithCauses(&error)))
                }
            })?;
            if let Some(hasher) = &mut hasher {
                hasher.update(&chunk);
            }
            upload.append(&chunk)?;
            self.observer.copied(chunk.len() as u64);
        }
        let found = match hasher {
            Some(hasher) => hasher.finish(),
            None => upload.digest(Algorithm::Sha256)?,
        };
        if found == *digest {
            Ok(())
        } else {
            Err(CopyError::Source(format!("is damaged: its bytes have the digest {found}")))
        }
    }
}

/// Makes received bytes visible under a key.
fn finish(mut upload: Box<dyn Upload>, key: &Key) -> Result<(), StorageError> {
    let finished = upload.finish(key, &[]);
    if finished.is_err() {
        // The first error is the one to report.
        let _ = upload.abort();
    }
    finished
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::ResourceBusy)
}

fn read_error(digest: &Digest, source: io::Error) -> StorageError {
    StorageError::Io { what: "read", key: blob(digest).to_string(), source }
}
