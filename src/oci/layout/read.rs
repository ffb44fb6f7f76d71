//! Reads layout folders and archives at random, without extracting anything.
//!
//! A folder's blobs are opened where they lie, an archive's by the place noted when its headers were scanned.
//! Archives of `docker save` get an OCI manifest, made here of the configuration and layers in the archive.
//! Content is not checked against its digest here: the reader of a blob hashes it (`client::push`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Algorithm, Content, Descriptor, Digest, Hasher, ImageIndex, ImageManifest, media_type, to_json};

use super::docker::DockerIndexEntry;
use super::tape::{self, Contents, Span};
use super::{DOCKER_INDEX, INDEX, LayoutError, MARKER, MAX_JSON, blob_path};

/// An image in a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// Its full name or its tag, whichever the layout knows.
    pub name: Option<String>,
}

/// A layout folder or an archive, open for reading.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    source: LayoutFiles,
    roots: Vec<Root>,
}

#[derive(Debug)]
enum LayoutFiles {
    /// The folder without symbolic links in its own path.
    Folder(PathBuf),
    Archive {
        file: Arc<File>,
        blobs: BTreeMap<Digest, Span>,
        /// Manifests that were made here.
        made: BTreeMap<Digest, Arc<[u8]>>,
    },
}

// === impl Layout ===

impl Layout {
    /// Opens a layout folder, an OCI archive, or what `docker save` wrote.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        let meta = fs::metadata(path).map_err(LayoutError::read(path))?;
        if meta.is_dir() { Self::open_folder(path) } else { Self::open_archive(path) }
    }

    fn open_folder(path: &Path) -> Result<Self, LayoutError> {
        let folder = fs::canonicalize(path).map_err(LayoutError::read(path))?;
        let file = match open_within(&folder, INDEX) {
            Ok(file) if folder.join(MARKER).exists() => file,
            Ok(_) => return Err(LayoutError::NotAnImage(path.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LayoutError::NotAnImage(path.into()));
            }
            Err(error) => return Err(LayoutError::read(&path.join(INDEX))(error)),
        };
        let index = document(path, INDEX, file, MAX_JSON)?;
        Ok(Self { path: path.into(), source: LayoutFiles::Folder(folder), roots: roots(index) })
    }

    /// Opens an OCI archive, or what `docker save` wrote, and no folder.
    pub fn open_archive(path: &Path) -> Result<Self, LayoutError> {
        let meta = fs::metadata(path).map_err(LayoutError::read(path))?;
        if meta.is_dir() {
            return Err(LayoutError::NotAnArchive(path.into()));
        }
        if !meta.is_file() {
            return Err(LayoutError::NotAFile(path.into()));
        }
        let file = File::open(path).map_err(LayoutError::read(path))?;
        let mut magic = [0; 512];
        let known = file.read_at(&mut magic, 0).map_err(LayoutError::read(path))?;
        if let Some(hint) = compressor(&magic[..known]) {
            return Err(LayoutError::Compressed { path: path.into(), hint });
        }
        if tape::starts_with_header(&magic[..known]).is_err() {
            return Err(LayoutError::NotAnImage(path.into()));
        }
        let contents = tape::scan(&file).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => LayoutError::damaged(path, error.to_string()),
            _ => LayoutError::read(path)(error),
        })?;
        let archive = Archive { path, file: Arc::new(file), contents };
        let index = archive.index()?;
        let has_docker = archive.contents.files.contains_key(DOCKER_INDEX);
        match index {
            // Docker 25 saves an image by its digest with an empty index beside a good list of its own.
            Some(index) if !index.manifests.is_empty() || !has_docker => Ok(archive.into_oci(index)),
            _ if has_docker => archive.into_docker(),
            // A writer puts the list of images last.
            None if archive
                .contents
                .files
                .keys()
                .any(|name| name == MARKER || name.starts_with("blobs/")) =>
            {
                Err(LayoutError::damaged(path, "it has no index.json; the copy is incomplete"))
            }
            _ => Err(LayoutError::NotAnImage(path.into())),
        }
    }

    /// The images, in the layout's order.
    #[must_use]
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Returns the images that do not refer to another one of this layout, in the layout's order: signatures
    /// and the like are pushed with their subjects.
    #[must_use]
    pub fn images(&self) -> Vec<&Root> {
        let refers = |root: &Root| {
            let subject = self.subject(&root.descriptor.digest);
            subject
                .is_some_and(|subject| subject != root.descriptor.digest && self.open_blob(&subject).is_ok())
        };
        self.roots.iter().filter(|root| !refers(root)).collect()
    }

    /// Returns the digest of a manifest's subject; `None` if the manifest has no subject or cannot be read.
    fn subject(&self, manifest: &Digest) -> Option<Digest> {
        #[derive(Deserialize)]
        struct ManifestWithSubject {
            subject: Option<SubjectDigest>,
        }
        #[derive(Deserialize)]
        struct SubjectDigest {
            digest: Digest,
        }
        let mut bytes = Vec::new();
        self.open_blob(manifest).ok()?.take(MAX_JSON).read_to_end(&mut bytes).ok()?;
        Some(serde_json::from_slice::<ManifestWithSubject>(&bytes).ok()?.subject?.digest)
    }

    /// Returns the path of the folder or archive.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the bytes of an archive itself. Reads fail after the archive was written to.
    pub fn content(&self) -> Result<Content, LayoutError> {
        let LayoutFiles::Archive { file, .. } = &self.source else {
            return Err(LayoutError::NotAnArchive(self.path.clone()));
        };
        let open = || {
            let length = file.metadata()?.len();
            Content::of_guarded_file(file.try_clone()?, length)
        };
        open().map_err(LayoutError::read(&self.path))
    }

    /// Returns the content of all blobs of an archive, which is read where it lies. Reads fail after the archive was
    /// written to.
    pub fn contents(&self) -> Result<BTreeMap<Digest, Content>, LayoutError> {
        let LayoutFiles::Archive { blobs, made, .. } = &self.source else {
            return Err(LayoutError::NotAnArchive(self.path.clone()));
        };
        let whole = self.content()?;
        let blobs = blobs.iter().map(|(digest, span)| {
            (digest.clone(), whole.slice(span.offset..span.offset.saturating_add(span.len)))
        });
        let made = made
            .iter()
            .map(|(digest, bytes)| (digest.clone(), [bytes::Bytes::copy_from_slice(bytes)].into()));
        Ok(blobs.chain(made).collect())
    }

    /// The length of a blob.
    pub fn blob_size(&self, digest: &Digest) -> Result<u64, LayoutError> {
        Ok(self.open_blob(digest)?.left)
    }

    /// Opens a blob; each reader has a position of its own. The bytes are as they lie there, unchecked.
    pub fn open_blob(&self, digest: &Digest) -> Result<BlobReader, LayoutError> {
        let missing = || LayoutError::NoBlob { path: self.path.clone(), digest: digest.clone() };
        match &self.source {
            LayoutFiles::Folder(folder) => {
                let name = blob_path(digest);
                let file = open_within(folder, &name).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => missing(),
                    _ => LayoutError::read(&self.path.join(&name))(error),
                })?;
                let len = file.metadata().map_err(LayoutError::read(&self.path.join(&name)))?.len();
                Ok(BlobReader { bytes: Bytes::File(Arc::new(file)), at: 0, left: len })
            }
            LayoutFiles::Archive { file, blobs, made } => {
                if let Some(bytes) = made.get(digest) {
                    return Ok(BlobReader {
                        bytes: Bytes::Memory(bytes.clone()),
                        at: 0,
                        left: bytes.len() as u64,
                    });
                }
                let span = blobs.get(digest).ok_or_else(missing)?;
                Ok(BlobReader { bytes: Bytes::File(file.clone()), at: span.offset, left: span.len })
            }
        }
    }
}

/// Reads one blob of a [`Layout`].
#[derive(Debug)]
pub struct BlobReader {
    bytes: Bytes,
    at: u64,
    left: u64,
}

#[derive(Debug)]
enum Bytes {
    File(Arc<File>),
    Memory(Arc<[u8]>),
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let got = match &self.bytes {
            Bytes::File(file) => file.read_at(&mut buffer[..want], self.at)?,
            Bytes::Memory(bytes) => {
                let at = usize::try_from(self.at).expect("a position within memory");
                bytes[at..].take(want as u64).read(buffer)?
            }
        };
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

/// An archive whose kind is being found out.
struct Archive<'a> {
    path: &'a Path,
    file: Arc<File>,
    contents: Contents,
}

impl Archive<'_> {
    fn index(&self) -> Result<Option<ImageIndex>, LayoutError> {
        let span = self.contents.files.get(INDEX);
        span.map(|span| document(self.path, INDEX, self.reader(*span), MAX_JSON)).transpose()
    }

    fn into_oci(self, index: ImageIndex) -> Layout {
        let blobs = self.contents.files.iter().filter_map(|(name, span)| {
            let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
            Some((format!("{algorithm}:{hex}").parse().ok()?, *span))
        });
        let source =
            LayoutFiles::Archive { file: self.file.clone(), blobs: blobs.collect(), made: BTreeMap::new() };
        Layout { path: self.path.into(), source, roots: roots(index) }
    }

    fn into_docker(self) -> Result<Layout, LayoutError> {
        let list = self.reader(self.contents.files[DOCKER_INDEX]);
        let entries: Option<Vec<DockerIndexEntry>> = document(self.path, DOCKER_INDEX, list, MAX_JSON)?;
        let (mut blobs, mut made, mut roots) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        // A layer that several images share is hashed once.
        let mut known = BTreeMap::new();
        for entry in entries.unwrap_or_default() {
            let config =
                self.describe(&entry.config, Some(media_type::OCI_CONFIG), &mut known, &mut blobs)?;
            let layers: Result<_, _> =
                entry.layers.iter().map(|layer| self.describe(layer, None, &mut known, &mut blobs)).collect();
            let manifest = to_json(&ImageManifest {
                annotations: BTreeMap::new(),
                config,
                layers: layers?,
                media_type: Some(media_type::OCI_MANIFEST.into()),
                schema_version: 2,
            });
            let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
            made.insert(descriptor.digest.clone(), manifest.into());
            let tags = entry.repo_tags.unwrap_or_default();
            let names = if tags.is_empty() { vec![None] } else { tags.into_iter().map(Some).collect() };
            roots.extend(names.into_iter().map(|name| Root { descriptor: descriptor.clone(), name }));
        }
        let source = LayoutFiles::Archive { file: self.file, blobs, made };
        Ok(Layout { path: self.path.into(), source, roots })
    }

    /// Hashes a file of the archive; its media type is `kind`, or that of a layer compressed as it is.
    fn describe(
        &self,
        name: &str,
        kind: Option<&str>,
        known: &mut BTreeMap<Span, Descriptor>,
        blobs: &mut BTreeMap<Digest, Span>,
    ) -> Result<Descriptor, LayoutError> {
        let span =
            self.find(name).ok_or_else(|| LayoutError::damaged(self.path, format!("it has no '{name}'")))?;
        if let Some(descriptor) = known.get(&span) {
            return Ok(descriptor.clone());
        }
        let mut reader = self.reader(span);
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 256 * 1024];
        let mut media_type = kind;
        loop {
            let got = reader.read(&mut buffer).map_err(LayoutError::read(self.path))?;
            if got == 0 {
                break;
            }
            hasher.update(&buffer[..got]);
            media_type = media_type.or(Some(match compressor(&buffer[..got]) {
                Some("gunzip") => media_type::OCI_LAYER_GZIP,
                Some("unzstd") => media_type::OCI_LAYER_ZSTD,
                _ => media_type::OCI_LAYER_TAR,
            }));
        }
        let descriptor = Descriptor {
            annotations: BTreeMap::new(),
            artifact_type: None,
            digest: hasher.finish(),
            media_type: media_type.unwrap_or(media_type::OCI_LAYER_TAR).into(),
            platform: None,
            size: span.len,
            urls: Vec::new(),
        };
        known.insert(span, descriptor.clone());
        blobs.insert(descriptor.digest.clone(), span);
        Ok(descriptor)
    }

    /// A file by name; `docker save` writes a layer that several images share as a symbolic link to the
    /// first.
    fn find(&self, name: &str) -> Option<Span> {
        let name = tape::clean(name);
        if let Some(span) = self.contents.files.get(&name) {
            return Some(*span);
        }
        let link = self.contents.links.get(&name)?;
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.contents.files.get(&tape::clean(&format!("{folder}/{link}"))).copied()
    }

    fn reader(&self, span: Span) -> BlobReader {
        BlobReader { bytes: Bytes::File(self.file.clone()), at: span.offset, left: span.len }
    }
}

fn roots(index: ImageIndex) -> Vec<Root> {
    let named = |descriptor: &Descriptor| {
        ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
            .into_iter()
            .find_map(|key| descriptor.annotations.get(key).cloned())
    };
    index.manifests.into_iter().map(|descriptor| Root { name: named(&descriptor), descriptor }).collect()
}

fn document<T: DeserializeOwned>(
    path: &Path,
    name: &str,
    reader: impl Read,
    limit: u64,
) -> Result<T, LayoutError> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(LayoutError::read(path))?;
    if bytes.len() as u64 > limit {
        return Err(LayoutError::damaged(path, format!("{name} is larger than {limit} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|error| LayoutError::damaged(path, format!("{name}: {error}")))
}

/// Opens a file below `folder`, and not one that a symbolic link reaches outside of it.
fn open_within(folder: &Path, name: &str) -> io::Result<File> {
    let path = fs::canonicalize(folder.join(name))?;
    if !path.starts_with(folder) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "a symbolic link leads out of the layout",
        ));
    }
    if !fs::metadata(&path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
    }
    File::open(path)
}

/// The program that undoes the compression that `bytes` begin with.
fn compressor(bytes: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 4] = [
        (b"\x1f\x8b", "gunzip"),
        (b"\x28\xb5\x2f\xfd", "unzstd"),
        (b"\xfd7zXZ\0", "unxz"),
        (b"BZh", "bunzip2"),
    ];
    MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, hint)| *hint)
}
