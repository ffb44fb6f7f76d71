//! Check of one content: a read, and a second one if the first is wrong.

use std::io;
use std::ops::ControlFlow;
use std::time::SystemTime;

use quinistry_oci::{Algorithm, Content, Digest, Hasher};

use super::pace::{Pace, REQUEST_BYTES};
use super::quarantine;
use crate::layout::{Key, blob};
use crate::storage::{ObjectTag, StorageError, Upload, UploadStart};
use crate::verified::is_damage;
use crate::{Store, StoreError};

/// Most reads of one content, which other writers may replace between two.
const MAX_READS: usize = 4;

/// Result of a check.
pub(super) enum Verdict {
    /// The bytes have their digest.
    Sound,
    /// There are no bytes.
    Absent,
    /// Two reads found bytes with another digest.
    Damaged(Damage),
    /// The disk failed to give the bytes, twice.
    Unreadable(io::Error),
    /// The bytes were replaced again and again.
    Changing,
    /// The scrub shall stop.
    Stopped,
}

/// Damaged bytes, of which a copy was made.
pub(super) struct Damage {
    /// Tag of the bytes.
    pub(super) tag: ObjectTag,
    /// Time at which the bytes were written.
    pub(super) modified: SystemTime,
    pub(super) length: u64,
    /// Digest that the bytes have.
    pub(super) found: Digest,
    /// Copy of the bytes, which is not stored yet.
    pub(super) copy: Box<dyn Upload>,
    /// Key to store the copy under.
    pub(super) copy_key: Key,
}

/// Result of a read.
enum Read {
    Whole(Digest),
    Failed(io::Error),
    Stopped,
}

/// Bytes that a read found wrong.
struct Wrong {
    tag: ObjectTag,
    modified: SystemTime,
}

impl Store {
    /// Checks the bytes that lie under a digest. With `believes_storage`, a SHA-256 that the storage tells is
    /// enough.
    pub(super) fn check_content(
        &self,
        canonical: &Digest,
        believes_storage: bool,
        pace: &mut Pace<'_>,
    ) -> Result<Verdict, StoreError> {
        let key = blob(canonical);
        self.0.scrub_counts.checked.add(1);
        if pace.spend(REQUEST_BYTES).is_break() {
            return Ok(Verdict::Stopped);
        }
        if believes_storage && self.storage().kept_sha256(&key)?.as_ref() == Some(canonical) {
            return Ok(Verdict::Sound);
        }
        let mut wrong: Option<Wrong> = None;
        let mut unreadable: Option<ObjectTag> = None;
        for _ in 0..MAX_READS {
            // The time tells a replacement where equal bytes have equal tags, and the store does not notice
            // damage.
            let Some(before) = self.storage().head(&key)? else { return Ok(Verdict::Absent) };
            let is_first = wrong.is_none() && unreadable.is_none();
            let opened =
                if is_first { self.storage().open(&key)? } else { self.storage().open_uncached(&key)? };
            let Some((content, tag)) = opened else { return Ok(Verdict::Absent) };
            let is_second =
                wrong.as_ref().is_some_and(|wrong| wrong.tag == tag && wrong.modified == before.modified);
            let copy_key = quarantine::place(canonical, self.storage().now());
            let mut copy =
                if is_second { Some(self.begin_copy(canonical, content.len(), &copy_key)?) } else { None };
            let read = self.read(&content, &mut copy, pace)?;
            match (read, copy) {
                (Read::Whole(found), Some(copy)) if found != *canonical => {
                    let (length, modified) = (content.len(), before.modified);
                    return Ok(Verdict::Damaged(Damage { tag, modified, length, found, copy, copy_key }));
                }
                (Read::Whole(found), None) if found != *canonical => {
                    wrong = Some(Wrong { tag, modified: before.modified });
                }
                (read, copy) => {
                    if let Some(mut copy) = copy {
                        copy.abort()?;
                    }
                    match read {
                        Read::Whole(_) => {
                            self.note_whole(canonical, tag, is_first);
                            return Ok(Verdict::Sound);
                        }
                        Read::Stopped => return Ok(Verdict::Stopped),
                        Read::Failed(error)
                            if self.storage().head(&key)?.is_some_and(|now| now.tag == tag) =>
                        {
                            if !is_damage(&error) || !tag.can_change() {
                                let key = key.to_string();
                                return Err(StorageError::Io { what: "read", key, source: error }.into());
                            }
                            if unreadable.as_ref() == Some(&tag) {
                                return Ok(Verdict::Unreadable(error));
                            }
                            unreadable = Some(tag);
                        }
                        // The bytes were replaced while they were read.
                        Read::Failed(_) => {}
                    }
                }
            }
        }
        Ok(Verdict::Changing)
    }

    fn note_whole(&self, canonical: &Digest, tag: ObjectTag, is_first: bool) {
        if !is_first {
            self.0.scrub_counts.misread.add(1);
            tracing::warn!(digest = %canonical, "content was misread, and is whole by another read");
        }
        if tag.can_change() {
            self.0.verified.put(canonical, tag, true);
        }
    }

    fn begin_copy(&self, canonical: &Digest, length: u64, key: &Key) -> Result<Box<dyn Upload>, StoreError> {
        let start = UploadStart::Whole { digest: canonical, length: Some(length), key: Some(key) };
        Ok(self.storage().uploads().begin(start)?)
    }

    /// Reads and hashes content, piece by piece, and copies it.
    fn read(
        &self,
        content: &Content,
        copy: &mut Option<Box<dyn Upload>>,
        pace: &mut Pace<'_>,
    ) -> Result<Read, StoreError> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for chunk in content.chunks() {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return Ok(Read::Failed(error)),
            };
            hasher.update(&chunk);
            if let Some(copy) = copy {
                copy.append(&chunk)?;
            }
            self.0.scrub_counts.read_bytes.add(chunk.len() as u64);
            if let ControlFlow::Break(()) = pace.spend(chunk.len() as u64) {
                return Ok(Read::Stopped);
            }
        }
        Ok(Read::Whole(hasher.finish()))
    }
}
