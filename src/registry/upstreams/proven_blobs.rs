//! Blobs that a repository is known to have: a manifest of the repository names them, or the upstream has said so. Pure.

use quinistry_oci::{Digest, Manifest, RepositoryName};

use super::bounded_map::BoundedMap;

/// Capacity in blobs. One that is forgotten is asked for by HEAD.
const CAPACITY: usize = 100_000;

/// Blobs of the repositories of one upstream.
#[derive(Debug)]
pub(crate) struct ProvenBlobs(BoundedMap<(RepositoryName, Digest), ProvenBlob>);

/// Blob that a repository is known to have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProvenBlob {
    /// Length in bytes, if it is known.
    pub(crate) length: Option<u64>,
}

/// Blobs that one upstream has sent. One that is forgotten is fetched for the next repository.
#[derive(Debug)]
pub(crate) struct SentBlobs(BoundedMap<Digest, ()>);

impl Default for SentBlobs {
    fn default() -> Self {
        Self(BoundedMap::new(CAPACITY))
    }
}

impl SentBlobs {
    pub(crate) fn note(&mut self, digest: &Digest) {
        self.0.insert(digest.clone(), (), 1);
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.0.get(digest).is_some()
    }
}

impl Default for ProvenBlobs {
    fn default() -> Self {
        Self(BoundedMap::new(CAPACITY))
    }
}

impl ProvenBlobs {
    /// Notes the blobs that a manifest of the repository names.
    pub(crate) fn note_manifest(&mut self, name: &RepositoryName, manifest: &Manifest) {
        // Registries accept foreign layers without a look at them, so that naming one proves nothing.
        for blob in &manifest.blobs {
            self.note(name, &blob.digest, Some(blob.size));
        }
    }

    pub(crate) fn note(&mut self, name: &RepositoryName, digest: &Digest, length: Option<u64>) {
        self.0.insert((name.clone(), digest.clone()), ProvenBlob { length }, 1);
    }

    /// Returns a blob, if the repository is known to have it.
    pub(crate) fn get(&self, name: &RepositoryName, digest: &Digest) -> Option<ProvenBlob> {
        self.0.get(&(name.clone(), digest.clone())).copied()
    }

    /// Forgets a blob, whose noted length may be wrong.
    pub(crate) fn forget_blob(&mut self, name: &RepositoryName, digest: &Digest) {
        self.0.remove(&(name.clone(), digest.clone()));
    }

    pub(crate) fn forget(&mut self, name: &RepositoryName) {
        self.0.retain(|(other, _)| other != name);
    }
}
