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
    #[error("tag {tag} is immutable here: it refers to {digest}, and cannot be moved or deleted")]
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
    /// The process does not know what a collector removes at this moment, or waited for it in vain.
    #[error("content of this request may be about to be collected; try again in a few seconds")]
    Unvouched,
    /// A record of collection cannot be read.
    #[error(
        "{0} is not a record of collection; stop all registries, remove the folder _quinistry/gc, and start them"
    )]
    CollectionUnknown(super::Key),
    /// The storage carries out removals at any time after they were sent.
    #[error(
        "the store does not refuse late removals, so that content cannot be collected while \
         registries run; run quinistry storage probe"
    )]
    Unfenced,
    /// The grace of collection is not longer than what processes may know late.
    #[error("the grace of collection is {grace:?}, and must be longer than {least:?}")]
    GraceTooShort {
        /// Grace that was asked for.
        grace: std::time::Duration,
        /// Least grace.
        least: std::time::Duration,
    },
    /// Another program pushes to the storage, though only this program is said to.
    #[error(
        "upload session {session} of repository {repository} is of another program, which does not hold what it finds: \
         set quinistry.gc.writers to foreign, or stop the program and remove the session"
    )]
    ForeignSession {
        /// Repository of the session.
        repository: RepositoryName,
        /// Key of the session's folder.
        session: super::Key,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
