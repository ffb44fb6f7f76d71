//! Images as files: OCI image layouts, OCI archives and docker archives.
//!
//! [`Writer`] writes a layout folder or one hybrid archive that `ctr images import`, `kind load
//! image-archive`, `podman load`, `skopeo` and Docker 20.10's `docker load` all take. [`Layout`] reads those
//! back, and what `docker save` writes, at random and without extracting anything. Synchronous; knows no
//! network and no registry. Called by `client` (push) and by the command line.

use std::io;
use std::path::{Path, PathBuf};

use crate::Digest;

mod docker;
mod place;
mod read;
mod tape;
mod write;

pub use docker::DockerImage;
pub use read::{BlobReader, Layout, Root};
pub use write::{BlobWriter, Format, RefNames, SavedImage, Target, Writer};

/// The file that says a folder or an archive is an OCI image layout.
const MARKER: &str = "oci-layout";
/// Content of [`MARKER`]. image-spec `image-layout.md`.
const MARKER_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The list of images of a layout.
const INDEX: &str = "index.json";
/// Docker's list of images of an archive.
const DOCKER_INDEX: &str = "manifest.json";
/// The largest JSON document that is read from a layout: what registries and clients accept for a manifest.
const MAX_JSON: u64 = 4 * 1024 * 1024;

/// Greatest number of manifests and blobs of a bundle, where content that several images share counts for each of them:
/// three hundred for each of a thousand images. Writers refuse more, and readers accept as many.
pub const MAX_BUNDLE_PARTS: usize = 300_000;

/// Returns the path of a blob, in folders and archives alike. Digests hold no separators, so the path cannot
/// climb.
fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// Errors between an image and its files.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The operating system refused a write: full disk, missing rights, closed pipe.
    #[error("failed to write {path}")]
    Write {
        /// The file as the caller named it.
        path: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The operating system refused a read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A folder cannot be streamed.
    #[error("an OCI layout is a folder and cannot go to standard output: name a folder, or write an archive")]
    LayoutToStdout,
    /// The folder is not empty and not a layout; overwriting it would destroy other data.
    #[error("{} is a folder with other things in it: name a new or empty folder, or an OCI layout", .0.display())]
    Occupied(PathBuf),
    /// An archive was asked for where a folder is.
    #[error("{} is a folder: name a file, or write an OCI layout", .0.display())]
    IsFolder(PathBuf),
    /// A layout was asked for where a file is.
    #[error("{} is a file: name a folder, or write an archive", .0.display())]
    IsFile(PathBuf),
    /// The bytes given for a blob are not those that its descriptor describes.
    #[error("{digest} has {actual} bytes where its descriptor says {expected}")]
    Size {
        /// The blob.
        digest: Digest,
        /// Length by the descriptor.
        expected: u64,
        /// Length that was received; one more than expected stands for any excess.
        actual: u64,
    },
    /// The bytes given for a blob hash to something else.
    #[error("content does not match its digest: expected {expected}, got {actual}")]
    Digest {
        /// Digest by the descriptor.
        expected: Digest,
        /// Digest of the bytes.
        actual: Digest,
    },
    /// A blob was begun and not finished, so the archive cannot be completed.
    #[error("a blob was left unfinished")]
    Unfinished,
    /// Neither an archive nor a layout.
    #[error("{} is not an image: want an OCI layout folder, an OCI archive or a docker archive", .0.display())]
    NotAnImage(PathBuf),
    /// Compressed as a whole, which forbids reading at random.
    #[error("{} is compressed as a whole: {hint} it first", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// The program that undoes it.
        hint: &'static str,
    },
    /// A folder, where an archive is wanted.
    #[error("{} is a folder, not an archive; pack it with `tar -cf FILE -C FOLDER .`", .0.display())]
    NotAnArchive(PathBuf),
    /// A pipe, a socket or a device, which cannot be read at random.
    #[error("{} is not a regular file; copy the archive to a disk first", .0.display())]
    NotAFile(PathBuf),
    /// Looks like an image, and is broken.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Description of the defect.
        reason: String,
    },
    /// The layout names a blob that it does not hold.
    #[error("{} has no blob {digest}", path.display())]
    NoBlob {
        /// The folder or archive.
        path: PathBuf,
        /// The blob.
        digest: Digest,
    },
}

impl LayoutError {
    fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        |source| Self::Write { path, source }
    }

    fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Read { path, source }
    }

    fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests;
