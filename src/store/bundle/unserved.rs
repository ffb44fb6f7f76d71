//! Reasons why images of an archive are not served.

use quinistry_oci::{Digest, NameError};

use super::MAX_KEYS;
use crate::manifests::MAX_STORED_MANIFEST_BYTES;

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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnservedReason {
    /// The archive has no name of the image, or a tag alone.
    #[error("no full name HOST/NAME[:TAG]; write the archive with `quinistry bundle`")]
    NoFullName,
    /// The host and the repository together are not the name of a repository.
    #[error(transparent)]
    Name(NameError),
    /// An earlier image of the archive has the tag, and another digest.
    #[error("its name is taken by {0}")]
    NameTaken(Digest),
    /// The digest of the image uses another hash than SHA-256.
    #[error("its digest uses {0}; only sha256 is supported")]
    Algorithm(&'static str),
    /// The image is neither a manifest nor an index. The media type is escaped.
    #[error("its media type '{0}' is not that of an image manifest or index")]
    MediaType(String),
    /// The archive lacks the manifest or index of the image.
    #[error("its manifest {0} is not in the archive; write the archive again")]
    NoManifest(Digest),
    /// A manifest was changed after the archive was written.
    #[error("manifest {manifest} is damaged: its bytes have the digest {actual}; copy the archive again")]
    Damaged {
        /// Digest of the manifest.
        manifest: Digest,
        /// Digest of the bytes.
        actual: Digest,
    },
    /// The operating system refused to read a manifest.
    #[error("failed to read manifest {manifest}: {error}")]
    Unreadable {
        /// Digest of the manifest.
        manifest: Digest,
        /// Error of the operating system.
        error: String,
    },
    /// A manifest is longer than any that is stored.
    #[error("manifest {0} has more than {MAX_STORED_MANIFEST_BYTES} bytes")]
    TooLong(Digest),
    /// A registry may not serve a manifest.
    #[error("manifest {manifest} cannot be served: {error}; build the image again with a current tool")]
    Manifest {
        /// Digest of the manifest.
        manifest: Digest,
        /// Description of the defect, escaped.
        error: String,
    },
    /// A manifest or blob below the image has a digest of another hash than SHA-256.
    #[error("its part {part} uses {algorithm}; only sha256 is supported")]
    PartAlgorithm {
        /// Digest of the part.
        part: Digest,
        /// Name of the hash.
        algorithm: &'static str,
    },
    /// Indexes are nested deeper than in any real image.
    #[error("its indexes are nested more than {0} deep")]
    TooDeep(usize),
    /// Manifests of the archive list more content than is served.
    #[error("the manifests of the archive list more than {MAX_KEYS} parts; split the archive")]
    TooManyParts,
}
