//! Manifests of an image that a registry may not serve. Pure.

use std::collections::{BTreeMap, BTreeSet};

use quinistry_oci::{Descriptor, Digest, Manifest as ServedManifest, ManifestError, media_type};

use crate::Manifest;

/// Reads manifests as a registry reads them that serves the bundle, and returns the defects. The client itself reads
/// more than registries accept.
pub(super) fn unservable(
    root: &Descriptor,
    manifests: &[Manifest],
) -> impl Iterator<Item = (Digest, ManifestError)> + use<> {
    let by_digest: BTreeMap<_, _> =
        manifests.iter().map(|manifest| (&manifest.descriptor.digest, &manifest.bytes)).collect();
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    let mut pending = vec![root.clone()];
    while let Some(part) = pending.pop() {
        let Some(bytes) = by_digest.get(&part.digest) else { continue };
        // Caches of builders list layers in an index.
        if media_type::known(&part.media_type).is_none() || !seen.insert(part.digest.clone()) {
            continue;
        }
        match ServedManifest::parse_listed(bytes, &part.media_type) {
            Ok(manifest) => pending.extend(manifest.manifests),
            Err(error) => errors.push((part.digest, error)),
        }
    }
    errors.into_iter()
}
