//! Content that a manifest needs, as far as it can be known.

use std::collections::BTreeSet;

use quinistry_oci::{Digest, Manifest, media_type};

/// Digests that a manifest needs.
pub(crate) enum Needs {
    /// Parts of a manifest that is understood.
    Known(Manifest),
    /// Every digest in the text of a manifest that is not understood: any of them may be needed.
    Mentioned(BTreeSet<Digest>),
}

impl Needs {
    /// Returns the blobs and manifests that the manifest needs.
    pub(super) fn parts(&self) -> Box<dyn Iterator<Item = &Digest> + '_> {
        match self {
            Self::Known(manifest) => {
                let parts = manifest.blobs.iter().chain(&manifest.foreign).chain(&manifest.manifests);
                Box::new(parts.map(|part| &part.digest))
            }
            Self::Mentioned(digests) => Box::new(digests.iter()),
        }
    }

    /// Returns the digests that may be manifests.
    pub(super) fn children(&self) -> Box<dyn Iterator<Item = &Digest> + '_> {
        match self {
            Self::Known(manifest) => Box::new(manifest.manifests.iter().map(|part| &part.digest)),
            Self::Mentioned(digests) => Box::new(digests.iter()),
        }
    }

    pub(super) fn is_understood(&self) -> bool {
        matches!(self, Self::Known(_))
    }
}

/// Returns the needs of a manifest's bytes, which were pushed as a media type, if the bytes do not tell it. A
/// document in which another program could see more than this one does needs all that it mentions.
pub(crate) fn needs_of(bytes: &[u8], pushed_as: Option<&str>) -> Needs {
    let media_type = pushed_as.or_else(|| Manifest::type_of(bytes)).unwrap_or(media_type::OCI_MANIFEST);
    let manifest = if media_type == media_type::DOCKER_SCHEMA_1 {
        Manifest::of_schema_1(bytes)
    } else {
        Manifest::parse(bytes, Some(media_type))
    };
    match manifest {
        Ok(manifest) if !Manifest::has_other_spelling(bytes) => Needs::Known(manifest),
        _ => Needs::Mentioned(Manifest::mentions(bytes)),
    }
}
