//! The store: repositories of pushed content, on any [`Storage`], in distribution's own layout.
//!
//! The store knows repositories, blobs, manifests, tags, referrers and upload sessions, and nothing of HTTP.
//! A change that returned `Ok` is durable, bytes are returned only under a digest that they have, and no
//! change by the store leaves a tag that refers to incomplete content. Calls block. Called by `registry`.
//! Collection (`gc`) removes what nothing needs: of a storage that no registry uses, or while registries run.
//!
//! A manifest is committed in two steps, the first durable before the second: first its bytes, revision,
//! referrers and tag index; then the tag. Visible content is therefore complete after an interruption at any
//! point. A change of several visible steps is recorded first (`intents`) and finished at the next start.

mod artifact_types;
mod blobs;
mod boottime;
mod bundle;
mod cache;
mod coherence;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
pub mod copies;
mod deletions;
mod error;
pub mod failpoint;
mod filesystem;
pub mod fsck;
mod gc;
mod intents;
mod key_map;
mod layout;
mod listings;
mod locks;
mod manifests;
mod memory;
mod migrate;
mod named_roots;
mod names;
mod observed;
mod pulls;
mod quotas;
mod read_only;
mod referrers;
pub mod retention;
mod scrub;
mod shared;
mod statistics;
mod storage;
mod tag_lists;
mod tag_rules;
mod uploads;
mod verified;
mod waiting;
mod walk;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use quinistry_oci::{Algorithm, Content, Digest, Reference, RepositoryName};

use self::artifact_types::ArtifactTypes;
use self::cache::ExpiringCache;
use self::cache::manifests::ManifestCache;
use self::copies::{CopyMemory, UNCOPIED_LIFETIME, UNCOPIED_REPOSITORIES};
use self::deletions::Deletions;
use self::gc::link_guard::LinkGuard;
use self::gc::online::Collector;
use self::intents::PendingIntents;
use self::locks::RepositoryLocks;
use self::manifests::ResolvedReference;
use self::names::SortedNames;
use self::pulls::PullRecorder;
use self::quotas::Quotas;
use self::referrers::{ReferrersQuery, UnsavedReferrers};
use self::scrub::{ScrubCounts, Suspects};
use self::shared::Shared;
use self::statistics::SpaceAnswers;
use self::storage::SCAN_PAGE_SIZE;
use self::tag_lists::TagLists;
use self::tag_rules::CurrentTagRules;
use self::uploads::Sessions;
use self::verified::VerificationCache;
use self::walk::ListingCache;

pub use boottime::{LocalClock, time_since_boot};
pub use bundle::{BundleError, BundleStorage, Unserved, UnservedReason};
pub use coherence::{Coherence, StoreOptions};
pub use deletions::{DeletedSubject, Deletion, DeletionActor, DeletionObserver};
pub use error::StoreError;
pub use filesystem::{Access, Filesystem, FilesystemKind, Locking, OpenError};
#[cfg(any(test, feature = "testing"))]
pub use gc::Safeguard;
pub use gc::{
    Collected, Collection, Cycle, CycleReport, DamagedManifest, DamagedManifests, GcOptions, GcPhase,
    KeepAll, KindReport, LooseRevision, NotUnderstood, RemoveUntagged, RepositoryReport, RevisionRules,
    SubjectReport, UnknownNeeds, Writers,
};
pub use layout::{
    Key, content_digest, content_folder, repositories_folder, scratch_folder, upload_folder, uploads_folder,
};
pub use listings::{ListWalk, Page, TagPage};
pub use manifests::{AbsentParts, StoredManifest, Tagged};
pub use memory::Memory;
pub use migrate::{
    Migrated, Migration, MigrationFault, MigrationObserver, Origin, PushedTimes, TargetRole, migrate,
    running_replicas,
};
pub use named_roots::TaggedManifest;
pub use observed::{ObservedStorage, StorageAction, StorageObserver};
pub use pulls::{CurrentPulls, LastPull, Pulls};
pub use quotas::{Quota, QuotaExceeded, RepositoryMatcher, Usage};
pub use read_only::ReadOnlyStorage;
pub use referrers::Referrers;
pub use scrub::{
    ContentKind, HealError, HealSource, Holder, Quarantined, ScrubClock, ScrubOptions, ScrubStatistics,
    ScrubStep, StorageSource,
};
pub use shared::{Lead, LeadGains, RemoteAnswer, RemoteBlob};
pub use statistics::{CacheUses, Statistics};
pub use storage::{
    Abilities, Created, Entry, FENCE_LIFETIME, Fence, Leftover, ListingVersion, LookedUp, MAX_CREATED_BYTES,
    Meta, NextRequest, ObjectTag, Removed, RoomFuture, ScanPage, Space, Storage, StorageError, Upload,
    UploadStart, Uploads,
};
pub use tag_rules::TagRules;
pub use uploads::{Claimed, IdleUpload, Receiver, Session, SharedSession, UploadId};

/// Greatest number of open upload sessions: each holds a buffer or a file.
pub const MAX_SESSIONS: usize = 10_000;

/// Capacity of the cache of resolved references, in references.
const REFERENCE_CACHE_CAPACITY: usize = 8192;

/// Capacity of the blob cache, in bytes of short blobs and the weight of open files.
const BLOB_CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Capacity of the cache of referrers, in bytes of descriptors.
const REFERRERS_CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Capacity of the tag-list cache, in bytes: a million tags of twenty characters.
const TAG_CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Longest link, in bytes: a link holds a digest, so that a longer file is not a link.
const MAX_LINK_BYTES: u64 = 1024;

/// Store of repositories on a storage. Clones share one store.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn Storage>,
    /// Locks of repositories, held while content of one is changed in more than one step.
    locks: RepositoryLocks,
    link_guard: LinkGuard,
    /// State of collection while the store is used.
    collector: Collector,
    sessions: Sessions,
    resolved_references: ExpiringCache<Reference, ResolvedReference>,
    blob_cache: ExpiringCache<Digest, Content>,
    /// Repositories that have no copies of upstreams.
    uncopied_repositories: ExpiringCache<(), ()>,
    copy_memory: Mutex<CopyMemory>,
    tag_list_cache: ExpiringCache<ListWalk, Arc<SortedNames>>,
    tag_lists: TagLists,
    referrers_cache: ExpiringCache<ReferrersQuery, Referrers>,
    manifest_cache: ManifestCache,
    verified: VerificationCache,
    listing_cache: ListingCache,
    unsaved_referrers: UnsavedReferrers,
    artifact_types: ArtifactTypes,
    pending_intents: PendingIntents,
    deletions: Deletions,
    pulls: PullRecorder,
    tag_rules: CurrentTagRules,
    quotas: Quotas,
    suspects: Suspects,
    scrub_counts: ScrubCounts,
    space_answers: SpaceAnswers,
    /// State that a storage of several processes needs.
    shared: Option<Shared>,
    coherence: Coherence,
    absent_parts: AbsentParts,
}

impl Store {
    /// Opens the store on a storage. First finishes interrupted changes, if the storage can be written.
    ///
    /// With `allows_sparse`, manifests are accepted although their blobs or children are absent.
    pub fn open(storage: impl Storage, allows_sparse: bool) -> Result<Self, StoreError> {
        let absent_parts = if allows_sparse { AbsentParts::Any } else { AbsentParts::Refused };
        Self::open_with(storage, StoreOptions { absent_parts, coherence: None })
    }

    /// Opens the store on a storage, with options. First finishes interrupted changes, if the storage can be written.
    pub fn open_with(storage: impl Storage, options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_by(storage, options, Collector::new(LocalClock::boot()))
    }

    /// Opens the store as one replica of several in a test, which moves the clock of the replica's machine.
    #[cfg(any(test, feature = "testing"))]
    pub fn open_replica(storage: impl Storage, clock: LocalClock) -> Result<Self, StoreError> {
        Self::open_by(storage, StoreOptions::default(), Collector::new(clock))
    }

    /// Opens the store as one replica of several in a test of collection: with the lifetime of a view in place of a
    /// minute, and with a way to wait.
    #[cfg(any(test, feature = "testing"))]
    pub fn open_collected(
        storage: impl Storage,
        options: StoreOptions,
        clock: LocalClock,
        view_lifetime: std::time::Duration,
        wait: impl Fn(std::time::Duration) + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        Self::open_by(storage, options, Collector::new(clock).with(view_lifetime, wait))
    }

    fn open_by(
        storage: impl Storage,
        options: StoreOptions,
        collector: Collector,
    ) -> Result<Self, StoreError> {
        let StoreOptions { absent_parts, coherence } = options;
        let is_shared = storage.abilities().is_shared;
        let usual = if is_shared { Coherence::Strict } else { Coherence::Relaxed };
        let coherence = coherence.unwrap_or(usual);
        let lifetime = coherence.lifetime();
        let clock = collector.clock().clone();
        let inner = Inner {
            storage: Arc::new(storage),
            locks: RepositoryLocks::default(),
            link_guard: LinkGuard::default(),
            collector,
            sessions: Sessions::new(MAX_SESSIONS),
            resolved_references: ExpiringCache::new(REFERENCE_CACHE_CAPACITY, lifetime),
            blob_cache: ExpiringCache::new(BLOB_CACHE_BYTES, lifetime),
            uncopied_repositories: ExpiringCache::new(UNCOPIED_REPOSITORIES, UNCOPIED_LIFETIME),
            copy_memory: Mutex::default(),
            tag_list_cache: ExpiringCache::new(TAG_CACHE_BYTES, coherence.tag_pages_lifetime()),
            tag_lists: TagLists::default(),
            referrers_cache: ExpiringCache::new(REFERRERS_CACHE_BYTES, lifetime),
            manifest_cache: ManifestCache::default(),
            verified: VerificationCache::default(),
            listing_cache: ListingCache::default(),
            unsaved_referrers: UnsavedReferrers::default(),
            artifact_types: ArtifactTypes::default(),
            pending_intents: PendingIntents::default(),
            deletions: Deletions::default(),
            pulls: PullRecorder::default(),
            tag_rules: CurrentTagRules::default(),
            quotas: Quotas::default(),
            suspects: Suspects::default(),
            scrub_counts: ScrubCounts::default(),
            space_answers: SpaceAnswers::default(),
            shared: is_shared.then(|| Shared::new(clock)),
            coherence,
            absent_parts,
        };
        let store = Self(Arc::new(inner));
        // Before the intents of a crash, which link content. Where others collect, an intent reads the view itself.
        if !is_shared {
            store.open_view()?;
        }
        store.finish_intents()?;
        if is_shared {
            store.open_view()?;
        }
        Ok(store)
    }

    fn storage(&self) -> &dyn Storage {
        &*self.0.storage
    }

    /// Removes all keys beneath a folder, which `visible` makes visible to readers: that key first, unless
    /// the storage removes all at once. Returns true if anything was removed.
    fn clear(&self, visible: &Key, folder: &Key) -> Result<bool, StorageError> {
        let is_hidden = !self.storage().abilities().clears_at_once && self.storage().remove(visible)?;
        Ok(self.storage().clear(folder)? || is_hidden)
    }

    /// Calls `visit` with each key beneath a folder, in order.
    fn scan(
        &self,
        folder: &Key,
        mut visit: impl FnMut(Key, Meta) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.storage().scan(folder, after.as_ref(), SCAN_PAGE_SIZE)?;
            page.entries.into_iter().try_for_each(|(key, meta)| visit(key, meta))?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn is_persistent(&self) -> bool {
        self.storage().abilities().is_persistent
    }

    /// Reads the digest that a link holds; `None` if the link is absent, or was torn by a crash of another
    /// program.
    fn link(&self, key: &Key) -> Result<Option<Digest>, StoreError> {
        match self.sound_link(key) {
            Err(StoreError::Torn(key)) => {
                tracing::warn!(%key, "ignoring link without a valid digest");
                Ok(None)
            }
            read => read,
        }
    }

    /// Reads the digest that a link holds; `None` if the link is absent. Fails if it exists and holds no digest.
    fn sound_link(&self, key: &Key) -> Result<Option<Digest>, StoreError> {
        let bytes = match self.storage().read(key, MAX_LINK_BYTES) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => bytes,
            Err(StorageError::TooLong { .. }) => return Err(StoreError::Torn(key.clone())),
            Err(error) => return Err(error.into()),
        };
        let digest = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
        digest.map(Some).ok_or_else(|| StoreError::Torn(key.clone()))
    }

    /// Reads a short file beside a repository's content; `None` if the file is absent, or longer than
    /// `max_bytes`.
    fn read_note(&self, key: &Key, max_bytes: u64) -> Result<Option<Bytes>, StoreError> {
        match self.storage().read(key, max_bytes) {
            Err(StorageError::TooLong { length, .. }) => {
                tracing::warn!(%key, length, "ignoring file of excessive length");
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
            tracing::warn!(%key, %canonical, "ignoring link to content with another digest");
        }
        Ok(is_right.then_some(canonical))
    }

    /// Returns the digests that a folder has entries for.
    fn digests_in(&self, folder: &Key, algorithm: Algorithm) -> Result<Vec<Digest>, StoreError> {
        let names = self.storage().list(folder)?.unwrap_or_default();
        let digest = |hex: String| format!("{}:{hex}", algorithm.as_str()).parse();
        Ok(names.into_iter().map(digest).filter_map(Result::ok).collect())
    }

    /// Returns true if the repository has ever had a manifest or a blob.
    fn is_repository(&self, name: &RepositoryName) -> Result<bool, StoreError> {
        let place = layout::RepositoryKeys(name);
        Ok(self.storage().exists(&place.manifests())? || self.storage().exists(&place.all_layers())?)
    }
}
