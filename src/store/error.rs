//! Errors of the store.

use quinistry_oci::{Digest, RepositoryName, Tag};

use super::storage::StorageError;

/// Reasons why the store refuses a request.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The repository has never had a manifest or a blob.
    #[error("repository is not known to this registry")]
    RepositoryUnknown,
    /// The repository has no such manifest, or no such tag.
    #[error("manifest is not known to this repository")]
    ManifestUnknown,
    /// The repository has no such blob.
    #[error("blob is not known to this repository")]
    BlobUnknown,
    /// The tag refers to another manifest, and must not be moved.
    #[error("tag {0} exists, and refers to another manifest")]
    TagExists(Tag),
    /// The tag keeps its first manifest, and cannot be deleted.
    #[error("tag {tag} is immutable here: it means {digest}")]
    TagImmutable {
        /// Tag.
        tag: Tag,
        /// Digest that the tag refers to.
        digest: Digest,
    },
    /// The tag cannot be deleted, nor its manifest.
    #[error("tag {0} is protected here: neither the tag nor its manifest can be deleted")]
    TagProtected(Tag),
    /// The change would exceed a quota.
    #[error(transparent)]
    QuotaExceeded(#[from] super::QuotaExceeded),
    /// The manifest exists with another media type, by which its tags are served.
    #[error("manifest exists as {0}, and its bytes do not tell the type")]
    TypeExists(&'static str),
    /// The session has ended or expired, or never existed.
    #[error("upload session is not known to this repository")]
    UploadUnknown,
    /// Another request has claimed the session.
    #[error("another request is writing to this upload session")]
    UploadBusy,
    /// The number of open sessions has reached its limit.
    #[error("too many upload sessions are open; finish or cancel some, or try again later")]
    TooManyUploads,
    /// The bytes have another digest than announced.
    #[error("the content has digest {found}, not {wanted}")]
    Differs {
        /// Announced digest.
        wanted: Digest,
        /// Digest of the bytes.
        found: Digest,
    },
    /// Parts of a manifest are not in the repository.
    #[error("{} blobs or manifests that the manifest refers to are not in this repository", .0.len())]
    Missing(Vec<Digest>),
    /// A part of a manifest exists with another size.
    #[error("{digest} is {stored} bytes long, and not {declared} as the manifest says")]
    Size {
        /// Digest of the part.
        digest: Digest,
        /// Size by the manifest, in bytes.
        declared: u64,
        /// Size of the stored bytes.
        stored: u64,
    },
    /// The bytes that are stored under a digest do not have it.
    #[error("the content stored as {0} is damaged; push it again")]
    Damaged(Digest),
    /// A damaged manifest of a repository, so that the content it needs is unknown.
    #[error(
        "manifest {repository}@{digest} ({tags}) is damaged, so that the content it needs is unknown: push it again, or delete it"
    )]
    DamagedIn {
        /// Repository of the manifest.
        repository: RepositoryName,
        /// SHA-256 of the manifest.
        digest: Digest,
        /// Tags of the manifest, for display.
        tags: String,
    },
    /// A link was torn by a crash of another program.
    #[error(
        "link {0} holds no valid digest, so that the content it needs is unknown: remove it, or push its content again"
    )]
    Torn(super::Key),
    /// A repository of another program, whose name is not valid here.
    #[error(
        "{0:?} is not a valid repository name, so that the content it needs is unknown: rename or remove the folder"
    )]
    Foreign(String),
    /// The description of the storage's layout cannot be read.
    #[error("{0} is not a description of a storage's layout; name another folder of the storage")]
    FormatUnknown(super::Key),
    /// A later version of the program has changed the layout.
    #[error(
        "{key} says that the layout has version {format}, which is newer than this program; use a newer one"
    )]
    FormatTooNew {
        /// Key of the description.
        key: super::Key,
        /// Version of the layout.
        format: u32,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
