//! Defects of an archive that is to be loaded.

use quinistry_oci::layout::MAX_BUNDLE_PARTS;
use quinistry_oci::{Digest, NameError};

use crate::MAX_MANIFEST_BYTES;

/// Defect of an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{image}: {reason}")]
pub struct BundleFault {
    /// Name or digest of the image that has the defect, escaped.
    pub image: String,
    /// Defect.
    pub reason: BundleFaultReason,
}

/// Reason why an image of an archive cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleFaultReason {
    /// The archive has no name of the image, or a tag alone.
    #[error("no full name HOST/NAME[:TAG]; write the archive with `quinistry bundle`")]
    NoFullName,
    /// The host and the repository together are not the name of a repository.
    #[error(transparent)]
    Name(NameError),
    /// An earlier image of the archive has the tag, and another digest.
    #[error("its name is taken by {0}")]
    NameTaken(Digest),
    /// The digest in the name is not that of the image.
    #[error("the archive has {0} under this name")]
    OtherDigest(Digest),
    /// The image is neither a manifest nor an index. The media type is escaped.
    #[error("its media type '{0}' is not that of an image manifest or index")]
    MediaType(String),
    /// The archive lacks the manifest or index of the image.
    #[error("manifest {0} is not in the archive; write the archive again")]
    NoManifest(Digest),
    /// The archive lacks all images that an index lists.
    #[error("no image of index {0} is in the archive; write the archive again")]
    NoImage(Digest),
    /// The archive lacks a configuration or layer.
    #[error("blob {0} is not in the archive; write the archive again")]
    NoBlob(Digest),
    /// The archive has a configuration or layer of another length.
    #[error("blob {blob} has {actual} bytes where its manifest says {expected}; copy the archive again")]
    BlobSize {
        /// Digest of the blob.
        blob: Digest,
        /// Length by the manifest.
        expected: u64,
        /// Length in the archive.
        actual: u64,
    },
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
    /// A manifest is longer than clients push.
    #[error("manifest {0} has more than {MAX_MANIFEST_BYTES} bytes")]
    TooLong(Digest),
    /// A registry may not take a manifest.
    #[error("manifest {manifest} cannot be served: {error}; build the image again with a current tool")]
    Manifest {
        /// Digest of the manifest.
        manifest: Digest,
        /// Description of the defect, escaped.
        error: String,
    },
    /// Indexes are nested deeper than in any real image.
    #[error("its indexes are nested more than {0} deep")]
    TooDeep(usize),
    /// Manifests of the archive list more content than is read, where content counts for each repository that has it.
    #[error("the manifests of the archive list more than {MAX_BUNDLE_PARTS} parts; split the archive")]
    TooManyParts,
    /// Manifests of the archive are longer than is kept in memory.
    #[error("the manifests of the archive are longer than {} MiB; split the archive", .0 >> 20)]
    TooManyBytes(u64),
}
