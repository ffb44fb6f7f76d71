//! The store: what was pushed, on any [`Storage`], in distribution's own layout.
//!
//! Knows repositories, blobs, manifests, tags, referrers and upload sessions, and nothing of HTTP. What it has answered
//! `Ok` for is durable, a digest that it gives bytes for is theirs, and a tag never means what is not wholly there, by its
//! own doing. Its calls block. Called by `registry`; `gc` is called by the command line, while no registry runs.
//!
//! A manifest is committed in two steps, the first durable before the second: what it consists of, that is its bytes,
//! revision, referrers and tag index; then the tag. So whatever is cut off, what is visible is whole. What takes several visible steps is written down first
//! (`intents`) and finished at the next start.

mod artifact_types;
mod blobs;
mod cache;
mod error;
mod failpoint;
mod filesystem;
mod gc;
mod intents;
mod layout;
mod listings;
mod locks;
mod manifests;
mod memory;
mod referrers;
mod storage;
mod uploads;
mod verified;
mod walk;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Content, Digest, Reference, RepositoryName, Tag};

use self::artifact_types::ArtifactTypes;
use self::cache::Lookups;
use self::cache::manifests::Recent;
use self::gc::link_guard::Links;
use self::intents::Left;
use self::locks::Locks;
use self::manifests::Meaning;
use self::referrers::{Asked, Made};
use self::uploads::Sessions;
use self::verified::Verified;
use self::walk::Lists;

pub use error::StoreError;
pub use filesystem::{Access, Filesystem, OpenError};
pub use gc::{Collected, Collection, NotUnderstood};
pub use layout::Key;
pub use listings::Page;
pub use manifests::{StoredManifest, Tagged};
pub use memory::Memory;
pub use referrers::Referrers;
pub use storage::{Entry, Staged, Storage, StorageError};
pub use uploads::{Claimed, Receiver, Session, UploadId};

/// How many upload sessions may be open at once, unless said otherwise.
pub const MAX_SESSIONS: usize = 10_000;

/// So many references to manifests are remembered for a moment.
const MEANINGS: usize = 8192;

/// So many bytes of short blobs are, and the weight of open files.
const FOUND_BLOBS: usize = 4 * 1024 * 1024;

/// So many bytes of descriptors are.
const FOUND_REFERRERS: usize = 4 * 1024 * 1024;

/// So many tags of lists are.
const LISTED_TAGS: usize = 200_000;

/// A link holds a digest; what is longer is none.
const LINK: u64 = 1024;

/// What was pushed. Clones share it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn Storage>,
    /// Held while what a repository consists of is changed in more than one step.
    locks: Locks,
    links: Links,
    sessions: Sessions,
    meanings: Lookups<Reference, Meaning>,
    found_blobs: Lookups<Digest, Content>,
    tag_lists: Lookups<(), Arc<[Tag]>>,
    referrers: Lookups<Asked, Referrers>,
    recent: Recent,
    verified: Verified,
    folder_lists: Lists,
    made: Made,
    artifact_types: ArtifactTypes,
    left: Left,
    /// Accept manifests whose blobs or children are not there.
    sparse: bool,
}

impl Store {
    /// A store that goes on with what lies on a storage. First finishes what was cut off, if it may write.
    pub fn open(storage: impl Storage, sparse: bool) -> Result<Self, StoreError> {
        let inner = Inner {
            storage: Arc::new(storage),
            locks: Locks::default(),
            links: Links::default(),
            sessions: Sessions::new(MAX_SESSIONS),
            meanings: Lookups::new(MEANINGS),
            found_blobs: Lookups::new(FOUND_BLOBS),
            tag_lists: Lookups::new(LISTED_TAGS),
            referrers: Lookups::new(FOUND_REFERRERS),
            recent: Recent::default(),
            verified: Verified::default(),
            folder_lists: Lists::default(),
            made: Made::default(),
            artifact_types: ArtifactTypes::default(),
            left: Left::default(),
            sparse,
        };
        let store = Self(Arc::new(inner));
        store.finish_intents()?;
        Ok(store)
    }

    fn storage(&self) -> &dyn Storage {
        &*self.0.storage
    }

    /// The digest that a link holds; nothing without a link, or with one that was torn by a crash of another program.
    fn link(&self, key: &Key) -> Result<Option<Digest>, StoreError> {
        let digest = match self.storage().read(key, LINK) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()),
            Err(StorageError::TooLong { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if digest.is_none() {
            tracing::warn!(%key, "ignoring link without a valid digest");
        }
        Ok(digest)
    }

    /// Reads a short note beside a repository's content; `None` if the note is absent, or longer than it can
    /// be.
    fn note(&self, key: &Key, most: u64) -> Result<Option<Bytes>, StoreError> {
        match self.storage().read(key, most) {
            Err(StorageError::TooLong { length, .. }) => {
                tracing::warn!(%key, length, "ignoring file that is too long");
                Ok(None)
            }
            read => Ok(read?),
        }
    }

    /// Finds the digest under which the bytes lie that a link named after `digest` leads to. Content with a
    /// SHA-256 lies under that alone.
    fn canonical(&self, key: &Key, digest: &Digest) -> Result<Option<Digest>, StoreError> {
        let Some(canonical) = self.link(key)? else { return Ok(None) };
        let is_right = match digest.algorithm() {
            Algorithm::Sha256 => canonical == *digest,
            Algorithm::Sha512 => canonical.algorithm() == Algorithm::Sha256,
        };
        if !is_right {
            tracing::warn!(%key, %canonical, "ignoring link to other content than it is named after");
        }
        Ok(is_right.then_some(canonical))
    }

    /// The digests that a folder has entries for.
    fn digests_in(&self, folder: &Key, algorithm: Algorithm) -> Result<Vec<Digest>, StoreError> {
        let names = self.storage().list(folder)?.unwrap_or_default();
        let digest = |hex: String| format!("{}:{hex}", algorithm.as_str()).parse();
        Ok(names.into_iter().map(digest).filter_map(Result::ok).collect())
    }

    /// A link that is there and holds no digest is an error.
    fn must_not_be_torn(&self, key: &Key) -> Result<(), StoreError> {
        if self.storage().length(key)?.is_some() && self.link(key)?.is_none() {
            return Err(StoreError::Torn(key.clone()));
        }
        Ok(())
    }

    /// Whether it has ever had a manifest or a blob.
    fn is_repository(&self, name: &RepositoryName) -> Result<bool, StoreError> {
        let place = layout::Place(name);
        Ok(self.storage().exists(&place.manifests())? || self.storage().exists(&place.all_layers())?)
    }
}
