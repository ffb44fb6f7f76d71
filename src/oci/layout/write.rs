//! Writes images into a layout folder or an archive; all or nothing.
//!
//! Everything goes into a temporary place beside the destination and is renamed by [`Writer::finish`].
//! Several blobs may be written at once, each into the part of the archive that was set aside when it was
//! begun; an archive that goes to a pipe is written front to back, one blob after the other. The same calls
//! give the same bytes: ustar, owner root, time zero, blobs in the order in which they were begun. Does not
//! look into what it writes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::{Descriptor, Digest, Hasher, ImageReference, media_type, to_json};

use super::docker::{DockerImage, DockerIndexEntry};
use super::place::{Handle, Out, Staging};
use super::{DOCKER_INDEX, INDEX, LayoutError, MARKER, MARKER_CONTENT, MAX_JSON, blob_path, tape};

/// The full name, where containerd, nerdctl and podman look first.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// The tag, which `skopeo` matches in `oci:folder:tag`, and containerd writes the same way.
const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// One file or a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One tar file: an OCI layout with Docker's `manifest.json` beside it.
    Archive,
    /// A folder: an OCI layout.
    OciLayout,
}

/// Destination of a layout or archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file or a folder.
    Path(PathBuf),
    /// Standard output; archives only.
    Stdout,
}

impl Target {
    /// `-` is standard output, everything else a path.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text == "-" { Self::Stdout } else { Self::Path(text.into()) }
    }

    /// Checks that an archive can be written there, and leaves nothing behind.
    pub fn check_archive(&self) -> Result<(), LayoutError> {
        match self {
            Self::Stdout => Ok(()),
            Self::Path(path) => Out::check(path),
        }
    }
}

/// An image whose blobs have all been added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedImage {
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// Its full name, such as `localhost:8080/quinistry:latest`.
    pub name: Option<String>,
    /// Blobs that Docker needs; `None` for indexes and artifacts, which Docker cannot load.
    pub docker: Option<DockerImage>,
}

/// Writes one layout or archive. Dropped without [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    sink: Sink,
    /// For messages.
    name: Arc<str>,
    begun: BTreeSet<Digest>,
    /// Number of blobs that were begun and not finished.
    unfinished: Arc<AtomicUsize>,
    ref_names: RefNames,
}

/// Form of the names in `org.opencontainers.image.ref.name`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefNames {
    /// Tags alone, which `skopeo` and containerd look for. Enough where all images are versions of one.
    #[default]
    Tags,
    /// Full references, which tell images of different repositories apart.
    Full,
}

#[derive(Debug)]
enum Sink {
    Archive(ArchiveSink),
    Folder(Staging),
}

/// An archive, filled from its beginning.
#[derive(Debug)]
struct ArchiveSink {
    out: Out,
    handle: Handle,
    /// Offset of what is added next.
    end: u64,
    folders: BTreeSet<String>,
}

// === impl Writer ===

impl Writer {
    /// Begins to write. An existing archive is replaced when [`finish`](Self::finish) succeeds; an existing
    /// OCI layout gets the new images added, replacing those of the same name; any other folder that is not
    /// empty is refused.
    pub fn create(target: Target, format: Format) -> Result<Self, LayoutError> {
        let (sink, name) = match (target, format) {
            (Target::Stdout, Format::OciLayout) => return Err(LayoutError::LayoutToStdout),
            (Target::Stdout, Format::Archive) => {
                let name = String::from("standard output");
                (Out::stdout().and_then(ArchiveSink::sink).map_err(failed(&name))?, name)
            }
            (Target::Path(path), Format::Archive) => {
                let name = path.display().to_string();
                (ArchiveSink::sink(Out::open(&path)?).map_err(failed(&name))?, name)
            }
            (Target::Path(path), Format::OciLayout) => {
                let staging = Staging::open(&path)?;
                if staging.exists {
                    // Now too, so that an unreadable list is found before gigabytes have been fetched.
                    existing_entries(&path)?;
                }
                (Sink::Folder(staging), path.display().to_string())
            }
        };
        let (name, begun) = (name.into(), BTreeSet::new());
        let mut writer =
            Self { sink, name, begun, unfinished: Arc::default(), ref_names: RefNames::default() };
        // First, so that a reader of the first bytes sees what this is.
        writer.put(MARKER, MARKER_CONTENT)?;
        Ok(writer)
    }

    /// Sets the form of the images' names.
    #[must_use]
    pub fn with_ref_names(self, ref_names: RefNames) -> Self {
        Self { ref_names, ..self }
    }

    /// Returns whether a blob was begun by this writer.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.begun.contains(digest)
    }

    /// Returns the number of blobs that can be written at the same time: one, if the bytes go to a pipe or a
    /// device.
    #[must_use]
    pub const fn concurrency(&self) -> usize {
        match &self.sink {
            Sink::Archive(archive) if archive.handle.is_stream => 1,
            _ => usize::MAX,
        }
    }

    /// Adds a blob that is in memory. Its length and digest are checked.
    pub fn add_blob(&mut self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), LayoutError> {
        let mut blob = self.begin_blob(descriptor)?;
        blob.append(bytes)?;
        blob.finish()
    }

    /// Begins a blob that comes piece by piece. One that was begun before is checked again but not written
    /// twice. Blobs may be written at once, as many as [`concurrency`](Self::concurrency) says.
    pub fn begin_blob(&mut self, descriptor: &Descriptor) -> Result<BlobWriter, LayoutError> {
        if self.concurrency() == 1 && self.unfinished.load(Ordering::Relaxed) > 0 {
            return Err(LayoutError::Unfinished);
        }
        let path = blob_path(&descriptor.digest);
        let place = match &mut self.sink {
            _ if self.begun.contains(&descriptor.digest) => BlobDestination::Known,
            Sink::Archive(archive) => {
                let at = archive.begin_file(&path, descriptor.size).map_err(failed(&self.name))?;
                BlobDestination::Archive(archive.handle.clone(), at)
            }
            Sink::Folder(staging) => {
                BlobDestination::File(staging.create_file(&path).map_err(failed(&self.name))?)
            }
        };
        self.begun.insert(descriptor.digest.clone());
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        Ok(BlobWriter {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            taken: 0,
            hasher: Hasher::new(descriptor.digest.algorithm()),
            place,
            name: self.name.clone(),
            unfinished: self.unfinished.clone(),
        })
    }

    /// Writes the lists of images, syncs, and puts everything in its place.
    pub fn finish(mut self, images: &[SavedImage]) -> Result<(), LayoutError> {
        if self.unfinished.load(Ordering::Relaxed) > 0 {
            return Err(LayoutError::Unfinished);
        }
        let kept = match &self.sink {
            Sink::Folder(staging) if staging.exists => existing_entries(&staging.destination)?,
            _ => Vec::new(),
        };
        self.put(INDEX, &index(kept, images, self.ref_names))?;
        if let Sink::Archive(_) = self.sink {
            let entries: Vec<_> = images
                .iter()
                .filter_map(|image| {
                    image.docker.as_ref().map(|docker| DockerIndexEntry::new(docker, image.name.as_deref()))
                })
                .collect();
            if !entries.is_empty() {
                self.put(DOCKER_INDEX, &to_json(&entries))?;
            }
        }
        let result = match self.sink {
            Sink::Archive(archive) => archive.finish(),
            Sink::Folder(staging) => staging.finish(),
        };
        result.map_err(failed(&self.name))
    }

    fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), LayoutError> {
        let result = match &mut self.sink {
            Sink::Archive(archive) => archive
                .begin_file(path, bytes.len() as u64)
                .and_then(|at| fill(&archive.handle, bytes, at, at + bytes.len() as u64)),
            Sink::Folder(staging) => staging.create_file(path).and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            }),
        };
        result.map_err(failed(&self.name))
    }
}

fn failed(name: &str) -> impl FnOnce(io::Error) -> LayoutError {
    let path = name.to_owned();
    |source| LayoutError::Write { path, source }
}

// === impl ArchiveSink ===

impl ArchiveSink {
    fn sink(out: Out) -> io::Result<Sink> {
        let handle = out.handle()?;
        Ok(Sink::Archive(Self { out, handle, end: 0, folders: BTreeSet::new() }))
    }

    /// Writes the headers of a file and sets its place aside; returns the offset of its first byte.
    fn begin_file(&mut self, path: &str, size: u64) -> io::Result<u64> {
        let mut headers = Vec::new();
        for (end, _) in path.match_indices('/') {
            let folder = &path[..=end];
            if self.folders.insert(folder.into()) {
                headers.extend(tape::folder_header(folder));
            }
        }
        headers.extend(tape::file_header(path, size));
        let start = self.end + headers.len() as u64;
        let end = start.checked_add(size).and_then(|end| end.checked_add(tape::padding(size) as u64));
        // The largest offset that files have.
        let end = end.filter(|end| i64::try_from(*end).is_ok()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.handle.write_all_at(&headers, self.end)?;
        self.end = end;
        Ok(start)
    }

    fn finish(self) -> io::Result<()> {
        self.handle.write_all_at(&[0; 1024], self.end)?;
        self.out.finish()
    }
}

/// Writes the last bytes of a file and what fills it up to whole blocks. `end` is where the file itself ends.
fn fill(handle: &Handle, bytes: &[u8], at: u64, end: u64) -> io::Result<()> {
    handle.write_all_at(bytes, at)?;
    // Archives begin with whole blocks, so offsets and lengths need the same filling.
    handle.write_all_at(&[0; 512][..tape::padding(end)], end)
}

/// The images of a layout that is added to, as they are written there: fields unknown here are kept.
fn existing_entries(folder: &Path) -> Result<Vec<Value>, LayoutError> {
    let path = folder.join(INDEX);
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(meta) if meta.len() > MAX_JSON => {
            return Err(LayoutError::damaged(folder, "index.json is too large"));
        }
        _ => {}
    }
    let bytes = fs::read(&path).map_err(LayoutError::read(&path))?;
    let mut document: Value = serde_json::from_slice(&bytes)
        .map_err(|error| LayoutError::damaged(folder, format!("index.json: {error}")))?;
    match document["manifests"].take() {
        Value::Array(entries) => Ok(entries),
        Value::Null => Ok(Vec::new()),
        _ => Err(LayoutError::damaged(folder, "index.json: 'manifests' is not a list")),
    }
}

/// `index.json`: `kept` without what has the name or, if nameless, the digest of a new image; then the new.
fn index(kept: Vec<Value>, images: &[SavedImage], ref_names: RefNames) -> Vec<u8> {
    let mut entries = kept;
    for image in images {
        let mut descriptor = image.descriptor.clone();
        if let Some(name) = &image.name {
            descriptor.annotations.insert(NAME_ANNOTATION.into(), name.clone());
            let ref_name = match ref_names {
                RefNames::Full => Some(name.clone()),
                RefNames::Tags => {
                    name.parse::<ImageReference>().ok().and_then(|name| name.tag().map(ToString::to_string))
                }
            };
            if let Some(ref_name) = ref_name {
                descriptor.annotations.insert(REF_ANNOTATION.into(), ref_name);
            }
        }
        let new = serde_json::to_value(&descriptor).expect("a descriptor is strings, numbers and maps");
        entries.retain(|old| !is_same(old, &new));
        entries.push(new);
    }
    to_json(&json!({"manifests": entries, "mediaType": media_type::OCI_INDEX, "schemaVersion": 2}))
}

/// Returns true if two entries of `index.json` claim one name: by full name if both have one, else by tag if
/// both have one; nameless entries are equal if they point at the same content.
fn is_same(old: &Value, new: &Value) -> bool {
    let (old_notes, new_notes) = (&old["annotations"], &new["annotations"]);
    for key in [NAME_ANNOTATION, REF_ANNOTATION] {
        if let (Value::String(old), Value::String(new)) = (&old_notes[key], &new_notes[key]) {
            return old == new;
        }
    }
    let nameless = |notes: &Value| notes[NAME_ANNOTATION].is_null() && notes[REF_ANNOTATION].is_null();
    nameless(old_notes) && nameless(new_notes) && old["digest"] == new["digest"]
}

/// A blob being written. Once begun, it must be [finished](Self::finish), or the writer cannot be.
#[derive(Debug)]
pub struct BlobWriter {
    digest: Digest,
    size: u64,
    taken: u64,
    hasher: Hasher,
    place: BlobDestination,
    /// Name of the layout or archive, for messages.
    name: Arc<str>,
    unfinished: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum BlobDestination {
    /// Written by another [`BlobWriter`].
    Known,
    File(File),
    /// A part of an archive, from the offset on.
    Archive(Handle, u64),
}

// === impl BlobWriter ===

impl BlobWriter {
    /// Takes the next bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        let taken = self.taken + bytes.len() as u64;
        if taken > self.size {
            self.taken = taken;
            return Err(self.wrong_size());
        }
        self.hasher.update(bytes);
        let result = match &mut self.place {
            BlobDestination::Known => Ok(()),
            BlobDestination::File(file) => file.write_all(bytes),
            BlobDestination::Archive(handle, at) => handle.write_all_at(bytes, *at + self.taken),
        };
        self.taken = taken;
        result.map_err(failed(&self.name))
    }

    /// Checks length and digest, and makes the blob part of the layout.
    pub fn finish(self) -> Result<(), LayoutError> {
        if self.taken != self.size {
            return Err(self.wrong_size());
        }
        let actual = self.hasher.finish();
        if actual != self.digest {
            return Err(LayoutError::Digest { expected: self.digest, actual });
        }
        let result = match self.place {
            BlobDestination::Known => Ok(()),
            BlobDestination::File(file) => file.sync_all(),
            BlobDestination::Archive(handle, at) => fill(&handle, b"", at, at + self.size),
        };
        result.map_err(failed(&self.name))?;
        self.unfinished.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    fn wrong_size(&self) -> LayoutError {
        LayoutError::Size {
            digest: self.digest.clone(),
            expected: self.size,
            actual: self.taken.min(self.size.saturating_add(1)),
        }
    }
}

impl io::Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
