//! Why the store refuses.

use quinistry_oci::{Digest, RepositoryName};

use super::storage::StorageError;

/// What was asked for is not there, cannot be, or could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was ever pushed under that name.
    #[error("repository is not known to this registry")]
    RepositoryUnknown,
    /// The repository has no such manifest, or no such tag.
    #[error("manifest is not known to this repository")]
    ManifestUnknown,
    /// The repository has no such blob.
    #[error("blob is not known to this repository")]
    BlobUnknown,
    /// No such session: it ended, expired, or never was.
    #[error("upload session is not known to this repository")]
    UploadUnknown,
    /// Another request is at it.
    #[error("another request is writing to this upload session")]
    UploadBusy,
    /// There are too many sessions.
    #[error("too many upload sessions are open; finish or cancel some, or try again later")]
    TooManyUploads,
    /// The bytes are others than announced.
    #[error("the content is {found}, not {wanted}")]
    Differs {
        /// What was announced.
        wanted: Digest,
        /// What came.
        found: Digest,
    },
    /// What a manifest refers to is not in the repository.
    #[error("{} blobs or manifests that the manifest refers to are not in this repository", .0.len())]
    Missing(Vec<Digest>),
    /// What a manifest refers to is there, in another size.
    #[error("{digest} is {stored} bytes long, and not {declared} as the manifest says")]
    Size {
        /// Of what.
        digest: Digest,
        /// By the manifest.
        declared: u64,
        /// In truth.
        stored: u64,
    },
    /// What lies under a digest is something else.
    #[error("what is stored as {0} is damaged; push it again")]
    Damaged(Digest),
    /// A damaged manifest of a repository, so that the content it needs is unknown.
    #[error(
        "manifest {repository}@{digest} ({tags}) is damaged, so that what it needs is unknown: push it again, or delete it"
    )]
    DamagedIn {
        /// Repository of the manifest.
        repository: RepositoryName,
        /// SHA-256 of the manifest.
        digest: Digest,
        /// The tags that mean it.
        tags: String,
    },
    /// A link was cut off by a crash of another program.
    #[error(
        "{0} holds no digest, so that nobody knows what is needed: remove it, or push again what it stands for"
    )]
    Torn(super::Key),
    /// Another program's repository.
    #[error("{0:?} is no repository name here, so that nobody knows what is needed")]
    Foreign(String),
    /// The storage fails.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
