//! Blobs that a repository is known to have: a manifest of the repository names them, or the upstream has said so. Pure.

use quinistry_oci::{Digest, Manifest, RepositoryName};

use super::bounded_map::BoundedMap;

/// Capacity in blobs. One that is forgotten is asked for by HEAD.
const CAPACITY: usize = 100_000;

/// Capacity in manifests whose blobs are noted. One that is forgotten is parsed again when it is served.
const MANIFEST_CAPACITY: usize = 10_000;

/// Blobs of the repositories of one upstream.
#[derive(Debug)]
pub(crate) struct ProvenBlobs {
    blobs: BoundedMap<(RepositoryName, Digest), ProvenBlob>,
    /// Manifests whose blobs were noted.
    manifests: BoundedMap<(RepositoryName, Digest), ()>,
}

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
    /// Notes a blob. Called at each pull, so that it writes only now and then.
    pub(crate) fn note(&mut self, digest: &Digest) {
        self.0.refresh(digest, (), 1);
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.0.get(digest).is_some()
    }
}

impl Default for ProvenBlobs {
    fn default() -> Self {
        Self { blobs: BoundedMap::new(CAPACITY), manifests: BoundedMap::new(MANIFEST_CAPACITY) }
    }
}

impl ProvenBlobs {
    /// Notes the blobs that a manifest of the repository names.
    pub(crate) fn note_manifest(&mut self, name: &RepositoryName, digest: &Digest, manifest: &Manifest) {
        self.manifests.insert((name.clone(), digest.clone()), (), 1);
        // Registries accept foreign layers without a look at them, so that naming one proves nothing.
        for blob in &manifest.blobs {
            self.note(name, &blob.digest, Some(blob.size));
        }
    }

    /// Returns true if the blobs of a manifest are noted.
    pub(crate) fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> bool {
        self.manifests.get(&(name.clone(), digest.clone())).is_some()
    }

    pub(crate) fn note(&mut self, name: &RepositoryName, digest: &Digest, length: Option<u64>) {
        self.blobs.insert((name.clone(), digest.clone()), ProvenBlob { length }, 1);
    }

    /// Returns a blob, if the repository is known to have it.
    pub(crate) fn get(&self, name: &RepositoryName, digest: &Digest) -> Option<ProvenBlob> {
        self.blobs.get(&(name.clone(), digest.clone())).copied()
    }

    /// Forgets a blob, whose noted length may be wrong.
    pub(crate) fn forget_blob(&mut self, name: &RepositoryName, digest: &Digest) {
        self.blobs.remove(&(name.clone(), digest.clone()));
    }

    pub(crate) fn forget(&mut self, name: &RepositoryName) {
        self.blobs.retain(|(other, _)| other != name);
        self.manifests.retain(|(other, _)| other != name);
    }
}
