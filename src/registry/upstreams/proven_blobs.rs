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

impl Default for ProvenBlobs {
    fn default() -> Self {
        Self(BoundedMap::new(CAPACITY))
    }
}

impl ProvenBlobs {
    /// Notes the blobs that a manifest of the repository names.
    pub(crate) fn note_manifest(&mut self, name: &RepositoryName, manifest: &Manifest) {
        for blob in manifest.blobs.iter().chain(&manifest.foreign) {
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

    pub(crate) fn forget(&mut self, name: &RepositoryName) {
        self.0.retain(|(other, _)| other != name);
    }
}
