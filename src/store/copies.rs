//! Copies: manifests that an upstream has sent, and their eviction.
//!
//! Each copy has a record of its own under `_quinistry/upstreams`, whose time is that of the last use. So uses cost no
//! write that is flushed, all replicas see those of the others, and a crash only makes a copy look older. What clients have
//! pushed has no record, and is never evicted.
//!
//! An eviction removes manifests and their tags. Their blobs lose their links in the next collection, and the bytes go when
//! no repository needs them: the collection knows all links, and nothing here does.
//!
//! | step | file |
//! |---|---|
//! | which copies go (pure) | `plan.rs` |
//! | copies, with what they refer to | `facts.rs`, `references.rs` |
//! | removal of those that go | `run.rs` |
//! | records of uses | `renewal.rs` |
//! | numbers about all of them | `summary.rs` |
//! | states of connections to upstreams | `states.rs` |

mod facts;
mod plan;
mod references;
mod renewal;
mod run;
mod states;
mod summary;

use std::time::Duration;

use bytes::Bytes;
use quinistry_oci::{Digest, Manifest, RepositoryName};
use uuid::Uuid;

use crate::layout::{copy_record, copy_records_of};
use crate::manifests::{AbsentParts, CommitRules, Tagged};
use crate::{Store, StoreError};

pub use self::plan::{CopyLimits, EvictionReason};
pub(crate) use self::references::CopyMemory;
pub use self::renewal::RenewedCopies;
pub use self::run::{EvictionInputs, EvictionReport, UpstreamCopies};
pub use self::summary::CopySummary;

/// Number of repositories that are known to have no copies.
pub(crate) const UNCOPIED_REPOSITORIES: usize = 10_000;

/// Time for which a repository counts as one without copies. Another replica writes copies into a repository that clients
/// push to only while a change of the upstreams reaches one replica after the other.
pub(crate) const UNCOPIED_LIFETIME: Duration = Duration::from_mins(10);

impl Store {
    /// Commits a manifest that an upstream has sent, whose parts may be absent whatever the store allows. A manifest that
    /// the repository has already stays what it was: a copy, or content that a client has pushed.
    pub fn put_copy(
        &self,
        name: &RepositoryName,
        bytes: &Bytes,
        manifest: &Manifest,
        tagged: Tagged<'_>,
    ) -> Result<(), StoreError> {
        self.put_copy_with(name, bytes, manifest, tagged, true)
    }

    /// Commits a manifest as [`Self::put_copy`] does, but changes nothing that is served, like
    /// [`put_manifest_without_overwrite`](Self::put_manifest_without_overwrite).
    pub fn put_copy_without_overwrite(
        &self,
        name: &RepositoryName,
        bytes: &Bytes,
        manifest: &Manifest,
        tagged: Tagged<'_>,
    ) -> Result<(), StoreError> {
        self.put_copy_with(name, bytes, manifest, tagged, false)
    }

    fn put_copy_with(
        &self,
        name: &RepositoryName,
        bytes: &Bytes,
        manifest: &Manifest,
        tagged: Tagged<'_>,
        may_overwrite: bool,
    ) -> Result<(), StoreError> {
        self.note_copy(name, &Digest::sha256(bytes))?;
        let rules = CommitRules { may_overwrite, absent: AbsentParts::Any, is_push: false };
        self.put_manifest_with(name, bytes, manifest, tagged, rules)
    }

    /// Writes the record of a copy that is about to be stored.
    fn note_copy(&self, name: &RepositoryName, canonical: &Digest) -> Result<(), StoreError> {
        // Pushes look for records of this repository from now on.
        self.0.uncopied_repositories.invalidate_during(name, || self.write_copy_record(name, canonical))
    }

    fn write_copy_record(&self, name: &RepositoryName, canonical: &Digest) -> Result<(), StoreError> {
        let record = copy_record(name, canonical);
        // The record first: an eviction removes the manifest and then the record, so that without a record either the
        // manifest is gone as well, or a client has pushed it.
        if self.storage().head(&record)?.is_some() || self.revision(name, canonical)?.is_none() {
            // Before the manifest: one without a record would stay for ever, and a record without one is removed later.
            self.storage().write(&[&[(record, &new_record())]])?;
        }
        Ok(())
    }

    /// Removes the record of a manifest that a client has pushed, so that no eviction removes it.
    pub(crate) fn forget_copy(&self, name: &RepositoryName, canonical: &Digest) -> Result<(), StoreError> {
        let record = copy_record(name, canonical);
        let may_be_recorded =
            if self.is_shared() { self.has_copies(name)? } else { self.storage().exists(&record)? };
        if may_be_recorded {
            self.storage().remove(&record)?;
        }
        Ok(())
    }

    /// Returns true if a repository of a shared storage has records of copies. Most repositories that clients push to have
    /// none, of which one request assures for a while.
    fn has_copies(&self, name: &RepositoryName) -> Result<bool, StoreError> {
        let uncopied = &self.0.uncopied_repositories;
        if uncopied.get(name, &()).is_some() {
            return Ok(false);
        }
        let begun = uncopied.begin();
        let has_copies = !self.storage().scan(&copy_records_of(name), None, 1)?.entries.is_empty();
        if !has_copies {
            uncopied.insert(begun, name, (), (), 1);
        }
        Ok(has_copies)
    }
}

/// Returns the content of a record. Some stores tell writes of a key apart by the bytes alone.
fn new_record() -> Vec<u8> {
    Uuid::new_v4().to_string().into_bytes()
}
