//! Archive of images that is ready to be loaded: its manifests are read, and all that they list is there.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::path::PathBuf;

use bytes::Bytes;
use quinistry_oci::layout::{Layout, LayoutError, MAX_BUNDLE_PARTS, Root};
use quinistry_oci::{
    Content, Descriptor, Digest, ImageReference, Manifest as ServedManifest, Reference, RepositoryName, Tag,
    escape, media_type,
};

use super::{BundleFault, BundleFaultReason};
use crate::bounds::MAX_BUNDLE_MANIFEST_BYTES;
use crate::{MAX_MANIFEST_BYTES, Manifest};

/// Greatest depth of nested indexes. Real ones are nested once; the specification allows any depth.
const MAX_INDEX_DEPTH: usize = 16;

/// Images of an archive, which can all be loaded.
#[derive(Debug)]
pub struct Bundle {
    images: Vec<BundledImage>,
    pub(super) manifests: BTreeMap<Digest, BundledManifest>,
    pub(super) blobs: BTreeMap<Digest, BundledBlob>,
    pub(super) repositories: BTreeMap<RepositoryName, RepositoryParts>,
}

/// Image of a [`Bundle`], under one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundledImage {
    /// Name of the image at its origin.
    pub name: ImageReference,
    /// Manifest or index of the image.
    pub root: Descriptor,
    /// Repository of the image in a registry that it is loaded into.
    pub repository: RepositoryName,
}

/// Manifest of a bundle, and what it lists and the archive has.
#[derive(Debug)]
pub(super) struct BundledManifest {
    pub(super) manifest: Manifest,
    children: Vec<Digest>,
    blobs: Vec<Digest>,
    /// Number of manifests below this one, on the longest way.
    height: usize,
    /// True for an index some of whose images are not in the archive.
    pub(super) is_sparse: bool,
}

/// Blob of a bundle, and the repositories that need it.
#[derive(Debug)]
pub(super) struct BundledBlob {
    pub(super) descriptor: Descriptor,
    pub(super) content: Content,
    pub(super) repositories: BTreeSet<RepositoryName>,
}

/// Content of one repository.
#[derive(Debug, Default)]
pub(super) struct RepositoryParts {
    /// Manifests, each once, children before parents.
    pub(super) manifests: Vec<Digest>,
    pub(super) tags: BTreeMap<Tag, Digest>,
}

/// Reasons why an archive cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BundleReadError {
    /// The archive cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The archive has no images.
    #[error("{} holds no image", .0.display())]
    Empty(PathBuf),
    /// Images of the archive have defects; all of them are listed.
    #[error("the archive has {} defects", .0.len())]
    Faulty(Vec<BundleFault>),
}

// === impl Bundle ===

impl Bundle {
    /// Reads all manifests of an archive, and checks that the content that they list is there. Layers are not read.
    pub fn read(layout: &Layout) -> Result<Self, BundleReadError> {
        if layout.roots().is_empty() {
            return Err(BundleReadError::Empty(layout.path().to_owned()));
        }
        let mut reader = Reader { contents: layout.contents()?, ..Reader::default() };
        layout.roots().iter().for_each(|root| reader.add(root));
        if reader.faults.is_empty() {
            reader.finish().map_err(|fault| BundleReadError::Faulty(vec![fault]))
        } else {
            Err(BundleReadError::Faulty(reader.faults))
        }
    }

    /// Returns the images, in the order of the archive.
    #[must_use]
    pub fn images(&self) -> &[BundledImage] {
        &self.images
    }

    /// Returns the length of all blobs in bytes, each counted once.
    #[must_use]
    pub fn blob_bytes(&self) -> u64 {
        self.blobs.values().map(|blob| blob.descriptor.size).sum()
    }

    /// Finds an image by its name at its origin, and returns its repository and its digest. With a digest, the digest
    /// counts and not the tag, as for the kubelet. Of Docker Hub, an image of the folder `library` is found with and without
    /// that folder: some tools complete names, and others do not.
    #[must_use]
    pub fn find(&self, image: &ImageReference) -> Option<(&RepositoryName, Digest)> {
        let repository = image.repository_with_host().ok()?;
        let found = self.find_in(&repository, image.reference());
        found.or_else(|| self.find_in(&other_name_on_hub(&repository)?, image.reference()))
    }

    fn find_in(
        &self,
        repository: &RepositoryName,
        reference: Reference,
    ) -> Option<(&RepositoryName, Digest)> {
        let (repository, parts) = self.repositories.get_key_value(repository)?;
        let digest = match reference {
            Reference::Tag(tag) => parts.tags.get(&tag)?.clone(),
            Reference::Digest(digest) => parts.manifests.contains(&digest).then_some(digest)?,
        };
        Some((repository, digest))
    }

    /// Adds everything below a manifest to a repository. The height of manifests bounds the depth of the recursion.
    fn add_to_repository(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        added: &mut Added,
    ) -> Result<(), BundleFaultReason> {
        if !added.manifests.insert((repository.clone(), digest.clone())) {
            return Ok(());
        }
        let Some(BundledManifest { children, blobs, .. }) = self.manifests.get(digest) else { return Ok(()) };
        added.count(1 + children.len() + blobs.len())?;
        for blob in blobs {
            if let Some(blob) = self.blobs.get_mut(blob) {
                blob.repositories.insert(repository.clone());
            }
        }
        for child in children.clone() {
            self.add_to_repository(repository, &child, added)?;
        }
        self.repositories.entry(repository.clone()).or_default().manifests.push(digest.clone());
        Ok(())
    }
}

/// Returns the other name of a repository in Docker Hub's default folder, if it is in that folder.
fn other_name_on_hub(repository: &RepositoryName) -> Option<RepositoryName> {
    let name = repository.as_str().strip_prefix("docker.io/")?;
    let other = match name.strip_prefix("library/") {
        Some(short) if !short.contains('/') => format!("docker.io/{short}"),
        None if !name.contains('/') => format!("docker.io/library/{name}"),
        _ => return None,
    };
    other.parse().ok()
}

/// Manifests that repositories have, and the number of all parts of all repositories.
#[derive(Default)]
struct Added {
    manifests: BTreeSet<(RepositoryName, Digest)>,
    parts: usize,
}

// === impl Added ===

impl Added {
    /// Counts the parts of a manifest in one more repository. Content counts for each repository that has it.
    fn count(&mut self, parts: usize) -> Result<(), BundleFaultReason> {
        self.parts += parts;
        if self.parts > MAX_BUNDLE_PARTS { Err(BundleFaultReason::TooManyParts) } else { Ok(()) }
    }
}

/// Reader of the manifests of an archive.
#[derive(Default)]
struct Reader {
    contents: BTreeMap<Digest, Content>,
    images: Vec<BundledImage>,
    tags: BTreeMap<(RepositoryName, Tag), Digest>,
    /// Manifests that were read; `None` for those with defects.
    manifests: BTreeMap<Digest, Option<BundledManifest>>,
    blobs: BTreeMap<Digest, BundledBlob>,
    parts: usize,
    manifest_bytes: u64,
    faults: Vec<BundleFault>,
}

// === impl Reader ===

impl Reader {
    fn add(&mut self, root: &Root) {
        let label = escape::line(root.name.as_deref().unwrap_or(root.descriptor.digest.as_str()));
        match self.name(root) {
            Ok(image) => {
                self.images.push(image);
                if let Some(kind) = media_type::known(&root.descriptor.media_type) {
                    self.manifest(&label, &root.descriptor.digest, kind, 0);
                } else {
                    let reason = BundleFaultReason::MediaType(escape::line(&root.descriptor.media_type));
                    self.fault(&label, reason);
                }
            }
            Err(reason) => self.fault(&label, reason),
        }
    }

    fn fault(&mut self, image: &str, reason: BundleFaultReason) {
        self.faults.push(BundleFault { image: image.to_owned(), reason });
    }

    fn name(&mut self, root: &Root) -> Result<BundledImage, BundleFaultReason> {
        let name: Option<ImageReference> = root.name.as_deref().and_then(|name| name.parse().ok());
        let name = name.ok_or(BundleFaultReason::NoFullName)?;
        let repository = name.repository_with_host().map_err(BundleFaultReason::Name)?;
        let digest = &root.descriptor.digest;
        if name.digest().is_some_and(|named| named != digest) {
            return Err(BundleFaultReason::OtherDigest(digest.clone()));
        }
        let tag = match (name.tag(), name.reference()) {
            (Some(tag), _) => Some(tag.clone()),
            (None, Reference::Tag(tag)) => Some(tag),
            (None, Reference::Digest(_)) => None,
        };
        if let Some(tag) = tag {
            match self.tags.entry((repository.clone(), tag)) {
                btree_map::Entry::Occupied(taken) if taken.get() != digest => {
                    return Err(BundleFaultReason::NameTaken(taken.get().clone()));
                }
                btree_map::Entry::Occupied(_) => {}
                btree_map::Entry::Vacant(place) => drop(place.insert(digest.clone())),
            }
        }
        Ok(BundledImage { name, root: root.descriptor.clone(), repository })
    }

    /// Reads a manifest and all manifests below it, each once for all images.
    fn manifest(&mut self, image: &str, digest: &Digest, kind: &'static str, depth: usize) {
        if self.manifests.contains_key(digest) {
            return;
        }
        if depth > MAX_INDEX_DEPTH {
            return self.fault(image, BundleFaultReason::TooDeep(MAX_INDEX_DEPTH));
        }
        self.manifests.insert(digest.clone(), None);
        let (manifest, parsed) = match self.read(digest, kind) {
            Ok(read) => read,
            Err(reason) => return self.fault(image, reason),
        };
        let (mut children, mut blobs, mut is_sparse) = (Vec::new(), Vec::new(), false);
        for part in &parsed.manifests {
            if !self.contents.contains_key(&part.digest) {
                is_sparse = true;
                continue;
            }
            match media_type::known(&part.media_type) {
                Some(kind) => {
                    self.manifest(image, &part.digest, kind, depth + 1);
                    children.push(part.digest.clone());
                }
                // Caches of builders list layers in an index.
                None => self.blob(image, part, &mut blobs),
            }
        }
        if is_sparse && children.is_empty() && blobs.is_empty() {
            self.fault(image, BundleFaultReason::NoImage(digest.clone()));
        }
        for part in &parsed.blobs {
            self.blob(image, part, &mut blobs);
        }
        // A child that was read as an image of its own may have any depth below it.
        let heights =
            children.iter().filter_map(|child| Some(self.manifests.get(child)?.as_ref()?.height + 1));
        let height = heights.max().unwrap_or_default();
        if height > MAX_INDEX_DEPTH {
            return self.fault(image, BundleFaultReason::TooDeep(MAX_INDEX_DEPTH));
        }
        let manifest = BundledManifest { manifest, children, blobs, height, is_sparse };
        self.manifests.insert(digest.clone(), Some(manifest));
    }

    fn read(
        &mut self,
        digest: &Digest,
        kind: &'static str,
    ) -> Result<(Manifest, ServedManifest), BundleFaultReason> {
        let manifest = digest.clone();
        let content =
            self.contents.get(digest).ok_or_else(|| BundleFaultReason::NoManifest(digest.clone()))?;
        if content.len() > MAX_MANIFEST_BYTES {
            return Err(BundleFaultReason::TooLong(manifest));
        }
        self.manifest_bytes += content.len();
        if self.manifest_bytes > MAX_BUNDLE_MANIFEST_BYTES {
            return Err(BundleFaultReason::TooManyBytes(MAX_BUNDLE_MANIFEST_BYTES));
        }
        let bytes: Bytes = match content.to_bytes() {
            Ok(bytes) => bytes,
            Err(error) => {
                return Err(BundleFaultReason::Unreadable { manifest, error: error.to_string() });
            }
        };
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual != *digest {
            return Err(BundleFaultReason::Damaged { manifest, actual });
        }
        let parsed = match ServedManifest::parse_listed(&bytes, kind) {
            Ok(parsed) => parsed,
            Err(error) => {
                let error = escape::line(&error.to_string());
                return Err(BundleFaultReason::Manifest { manifest, error });
            }
        };
        self.parts += 1 + parsed.manifests.len() + parsed.blobs.len();
        if self.parts > MAX_BUNDLE_PARTS {
            return Err(BundleFaultReason::TooManyParts);
        }
        let size = bytes.len() as u64;
        let descriptor = Descriptor { digest: manifest, size, ..Descriptor::of(parsed.media_type, b"") };
        Ok((Manifest { descriptor, bytes }, parsed))
    }

    /// Adds a blob that a manifest lists.
    fn blob(&mut self, image: &str, part: &Descriptor, blobs: &mut Vec<Digest>) {
        let digest = &part.digest;
        let content = self.contents.get(digest).cloned();
        let reason = match &content {
            None => Some(BundleFaultReason::NoBlob(digest.clone())),
            Some(content) if content.len() != part.size => Some(BundleFaultReason::BlobSize {
                blob: digest.clone(),
                expected: part.size,
                actual: content.len(),
            }),
            Some(_) => None,
        };
        if let Some(reason) = reason {
            return self.fault(image, reason);
        }
        blobs.push(digest.clone());
        let descriptor =
            Descriptor { digest: digest.clone(), size: part.size, ..Descriptor::of(&part.media_type, b"") };
        let (content, repositories) = (content.unwrap_or_default(), BTreeSet::new());
        self.blobs.entry(digest.clone()).or_insert(BundledBlob { descriptor, content, repositories });
    }

    /// Returns the bundle of images without defects.
    fn finish(self) -> Result<Bundle, BundleFault> {
        let manifests = self.manifests.into_iter().filter_map(|(digest, manifest)| Some((digest, manifest?)));
        let (images, repositories) = (self.images, BTreeMap::new());
        let manifests = manifests.collect();
        let mut bundle = Bundle { images: Vec::new(), manifests, blobs: self.blobs, repositories };
        let mut added = Added::default();
        for image in &images {
            bundle
                .add_to_repository(&image.repository, &image.root.digest, &mut added)
                .map_err(|reason| BundleFault { image: image.name.to_string(), reason })?;
        }
        for ((repository, tag), digest) in self.tags {
            bundle.repositories.entry(repository).or_default().tags.insert(tag, digest);
        }
        Ok(Bundle { images, ..bundle })
    }
}

#[cfg(test)]
mod tests;
