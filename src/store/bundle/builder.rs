//! Keys of the images of an archive.
//!
//! Each manifest is read and parsed once, also if many images or many names share it.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::rc::Rc;

use bytes::Bytes;
use quinistry_oci::layout::{Layout, Root};
use quinistry_oci::{
    Algorithm, Content, Descriptor, Digest, ImageReference, Manifest, RepositoryName, escape, media_type,
};

use super::{BundleError, MAX_KEYS, Object, UnservedReason};
use crate::layout::{Key, RepositoryKeys, blob};
use crate::manifests::MAX_STORED_MANIFEST_BYTES;

/// Greatest depth of nested indexes. Real ones are nested once; the specification allows any depth.
const MAX_INDEX_DEPTH: usize = 16;
/// Greatest number of keys that are made, or found to exist: it bounds the time of archives whose images share
/// everything.
const MAX_STEPS: usize = 8 * MAX_KEYS;

/// Images while their keys are made.
pub(super) struct Builder<'a> {
    layout: &'a Layout,
    blobs: BTreeMap<Digest, Blob>,
    /// Manifests that were read, and the reasons why others cannot be served.
    manifests: BTreeMap<Digest, Result<Rc<Parts>, UnservedReason>>,
    /// Number of manifests that were read.
    pub(super) reads: usize,
    /// Number of parts of all manifests.
    parts: usize,
    /// Digests of tags, by the keys of their links.
    tags: BTreeMap<String, Digest>,
    /// Number of keys that were made, or found to exist.
    pub(super) steps: usize,
    pub(super) objects: BTreeMap<String, Object>,
}

/// Content of the archive, and of links to it.
struct Blob {
    content: Content,
    link: Content,
}

/// Parts of a manifest that the archive has. An archive of some platforms lacks the others.
struct Parts {
    /// Type of the manifest, if its bytes do not declare the type.
    undeclared_type: Option<&'static str>,
    /// Manifests with their types, each once.
    manifests: BTreeMap<Digest, &'static str>,
    blobs: BTreeSet<Digest>,
}

/// Image that can be served.
struct ServedImage<'a> {
    name: ImageReference,
    repository: RepositoryName,
    digest: &'a Digest,
}

// === impl Builder ===

impl<'a> Builder<'a> {
    pub(super) fn new(layout: &'a Layout) -> Result<Self, BundleError> {
        let blob = |(digest, content): (Digest, Content)| {
            let link = [Bytes::copy_from_slice(digest.as_str().as_bytes())].into();
            (digest, Blob { content, link })
        };
        let blobs = layout.contents()?.into_iter().map(blob).collect();
        let (manifests, tags, objects) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { layout, blobs, manifests, reads: 0, parts: 0, tags, steps: 0, objects })
    }

    /// Adds an image with everything below it that the archive has. Returns the reason if the image cannot be
    /// served.
    pub(super) fn add(&mut self, root: &Root) -> Result<Option<UnservedReason>, BundleError> {
        match self.check(root) {
            Ok(image) => self.insert_image(&image).map(|()| None),
            Err(reason) => Ok(Some(reason)),
        }
    }

    /// Checks that an image can be served, before any of its keys is made.
    fn check<'r>(&mut self, root: &'r Root) -> Result<ServedImage<'r>, UnservedReason> {
        let (name, repository) = name(root)?;
        let Descriptor { digest, media_type, .. } = &root.descriptor;
        let known = media_type::known(media_type);
        let kind = known.ok_or_else(|| UnservedReason::MediaType(escape::line(media_type)))?;
        if !self.blobs.contains_key(digest) {
            return Err(UnservedReason::NoManifest(digest.clone()));
        }
        if let Some(tag) = name.tag() {
            match self.tags.get(RepositoryKeys(&repository).tag_link(tag).as_str()) {
                Some(taken) if taken != digest => return Err(UnservedReason::NameTaken(taken.clone())),
                _ => {}
            }
        }
        self.check_manifest(digest, kind, 0)?;
        Ok(ServedImage { name, repository, digest })
    }

    /// Checks a manifest and all manifests below it.
    fn check_manifest(
        &mut self,
        digest: &Digest,
        kind: &'static str,
        depth: usize,
    ) -> Result<(), UnservedReason> {
        if let Some(known) = self.manifests.get(digest) {
            return known.as_ref().map(|_| ()).map_err(Clone::clone);
        }
        if depth > MAX_INDEX_DEPTH {
            return Err(UnservedReason::TooDeep(MAX_INDEX_DEPTH));
        }
        let parts = self.read(digest, kind).and_then(|parts| {
            for (child, kind) in &parts.manifests {
                self.check_manifest(child, kind, depth + 1)?;
            }
            Ok(Rc::new(parts))
        });
        let result = parts.as_ref().map(|_| ()).map_err(Clone::clone);
        self.manifests.insert(digest.clone(), parts);
        result
    }

    fn read(&mut self, digest: &Digest, kind: &'static str) -> Result<Parts, UnservedReason> {
        let manifest = || digest.clone();
        let no_manifest = || UnservedReason::NoManifest(manifest());
        let content = &self.blobs.get(digest).ok_or_else(no_manifest)?.content;
        if content.len() > MAX_STORED_MANIFEST_BYTES {
            return Err(UnservedReason::TooLong(manifest()));
        }
        self.reads += 1;
        let bytes = content
            .to_bytes()
            .map_err(|error| UnservedReason::Unreadable { manifest: manifest(), error: error.to_string() })?;
        let actual = Digest::sha256(&bytes);
        if actual != *digest {
            return Err(UnservedReason::Damaged { manifest: manifest(), actual });
        }
        let parsed = Manifest::parse_listed(&bytes, kind).map_err(|error| UnservedReason::Manifest {
            manifest: manifest(),
            error: escape::line(&error.to_string()),
        })?;
        let parts = self.parts_of(parsed)?;
        self.parts += parts.manifests.len() + parts.blobs.len();
        if self.parts > MAX_KEYS { Err(UnservedReason::TooManyParts) } else { Ok(parts) }
    }

    /// Returns the parts of a manifest that the archive has.
    fn parts_of(&self, manifest: Manifest) -> Result<Parts, UnservedReason> {
        let Manifest { media_type, declares_type, manifests, blobs, foreign, .. } = manifest;
        let undeclared_type = (!declares_type).then_some(media_type);
        let mut parts = Parts { undeclared_type, manifests: BTreeMap::new(), blobs: BTreeSet::new() };
        // Caches of builders list layers in an index.
        let listed = manifests.into_iter().map(|part| (media_type::known(&part.media_type), part));
        let blobs = blobs.into_iter().chain(foreign).map(|part| (None, part));
        for (kind, part) in listed.chain(blobs) {
            if !self.blobs.contains_key(&part.digest) {
                continue;
            }
            // Without a SHA-256 there is no place for the content.
            let algorithm = part.digest.algorithm();
            if algorithm != Algorithm::Sha256 {
                let algorithm = algorithm.as_str();
                return Err(UnservedReason::PartAlgorithm { part: part.digest, algorithm });
            }
            match kind {
                Some(kind) => drop(parts.manifests.insert(part.digest, kind)),
                None => drop(parts.blobs.insert(part.digest)),
            }
        }
        Ok(parts)
    }

    fn insert_image(&mut self, image: &ServedImage<'_>) -> Result<(), BundleError> {
        let place = RepositoryKeys(&image.repository);
        let mut pending = vec![image.digest.clone()];
        while let Some(digest) = pending.pop() {
            let Some(Ok(parts)) = self.manifests.get(&digest) else { continue };
            let parts = Rc::clone(parts);
            if !self.link(&place.revision_link(&digest), &digest)? {
                continue;
            }
            self.insert_blob(&digest)?;
            if let Some(kind) = parts.undeclared_type {
                let kind = Bytes::from_static(kind.as_bytes());
                self.insert(&place.revision_type(&digest), [kind].into())?;
            }
            for blob in &parts.blobs {
                if self.link(&place.layer_link(blob), blob)? {
                    self.insert_blob(blob)?;
                }
            }
            pending.extend(parts.manifests.keys().cloned());
        }
        if let Some(tag) = image.name.tag() {
            let link = place.tag_link(tag);
            self.link(&place.tag_index(tag, image.digest), image.digest)?;
            self.link(&link, image.digest)?;
            self.tags.insert(link.as_str().to_owned(), image.digest.clone());
        }
        Ok(())
    }

    /// Adds a link to content of the archive. Returns false if it exists.
    fn link(&mut self, key: &Key, digest: &Digest) -> Result<bool, BundleError> {
        match self.blobs.get(digest).map(|blob| blob.link.clone()) {
            Some(link) => self.insert(key, link),
            None => Ok(false),
        }
    }

    fn insert_blob(&mut self, digest: &Digest) -> Result<bool, BundleError> {
        match self.blobs.get(digest).map(|blob| blob.content.clone()) {
            Some(content) => self.insert(&blob(digest), content),
            None => Ok(false),
        }
    }

    /// Adds content under a key. Returns false if the key exists.
    fn insert(&mut self, key: &Key, content: Content) -> Result<bool, BundleError> {
        let number = self.objects.len() as u64;
        self.steps += 1;
        if self.objects.len() >= MAX_KEYS || self.steps > MAX_STEPS {
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
    let repository = image.repository_with_host().map_err(UnservedReason::Name)?;
    Ok((image, repository))
}
