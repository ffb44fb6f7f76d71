//! Storage of the images in an archive, which is read where it lies, and neither unpacked nor changed.
//!
//! All keys are made when the archive is opened, of its list of images and of their manifests; the content under
//! them is a part of the archive. The store hashes it before it is served for the first time.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;
use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;
use quinistry_oci::layout::{Layout, LayoutError, Root};
use quinistry_oci::{
    Algorithm, Content, Descriptor, Digest, ImageReference, Manifest, NameError, RepositoryName, escape,
    media_type,
};

use super::layout::{Key, RepositoryKeys, blob};
use super::manifests::MAX_STORED_MANIFEST_BYTES;
use super::storage::{
    Abilities, Created, Entry, ListingVersion, Meta, ObjectTag, Removed, ScanPage, Space, Storage,
    StorageError, Upload, UploadStart, Uploads,
};

/// Greatest number of keys of one archive: images of thousands of layers in hundreds of repositories.
const MAX_KEYS: usize = 1_000_000;

/// Storage of the images in an archive.
#[derive(Debug)]
pub struct BundleStorage {
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

/// Image of an archive that is not served.
#[derive(Debug, thiserror::Error)]
#[error("image {name}: {reason}")]
pub struct Unserved {
    /// Name or digest of the image, escaped.
    pub name: String,
    /// Reason.
    pub reason: UnservedReason,
}

/// Reason why an image of an archive is not served.
#[derive(Debug, thiserror::Error)]
pub enum UnservedReason {
    /// The archive has no name of the image, or a tag alone.
    #[error("it has no full name; write the archive with `quinistry bundle`")]
    NoFullName,
    /// The host and the repository together are not the name of a repository.
    #[error(transparent)]
    Name(NameError),
    /// The digest of the image is of another hash than SHA-256.
    #[error("its digest is of {0}, where sha256 is wanted")]
    Algorithm(&'static str),
}

/// Reasons why the images of an archive cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The archive cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A manifest cannot be read.
    #[error("{} is damaged: manifest {digest}: {reason}; copy the archive again", path.display())]
    Manifest {
        /// Path of the archive.
        path: PathBuf,
        /// Digest of the manifest.
        digest: Digest,
        /// Description of the defect.
        reason: String,
    },
    /// The archive has more content than is served.
    #[error("{} has more than {MAX_KEYS} parts; split it", .0.display())]
    TooLarge(PathBuf),
}

/// Images while their keys are made.
struct Builder<'a> {
    layout: &'a Layout,
    blobs: BTreeMap<Digest, Content>,
    objects: BTreeMap<String, Object>,
}

// === impl BundleStorage ===

impl BundleStorage {
    /// Makes the keys of all images of an archive. An image `HOST/NAME:TAG` has the tag in the repository `HOST/NAME`.
    pub fn open(layout: &Layout) -> Result<Self, BundleError> {
        let blobs = layout.contents()?;
        let mut builder = Builder { layout, blobs, objects: BTreeMap::new() };
        let mut unserved = Vec::new();
        for root in layout.roots() {
            match name(root) {
                Ok((image, repository)) => builder.add(root, &image, &repository)?,
                Err(reason) => {
                    let name = root.name.as_deref().unwrap_or(root.descriptor.digest.as_str());
                    unserved.push(Unserved { name: escape::line(name), reason });
                }
            }
        }
        Ok(Self { objects: builder.objects, unserved })
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

// === impl Builder ===

impl Builder<'_> {
    /// Adds an image with everything below it that the archive has: an archive of some platforms lacks the others.
    fn add(
        &mut self,
        root: &Root,
        image: &ImageReference,
        repository: &RepositoryName,
    ) -> Result<(), BundleError> {
        let place = RepositoryKeys(repository);
        let digest = &root.descriptor.digest;
        if !self.blobs.contains_key(digest) {
            let (path, digest) = (self.layout.path().to_owned(), digest.clone());
            return Err(LayoutError::NoBlob { path, digest }.into());
        }
        let mut pending = vec![root.descriptor.clone()];
        while let Some(part) = pending.pop() {
            let is_manifest =
                media_type::is_manifest(&part.media_type) || media_type::is_index(&part.media_type);
            let Some(content) = self.blobs.get(&part.digest).cloned() else { continue };
            // Without a SHA-256 there is no place for the content.
            if part.digest.algorithm() != Algorithm::Sha256 {
                continue;
            }
            self.insert(&blob(&part.digest), content.clone())?;
            if !is_manifest {
                self.link(&place.layer_link(&part.digest), &part.digest)?;
            } else if self.link(&place.revision_link(&part.digest), &part.digest)? {
                let manifest = self.parse(&part, &content)?;
                if !manifest.declares_type {
                    let kind = Bytes::from_static(manifest.media_type.as_bytes());
                    self.insert(&place.revision_type(&part.digest), [kind].into())?;
                }
                pending.extend([manifest.manifests, manifest.blobs, manifest.foreign].into_iter().flatten());
            }
        }
        if let Some(tag) = image.tag() {
            self.link(&place.tag_index(tag, digest), digest)?;
            self.link(&place.tag_link(tag), digest)?;
        }
        Ok(())
    }

    fn parse(&self, part: &Descriptor, content: &Content) -> Result<Manifest, BundleError> {
        let damaged = |reason: String| BundleError::Manifest {
            path: self.layout.path().to_owned(),
            digest: part.digest.clone(),
            reason,
        };
        if content.len() > MAX_STORED_MANIFEST_BYTES {
            return Err(damaged(format!("it has more than {MAX_STORED_MANIFEST_BYTES} bytes")));
        }
        let bytes = content.to_bytes().map_err(|error| damaged(error.to_string()))?;
        let actual = Digest::sha256(&bytes);
        if actual != part.digest {
            return Err(damaged(format!("its bytes have the digest {actual}")));
        }
        Manifest::parse(&bytes, Some(&part.media_type)).map_err(|error| damaged(error.to_string()))
    }

    /// Adds a link to a digest. Returns false if it was there.
    fn link(&mut self, key: &Key, digest: &Digest) -> Result<bool, BundleError> {
        self.insert(key, [Bytes::copy_from_slice(digest.as_str().as_bytes())].into())
    }

    fn insert(&mut self, key: &Key, content: Content) -> Result<bool, BundleError> {
        let number = self.objects.len() as u64;
        if self.objects.len() >= MAX_KEYS {
            return Err(BundleError::TooLarge(self.layout.path().to_owned()));
        }
        match self.objects.entry(key.as_str().to_owned()) {
            btree_map::Entry::Occupied(_) => Ok(false),
            btree_map::Entry::Vacant(place) => {
                place.insert(Object { content, number });
                Ok(true)
            }
        }
    }
}

/// Returns the full name of an image, and the repository that it is served in.
fn name(root: &Root) -> Result<(ImageReference, RepositoryName), UnservedReason> {
    let image: Option<ImageReference> = root.name.as_deref().and_then(|name| name.parse().ok());
    let image = image.ok_or(UnservedReason::NoFullName)?;
    let algorithm = root.descriptor.digest.algorithm();
    if algorithm != Algorithm::Sha256 {
        return Err(UnservedReason::Algorithm(algorithm.as_str()));
    }
    let repository = repository(&image).map_err(UnservedReason::Name)?;
    Ok((image, repository))
}

/// Returns the repository of an image on this registry: host and name, as upstreams have it. The colon in front of a
/// port, which names of repositories cannot have, is written as `_`.
fn repository(image: &ImageReference) -> Result<RepositoryName, NameError> {
    let host = image.host().to_ascii_lowercase().replace(':', "_");
    format!("{host}/{}", image.repository()).parse()
}

impl Storage for BundleStorage {
    fn abilities(&self) -> Abilities {
        Abilities { is_persistent: true, clears_at_once: true, has_listing_versions: false, is_shared: false }
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
        let folder = format!("{folder}/");
        let from = match after {
            Some(after) if after.as_str() >= folder.as_str() => Bound::Excluded(after.as_str()),
            _ => Bound::Included(folder.as_str()),
        };
        let keys = self.objects.range::<str, _>((from, Bound::Unbounded));
        let mut rest = keys.take_while(|(key, _)| key.starts_with(&folder)).peekable();
        let mut entries = Vec::new();
        while let Some((key, object)) = rest.next_if(|_| entries.len() < limit) {
            entries.extend(Key::of_path(key.clone()).map(|key| (key, object.meta())));
        }
        let last = entries.last().map(|(key, _)| key.clone());
        Ok(ScanPage { next: rest.next().and(last), entries })
    }

    fn listing_version(&self, _: &Key) -> Result<ListingVersion, StorageError> {
        Ok(ListingVersion { text: "bundle".into(), age: None })
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
