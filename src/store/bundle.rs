//! Storage of the images in an archive, which is read where it lies, and neither unpacked nor changed.
//!
//! All keys are made when the archive is opened, of its list of images and of their manifests; the content under
//! them is a part of the archive. The store hashes it before it is served for the first time.

mod builder;
mod unserved;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use quinistry_oci::layout::{Layout, LayoutError, MAX_BUNDLE_PARTS};
use quinistry_oci::{Content, escape};
use rustix::fs::Advice;

use self::builder::Builder;
use super::key_map;
use super::layout::Key;
use super::storage::{
    Abilities, Created, Entry, ListingVersion, Meta, ObjectTag, Removed, ScanPage, Space, Storage,
    StorageError, Upload, UploadStart, Uploads,
};

pub use self::unserved::{Unserved, UnservedReason};

/// Greatest number of keys of one archive: its content, with a link and a type for each, and the tags of thousands of
/// images.
const MAX_KEYS: usize = 3 * MAX_BUNDLE_PARTS + 100_000;

/// Length of what a check reads, in bytes: a page of memory.
const CHECKED_BYTES: u64 = 4096;

/// Storage of the images in an archive.
#[derive(Debug)]
pub struct BundleStorage {
    path: PathBuf,
    /// Bytes of the whole archive.
    archive: Content,
    /// File of the archive, by which the kernel is told to forget what it has read.
    file: File,
    objects: BTreeMap<String, Object>,
    /// Images that are not served, and why.
    unserved: Vec<Unserved>,
}

#[derive(Debug)]
struct Object {
    content: Content,
    /// Number of the object, which no other one has.
    number: u64,
}

/// Reasons why the images of an archive cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The archive cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The archive cannot be opened.
    #[error("failed to open {}", path.display())]
    Open {
        /// Path of the archive.
        path: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// The archive has more content than is served.
    #[error("{} has more than {MAX_KEYS} parts; split it", .0.display())]
    TooLarge(PathBuf),
}

// === impl BundleStorage ===

impl BundleStorage {
    /// Makes the keys of all images of an archive. An image `HOST/NAME:TAG` has the tag in the repository `HOST/NAME`.
    pub fn open(layout: &Layout) -> Result<Self, BundleError> {
        let archive = layout.content()?;
        let path = layout.path().to_owned();
        let file = File::open(&path).map_err(|source| BundleError::Open { path: path.clone(), source })?;
        let mut builder = Builder::new(layout)?;
        let mut unserved = Vec::new();
        for root in layout.roots() {
            if let Some(reason) = builder.add(root)? {
                let name = root.name.as_deref().unwrap_or(root.descriptor.digest.as_str());
                unserved.push(Unserved { name: escape::line(name), reason });
            }
        }
        Ok(Self { path, archive, file, objects: builder.objects, unserved })
    }

    /// Returns the images that are not served.
    #[must_use]
    pub fn unserved(&self) -> &[Unserved] {
        &self.unserved
    }

    /// Returns true if no image is served.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

// === impl Object ===

impl Object {
    fn tag(&self) -> ObjectTag {
        // As that of a file, which may be damaged: the store hashes the content.
        ObjectTag::of_file(self.content.len(), [self.number, 0, 0, 0, 0, 0])
    }

    fn meta(&self) -> Meta {
        // Archives of images have no times.
        Meta { length: self.content.len(), modified: SystemTime::UNIX_EPOCH, tag: self.tag() }
    }
}

impl Storage for BundleStorage {
    fn abilities(&self) -> Abilities {
        Abilities { is_persistent: true, clears_at_once: true, has_listing_versions: true, is_shared: false }
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        Ok(self.objects.get(key.as_str()).map(|object| (object.content.clone(), object.tag())))
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        Ok(self.objects.get(key.as_str()).map(Object::meta))
    }

    fn write(&self, _: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        Err(StorageError::ReadOnly)
    }

    fn create(&self, _: &Key, _: &[u8]) -> Result<Created, StorageError> {
        Err(StorageError::ReadOnly)
    }

    fn remove(&self, _: &Key) -> Result<bool, StorageError> {
        Err(StorageError::ReadOnly)
    }

    fn remove_if(&self, _: &Key, _: &ObjectTag) -> Result<Removed, StorageError> {
        Err(StorageError::ReadOnly)
    }

    fn clear(&self, _: &Key) -> Result<bool, StorageError> {
        Err(StorageError::ReadOnly)
    }

    fn scan(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError> {
        Ok(key_map::scan(&self.objects, folder, after, limit, Object::meta))
    }

    fn list(&self, folder: &Key) -> Result<Option<Vec<String>>, StorageError> {
        Ok(key_map::names_in(&self.objects, folder))
    }

    fn listing_version(&self, _: &Key) -> Result<ListingVersion, StorageError> {
        // No name is ever added or removed.
        Ok(ListingVersion { text: "bundle".into(), age: Some(Duration::MAX) })
    }

    /// Returns an error if the archive was written to, or cannot be read. One that was removed can be read on.
    fn check(&self) -> Result<(), StorageError> {
        let failed = |source: io::Error| StorageError::Io {
            what: "read",
            key: self.path.display().to_string(),
            source,
        };
        // What the kernel has in memory can be read although the medium is gone. An advice that is not taken fails nothing.
        let _ = rustix::fs::fadvise(&self.file, 0, NonZeroU64::new(CHECKED_BYTES), Advice::DontNeed);
        self.archive.slice(0..self.archive.len().min(CHECKED_BYTES)).to_bytes().map(drop).map_err(failed)
    }

    fn space(&self) -> Result<Space, StorageError> {
        let used = self.objects.values().map(|object| object.content.len()).sum();
        Ok(Space { used_bytes: Some(used), free_bytes: None, total_bytes: None })
    }

    fn uploads(&self) -> &dyn Uploads {
        self
    }
}

impl Uploads for BundleStorage {
    fn begin(&self, _: UploadStart<'_>) -> Result<Box<dyn Upload>, StorageError> {
        Err(StorageError::ReadOnly)
    }
}

#[cfg(test)]
mod tests;
