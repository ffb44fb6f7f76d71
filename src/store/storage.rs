//! The [`Storage`] of a store, with two backends: [`Memory`](super::Memory) and
//! [`Filesystem`](super::Filesystem).
//!
//! Calls block: asynchronous calls would not make a disk faster, and a sequence of blocking calls is easier
//! to get right. Asynchronous callers use the store from a thread that may block.

mod uploads;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quinistry_oci::{Content, Digest};

use super::layout::Key;

pub use self::uploads::{Leftover, NextRequest, RoomFuture, Upload, UploadStart, Uploads};

/// A key, and the bytes to store under it.
pub type Entry<'a> = (Key, &'a [u8]);

/// Backend that stores bytes under keys. A change that returned `Ok` is visible to other readers and survives
/// a power failure, unless the method is lazy.
///
/// A new backend implements the ten methods without a default: [`abilities`](Self::abilities),
/// [`open`](Self::open), [`head`](Self::head), [`write`](Self::write), [`create`](Self::create),
/// [`remove`](Self::remove), [`remove_if`](Self::remove_if), [`clear`](Self::clear), [`scan`](Self::scan) and
/// [`uploads`](Self::uploads), and of [`Uploads`] and [`Upload`] the seven without one. The others are right
/// for every backend, and overridden where one call of the backend does what the default does in many.
/// `contract` has the tests that all backends pass.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Returns the abilities of the backend, which never change.
    fn abilities(&self) -> Abilities;

    /// Opens the bytes under a key, for streaming, with their tag; `None` if there are none. The bytes do not
    /// change while the content lives; reads fail where the backend cannot keep bytes that were replaced.
    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError>;

    /// Opens the bytes under a key as [`open`](Self::open) does, such that they are read from where they are kept for
    /// good, as far as the backend can: neither from a cache of this machine, nor by a connection in use.
    fn open_uncached(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        self.open(key)
    }

    /// Returns the SHA-256 of the bytes under a key that the backend has computed and keeps beside them, without reading
    /// them; `None` if there are no bytes, or the backend tells none.
    fn kept_sha256(&self, key: &Key) -> Result<Option<Digest>, StorageError> {
        let _ = key;
        Ok(None)
    }

    /// Reads the bytes under a key as a whole; `None` if there are none. More than `max_bytes` are an error.
    fn read(&self, key: &Key, max_bytes: u64) -> Result<Option<Bytes>, StorageError> {
        let Some((content, _)) = self.open(key)? else { return Ok(None) };
        if content.len() > max_bytes {
            return Err(StorageError::TooLong { key: key.clone(), length: content.len() });
        }
        let read = content.to_bytes();
        read.map(Some).map_err(|source| StorageError::Io { what: "read", key: key.to_string(), source })
    }

    /// Returns the metadata of the bytes under a key; `None` if there are none.
    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError>;

    /// Returns the metadata of the bytes under several keys; `None` for those that are absent. A backend whose answers
    /// take long asks for all at once.
    fn head_all(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>, StorageError> {
        keys.iter().map(|key| self.head(key)).collect()
    }

    /// Writes entries in stages, replacing existing ones; readers never see a part of an entry. The entries
    /// of a stage become visible in any order, after those of the stages before: a reference must be in a
    /// later stage than its target. After an error or a power failure any of them may be present and others
    /// absent, regardless of the stages.
    fn write(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError>;

    /// Writes bytes that can be rebuilt. A power failure may undo the write, or leave an empty file.
    fn write_lazily(&self, key: &Key, bytes: &[u8]) -> Result<(), StorageError> {
        self.write(&[&[(key.clone(), bytes)]])
    }

    /// Writes bytes under a key that has none, atomically: of several writers exactly one creates the bytes.
    /// The others get what that one has written, which is durable.
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StorageError>;

    /// Looks up links together with their targets: for each pair of keys the bytes of the first, unless these are
    /// absent or longer than `max_bytes`, and the metadata of the second. Where there is no link, the target may
    /// be left out. A backend whose answers take long asks for all at once.
    fn look_up(&self, pairs: &[(Key, Key)], max_bytes: u64) -> Result<Vec<LookedUp>, StorageError> {
        let look_up = |(link, target): &(Key, Key)| {
            let link = unless_too_long(self.read(link, max_bytes))?;
            let target = if link.is_some() { self.head(target)? } else { None };
            Ok(LookedUp { link, target })
        };
        pairs.iter().map(look_up).collect()
    }

    /// Reads the bytes under several keys as a whole; `None` for those that are absent or longer than
    /// `max_bytes`. A backend whose answers take long asks for all at once.
    fn read_all(&self, keys: &[Key], max_bytes: u64) -> Result<Vec<Option<Bytes>>, StorageError> {
        keys.iter().map(|key| unless_too_long(self.read(key, max_bytes))).collect()
    }

    /// Opens bytes whose metadata was read a moment ago; `None` if they are gone. A backend whose answers take
    /// long asks for nothing.
    fn open_known(&self, key: &Key, meta: &Meta) -> Result<Option<Content>, StorageError> {
        let _ = meta;
        Ok(self.open(key)?.map(|(content, _)| content))
    }

    /// Returns a URL by which a client can read the bytes under a key from the backend itself, for at least
    /// `lifetime`; `None` if the backend has no URLs. Asks the backend for nothing.
    fn redirect(&self, key: &Key, lifetime: Duration) -> Option<String> {
        let _ = (key, lifetime);
        None
    }

    /// Removes the bytes under a key, and none beneath it. Returns true if there were any.
    fn remove(&self, key: &Key) -> Result<bool, StorageError>;

    /// Removes the bytes under a key if they have this tag. No write to the key comes between the comparison
    /// and the removal.
    fn remove_if(&self, key: &Key, tag: &ObjectTag) -> Result<Removed, StorageError>;

    /// Returns a fence for removals that begin now; `None` if the backend is shared and cannot refuse late removals.
    fn fence(&self) -> Option<Fence> {
        (!self.abilities().is_shared).then(|| Fence(self.now()))
    }

    /// Removes keys, and none beneath them, in any order. Returns those that may still be there: the removal failed,
    /// or its outcome is unknown. A shared backend removes nothing that is written later than [`FENCE_LIFETIME`] after
    /// the time of the fence, also if a request is held up on its way: it refuses the request then, or the removal is
    /// one of a version that was looked up before. Bytes that were replaced since the look-up stay, and are not returned.
    fn remove_fenced(&self, keys: &[Key], fence: Fence) -> Result<Vec<Key>, StorageError> {
        let _ = fence;
        for key in keys {
            self.remove(key)?;
        }
        Ok(Vec::new())
    }

    /// Removes the bytes under a key if they have this tag, and none that are written later than
    /// [`FENCE_LIFETIME`] after the time of the fence, whatever their tag is. Returns `None` if they may still be there:
    /// the removal was refused, or its outcome is unknown.
    fn remove_if_fenced(
        &self,
        key: &Key,
        tag: &ObjectTag,
        fence: Fence,
    ) -> Result<Option<Removed>, StorageError> {
        let _ = fence;
        self.remove_if(key, tag).map(Some)
    }

    /// Copies the bytes under a key to another one, whose own bytes may stay if there are any. Returns false if there
    /// are none to copy.
    fn copy(&self, from: &Key, to: &Key) -> Result<bool, StorageError> {
        let Some((content, _)) = self.open(from)? else { return Ok(false) };
        let bytes = content.to_bytes();
        let bytes =
            bytes.map_err(|source| StorageError::Io { what: "read", key: from.to_string(), source })?;
        self.write(&[&[(to.clone(), &bytes)]])?;
        Ok(true)
    }

    /// Removes all keys beneath a folder, in any order. May leave some of them after an error, unless the
    /// backend can remove a tree at once. Returns true if anything was removed.
    fn clear(&self, folder: &Key) -> Result<bool, StorageError>;

    /// Removes all keys beneath a folder, where a repetition does no harm: a power failure may undo the
    /// removal.
    fn clear_lazily(&self, folder: &Key) -> Result<bool, StorageError> {
        self.clear(folder)
    }

    /// Returns the keys beneath a folder, at any depth, with their metadata: in the order of their bytes,
    /// from after `after`, which need not exist. A page has at most `limit` entries, and may have fewer
    /// though it is not the last.
    fn scan(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError>;

    /// Returns the names directly beneath a folder, sorted by their bytes; `None` if the folder is absent.
    fn list(&self, folder: &Key) -> Result<Option<Vec<String>>, StorageError> {
        let mut names = BTreeSet::new();
        let mut after = None;
        loop {
            let page = self.scan(folder, after.as_ref(), SCAN_PAGE_SIZE)?;
            names.extend(page.entries.iter().filter_map(|(key, _)| Some(key.beneath(folder)?.0.to_owned())));
            after = page.next;
            if after.is_none() {
                return Ok((!names.is_empty()).then(|| names.into_iter().collect()));
            }
        }
    }

    /// Returns the names directly beneath a folder that satisfy `wanted` and have bytes at the path `beneath`
    /// them.
    fn list_with(
        &self,
        folder: &Key,
        beneath: &str,
        wanted: fn(&str) -> bool,
    ) -> Result<Option<Vec<String>>, StorageError> {
        let mut names = Vec::new();
        let mut is_empty = true;
        let mut after = None;
        loop {
            let page = self.scan(folder, after.as_ref(), SCAN_PAGE_SIZE)?;
            is_empty &= page.entries.is_empty();
            let found = page.entries.iter().filter_map(|(key, _)| key.beneath(folder));
            names.extend(
                found
                    .filter(|(name, rest)| *rest == beneath && wanted(name))
                    .map(|(name, _)| name.to_owned()),
            );
            after = page.next;
            if after.is_none() {
                // In the order of whole keys, what is beneath `a.b` stands before what is beneath `a`.
                names.sort_unstable();
                return Ok((!is_empty).then_some(names));
            }
        }
    }

    /// Returns for each of some names directly beneath a folder whether there are bytes at the path `beneath` it.
    fn have_beneath(&self, folder: &Key, names: &[String], beneath: &str) -> Result<Vec<bool>, StorageError> {
        let has_bytes = |name| Ok(self.head(&folder.child(name).below(beneath))?.is_some());
        names.iter().map(|name| has_bytes(name)).collect()
    }

    /// Returns true if there are bytes under a key, or keys beneath it.
    fn exists(&self, key: &Key) -> Result<bool, StorageError> {
        if self.head(key)?.is_some() {
            return Ok(true);
        }
        let mut after = None;
        loop {
            let page = self.scan(key, after.as_ref(), 1)?;
            after = page.next;
            if !page.entries.is_empty() || after.is_none() {
                return Ok(!page.entries.is_empty());
            }
        }
    }

    /// Returns a version of the names directly beneath a folder, which differs after another program has
    /// added or removed one.
    fn listing_version(&self, folder: &Key) -> Result<ListingVersion, StorageError> {
        let names = self.list(folder)?.unwrap_or_default().join("/");
        Ok(ListingVersion { text: Digest::sha256(names.as_bytes()).to_string(), age: None })
    }

    /// Returns the listing versions of some folders directly beneath a folder; `None` for each that has none, or must be
    /// asked for by its key.
    fn listing_versions(
        &self,
        folder: &Key,
        names: &[&str],
    ) -> Result<Vec<Option<ListingVersion>>, StorageError> {
        if !self.abilities().has_listing_versions {
            return Ok(vec![None; names.len()]);
        }
        names.iter().map(|name| self.listing_version(&folder.child(name)).map(Some)).collect()
    }

    /// Sets the time of the last change of the bytes under a key, where a backend can. A power failure may undo this.
    /// Returns false if the backend keeps times of its own, or if there are no bytes.
    fn set_modified(&self, key: &Key, modified: SystemTime) -> Result<bool, StorageError> {
        let _ = (key, modified);
        Ok(false)
    }

    /// Makes the names of `keys` durable whose writers have not done so yet. Call before acknowledging
    /// anything that depends on the keys.
    fn sync_parents(&self, keys: &[Key]) -> Result<(), StorageError> {
        let _ = keys;
        Ok(())
    }

    /// Makes all earlier writes durable, lazy ones included, by one flush.
    fn flush_all(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Returns the present time by the clock that gives [`Meta::modified`]: that of this machine, unless the
    /// backend has another.
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Returns an error if the backend cannot be used, or refuses writes after a failed flush.
    fn check(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Returns the room in the backend, as far as it is known at no great cost.
    fn space(&self) -> Result<Space, StorageError> {
        Ok(Space::default())
    }

    /// Returns the number of answers so far by which the backend has asked for fewer requests, such as 429, 503 and
    /// `SlowDown` of an object store.
    fn throttlings(&self) -> u64 {
        0
    }

    /// Returns the number of requests to the backend that remove one key within a fence.
    fn removal_requests(&self) -> usize {
        1
    }

    /// Returns the way in which the backend receives uploads.
    fn uploads(&self) -> &dyn Uploads;
}

/// Counts bytes that are too long as absent.
fn unless_too_long(read: Result<Option<Bytes>, StorageError>) -> Result<Option<Bytes>, StorageError> {
    match read {
        Err(StorageError::TooLong { .. }) => Ok(None),
        read => read,
    }
}

/// Number of keys that are scanned at once: the longest page of S3.
pub(super) const SCAN_PAGE_SIZE: usize = 1000;

/// Abilities of a backend, by which the store chooses among correct ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a backend")]
pub struct Abilities {
    /// Data survives a restart. If not, crash recovery is skipped and unreferenced blobs are freed at once.
    pub is_persistent: bool,
    /// [`Storage::clear`] removes all keys at the same moment. If not, the store first removes the key that
    /// makes the others visible.
    pub clears_at_once: bool,
    /// [`Storage::listing_version`] reads no list, so that a list may be cached for as long as its version
    /// stays.
    pub has_listing_versions: bool,
    /// Other processes, all equal, change the storage at the same time. The store then believes nothing that
    /// another process can have changed, and commits in an order that holds for any interleaving.
    pub is_shared: bool,
}

/// Link, and the metadata of its target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookedUp {
    /// Bytes of the link, if there are any.
    pub link: Option<Bytes>,
    /// Metadata of the target, if it was asked for and is there.
    pub target: Option<Meta>,
}

/// Metadata of the bytes under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Number of bytes.
    pub length: u64,
    /// Time of the last change.
    pub modified: SystemTime,
    /// Tag of the bytes.
    pub tag: ObjectTag,
}

/// Page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// Keys in the order of their bytes, with the metadata of each.
    pub entries: Vec<(Key, Meta)>,
    /// Key after which the next page begins; `None` after the last page.
    pub next: Option<Key>,
}

/// Room in a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes of the stored content, and of uploads.
    pub used_bytes: Option<u64>,
    /// Bytes that can still be written.
    pub free_bytes: Option<u64>,
    /// Bytes of the whole backend, if other programs can fill it, too.
    pub total_bytes: Option<u64>,
}

/// Version of a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListingVersion {
    /// Text that is compared.
    pub text: String,
    /// Time from the last change of the list to the moment before the version was looked up, if the backend knows it.
    pub age: Option<Duration>,
}

impl ListingVersion {
    /// Age of the last change from which the version differs from that of later changes: filesystems count time in
    /// steps.
    const MIN_CHANGE_AGE: Duration = Duration::from_secs(2);

    /// Returns the text if it differs from that after any change later than the look-up.
    pub(super) fn settled(self) -> Option<String> {
        (self.age? >= Self::MIN_CHANGE_AGE).then_some(self.text)
    }
}

/// Outcome of [`Storage::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// The key had no bytes, and has those of the call now.
    New,
    /// The key has these bytes, and they were not changed.
    Exists(Bytes),
}

/// Longest bytes of an existing key that [`Storage::create`] returns; longer ones are an error.
pub const MAX_CREATED_BYTES: u64 = 16 * 1024 * 1024;

/// Time of the storage from which the lifetime of removals is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence(pub SystemTime);

/// Time after that of its fence from which a removal harms nothing that is written: longer than a request takes, and
/// shorter than the rest of a leader's term.
pub const FENCE_LIFETIME: Duration = Duration::from_secs(10);

/// Outcome of [`Storage::remove_if`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The bytes had the tag, and were removed.
    Removed,
    /// The bytes have another tag, and stay.
    Changed,
    /// There are no bytes.
    Absent,
}

/// Tag of the bytes under a key: the bytes are unchanged as long as it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectTag(TagSource);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TagSource {
    /// Length of a file, and its device, inode and times of change.
    File(u64, [u64; 6]),
    Generation(u64),
    /// `ETag` or generation of an object store.
    Version(Box<str>),
}

impl ObjectTag {
    /// Creates the tag of a file from its length, and from device, inode and times of change.
    pub(super) fn of_file(length: u64, attributes: [u64; 6]) -> Self {
        Self(TagSource::File(length, attributes))
    }

    /// Creates the tag of bytes that only their backend can change, from the number of the write, which no
    /// other write to the key has.
    #[must_use]
    pub fn of_generation(generation: u64) -> Self {
        Self(TagSource::Generation(generation))
    }

    /// Creates the tag of an object from the version that its store gave the bytes: `ETag` or generation. Some
    /// stores give the same bytes the same version again.
    #[must_use]
    pub fn of_version(version: &str) -> Self {
        Self(TagSource::Version(version.into()))
    }

    /// Returns the version that an object store gave the bytes, if the tag has one.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        match &self.0 {
            TagSource::Version(version) => Some(version),
            TagSource::File(..) | TagSource::Generation(_) => None,
        }
    }

    /// Returns true if another program, a user or a failing disk can change the bytes. Those of an object store
    /// are believed, because the store itself verifies them, and to hash them means to transfer them.
    pub(super) fn can_change(&self) -> bool {
        matches!(self.0, TagSource::File(..))
    }
}

/// Errors of reading and writing bytes.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The storage is full. Nothing was changed.
    #[error("the storage is full; free some space and try again")]
    Full,
    /// A flush has failed, so that writes are refused until a restart: other data may be lost, too. Reads go
    /// on.
    #[error(
        "writes are refused, because the storage failed to flush an earlier one; check the disk and the log, then restart"
    )]
    WritesRefused,
    /// The content of a staged write is unknown after an error, or was published before.
    #[error("the received content could not be stored; send it again")]
    Broken,
    /// Another process has continued the upload session at the offset of the request.
    #[error("another request has continued the upload session")]
    Overtaken,
    /// The memory for uploads is taken. Nothing was changed.
    #[error("too many uploads are being received; try again in a few seconds")]
    Busy,
    /// An upload has more parts than the storage accepts.
    #[error(
        "the content is longer than {max_bytes} bytes, the most in parts of this size; raise the storage's chunksize or \
         quinistry.uploads.memory"
    )]
    TooManyParts {
        /// Bytes of the greatest number of parts.
        max_bytes: u64,
    },
    /// The storage was opened for reading only.
    #[error("the storage is opened for reading only")]
    ReadOnly,
    /// A file to be read as a whole is longer than any valid one.
    #[error("{key} is {length} bytes long, longer than any valid file there")]
    TooLong {
        /// Key of the file.
        key: Key,
        /// Length of the file in bytes.
        length: u64,
    },
    /// The operating system returned an error.
    #[error("failed to {what} {key}")]
    Io {
        /// Operation, as a verb.
        what: &'static str,
        /// Path or name of the file.
        key: String,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
}

impl StorageError {
    /// Returns true if the storage did not answer, or asked for fewer requests: a client may try again soon.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        use io::ErrorKind::{ResourceBusy, TimedOut};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), ResourceBusy | TimedOut))
    }
}
