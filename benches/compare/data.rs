//! Equal data for all peers, a copy for each, written as plain files so that no peer's way of pushing affects
//! the comparison. The data stays for the next run, since removing so many files takes longer than writing
//! them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use quinistry::oci::Digest;

use super::content::{CONFIG, GeneratedBlob, Pattern, manifest, referrer};
use super::options::Options;
use super::peers::Peer;
use super::support::connection::Connection;
use super::support::process::Process;

/// Repository of one image with large and small layers.
pub(crate) const IMAGE: &str = "image";
/// Repository of one image with many tags.
pub(crate) const TAGS: &str = "tags";
/// Repository of one image with many referrers.
pub(crate) const REFERRERS: &str = "referrers";

/// Version of the data, raised with every change to what is written.
const DATA_VERSION: u32 = 1;

/// Size of a layer like our own, in bytes.
const OWN_LAYER_BYTES: usize = 12_000_000;

/// Size of the layer of all images in a growing store, in bytes.
const SMALL_LAYER_BYTES: usize = 64;

/// Data that the peers serve.
#[derive(Debug)]
pub(crate) struct PeerData {
    dir: PathBuf,
    pattern: Pattern,
    /// Layers of 1 KB, 1 MB, 100 MB, and of the size of our own.
    pub(crate) layers: Vec<GeneratedBlob>,
    pub(crate) image: Vec<u8>,
    tags: usize,
    referrers: usize,
}

impl PeerData {
    /// Describes the data; `folder` writes it when a peer needs it.
    pub(crate) fn new(options: &Options) -> Self {
        let pattern = Pattern::new();
        let sizes = [1_000, 1_000_000, options.scaled(100_000_000), OWN_LAYER_BYTES];
        let layers: Vec<GeneratedBlob> =
            (0..).zip(sizes).map(|(number, size)| pattern.blob(size, number)).collect();
        let image = manifest(&layers.iter().collect::<Vec<_>>(), 0);
        let (tags, referrers) = (options.scaled(10_000), options.scaled(1_000));
        let dir = options.dir.join(format!("data-{DATA_VERSION}-{}", options.scale));
        Self { dir, pattern, layers, image, tags, referrers }
    }

    pub(crate) fn tags(&self) -> usize {
        self.tags
    }

    pub(crate) fn referrers(&self) -> usize {
        self.referrers
    }

    /// Returns the folder of a peer, and writes the folder if it does not exist.
    pub(crate) fn folder(&self, peer: Peer) -> PathBuf {
        self.written(peer.name(), |folder| match peer {
            Peer::Nginx => self.write_urls(folder),
            Peer::Crane => self.write_blobs(folder),
            _ => self.write_store(&StoreFolder::new(folder)),
        })
    }

    /// Returns the folder of a store with `count` images in one repository, for all peers that share the
    /// layout.
    pub(crate) fn grown(&self, repository: &str, count: usize) -> PathBuf {
        self.written(&format!("grown-{count}"), |folder| self.write_images(folder, repository, count))
    }

    /// Returns an image of the growing store.
    pub(crate) fn grown_image(&self, number: usize) -> Vec<u8> {
        manifest(&[&self.pattern.blob(SMALL_LAYER_BYTES, 0)], number as u64)
    }

    /// Writes a folder completely, unless an earlier run did.
    fn written(&self, name: &str, write: impl FnOnce(&Path)) -> PathBuf {
        let folder = self.dir.join(name);
        let complete = self.dir.join(format!("{name}.whole"));
        if !complete.exists() {
            eprintln!("writing {}", folder.display());
            // Remains of an interrupted run.
            let _ = fs::remove_dir_all(&folder);
            write(&folder);
            flush(&folder);
            File::create(&complete).unwrap();
        }
        folder
    }

    /// Starts a peer on its folder.
    pub(crate) fn serve(&self, peer: Peer, options: &Options) -> Process {
        let server = peer.start(&options.quinistry, &self.folder(peer));
        if peer == Peer::Crane {
            self.push_manifests(&mut server.connect());
        }
        server
    }

    fn write_store(&self, layout: &StoreFolder) {
        layout.blob(CONFIG);
        for blob in &self.layers {
            layout.blob_of(&blob.digest, &self.pattern.chunks(blob));
            layout.link_layer(IMAGE, &blob.digest);
        }
        for repository in [IMAGE, TAGS, REFERRERS] {
            layout.link_layer(repository, &Digest::sha256(CONFIG));
            layout.manifest(repository, &self.image, &["latest".into()]);
        }
        layout.manifest(TAGS, &self.image, &self.all_tags());
        for number in 0..self.referrers {
            layout.manifest(REFERRERS, &referrer(&self.image, number as u64), &[]);
        }
    }

    /// Writes images with a tag each.
    fn write_images(&self, folder: &Path, repository: &str, count: usize) {
        let layout = StoreFolder::new(folder);
        let layer = self.pattern.blob(SMALL_LAYER_BYTES, 0);
        let config = layout.blob(CONFIG);
        layout.blob_of(&layer.digest, &self.pattern.chunks(&layer));
        layout.link_layer(repository, &config);
        layout.link_layer(repository, &layer.digest);
        let layout = &layout;
        let write = |numbers: std::ops::Range<usize>| {
            for number in numbers {
                layout.manifest(repository, &self.grown_image(number), &[tag(number)]);
            }
        };
        // Two threads, since most of the time is spent waiting.
        std::thread::scope(|scope| {
            scope.spawn(|| write(0..count / 2));
            scope.spawn(|| write(count / 2..count));
        });
    }

    /// Writes all responses as files of the same names.
    fn write_urls(&self, folder: &Path) {
        let put = |path: String, chunks: &[&[u8]]| put(&folder.join("v2").join(path), chunks);
        let digest = Digest::sha256(&self.image);
        put(format!("{IMAGE}/manifests/latest"), &[&self.image]);
        put(format!("{IMAGE}/manifests/{digest}"), &[&self.image]);
        for blob in &self.layers {
            put(format!("{IMAGE}/blobs/{}", blob.digest), &self.pattern.chunks(blob));
        }
        let mut tags = self.all_tags();
        tags.insert(0, "latest".into());
        let list = serde_json::json!({"name": TAGS, "tags": tags}).to_string();
        put(format!("{TAGS}/tags/list"), &[list.as_bytes()]);
        let referrers = (0..self.referrers).map(|number| {
            let bytes = referrer(&self.image, number as u64);
            serde_json::json!({
                "mediaType": quinistry::oci::media_type::OCI_MANIFEST,
                "digest": Digest::sha256(&bytes).as_str(),
                "size": bytes.len(),
                "artifactType": "application/vnd.example.signature",
                "annotations": {"number": number.to_string()},
            })
        });
        let manifests: Vec<_> = referrers.collect();
        let index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": quinistry::oci::media_type::OCI_INDEX,
            "manifests": manifests,
        });
        put(format!("{REFERRERS}/referrers/{digest}"), &[index.to_string().as_bytes()]);
    }

    /// Writes crane's blobs as files named by their digests; crane keeps manifests in memory.
    fn write_blobs(&self, folder: &Path) {
        for blob in &self.layers {
            put(&folder.join("sha256").join(blob.digest.hex()), &self.pattern.chunks(blob));
        }
    }

    fn push_manifests(&self, connection: &mut Connection) {
        let put = |connection: &mut Connection, repository: &str, tag: &str| {
            let target = format!("/v2/{repository}/manifests/{tag}");
            super::push::manifest(connection, &target, &self.image);
        };
        put(connection, IMAGE, "latest");
        put(connection, TAGS, "latest");
        for tag in self.all_tags() {
            put(connection, TAGS, &tag);
        }
    }

    fn all_tags(&self) -> Vec<String> {
        (1..self.tags).map(tag).collect()
    }
}

/// Returns the name of a tag among many.
pub(crate) fn tag(number: usize) -> String {
    format!("v{number:06}")
}

/// distribution's layout, which quinistry shares.
#[derive(Debug)]
pub(crate) struct StoreFolder(PathBuf);

impl StoreFolder {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(folder.join("docker/registry/v2"))
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        self.blob_of(&digest, &[bytes]);
        digest
    }

    fn blob_of(&self, digest: &Digest, chunks: &[&[u8]]) {
        put(&self.blob_folder(digest).join("data"), chunks);
    }

    fn blob_folder(&self, digest: &Digest) -> PathBuf {
        self.0.join(format!("blobs/sha256/{}/{}", &digest.hex()[..2], digest.hex()))
    }

    fn layer_folder(&self, repository: &str, digest: &Digest) -> PathBuf {
        self.0.join(format!("repositories/{repository}/_layers/sha256/{}", digest.hex()))
    }

    fn revision_folder(&self, repository: &str, digest: &Digest) -> PathBuf {
        self.0.join(format!("repositories/{repository}/_manifests/revisions/sha256/{}", digest.hex()))
    }

    fn tag_folder(&self, repository: &str, tag: &str) -> PathBuf {
        self.0.join(format!("repositories/{repository}/_manifests/tags/{tag}"))
    }

    pub(crate) fn link_layer(&self, repository: &str, digest: &Digest) {
        put(&self.layer_folder(repository, digest).join("link"), &[digest.as_str().as_bytes()]);
    }

    pub(crate) fn manifest(&self, repository: &str, bytes: &[u8], tags: &[String]) {
        let digest = self.blob(bytes);
        let link = [digest.as_str().as_bytes()];
        put(&self.revision_folder(repository, &digest).join("link"), &link);
        for tag in tags {
            // Without the tag's index: nearly as many files again, and read only when the tag is deleted.
            put(&self.tag_folder(repository, tag).join("current/link"), &link);
        }
    }

    /// Removes an image and the layer that no other image has.
    pub(crate) fn remove(&self, repository: &str, tag: &str, manifest: &[u8], layer: &Digest) {
        let digest = Digest::sha256(manifest);
        for folder in [
            self.tag_folder(repository, tag),
            self.revision_folder(repository, &digest),
            self.layer_folder(repository, layer),
            self.blob_folder(layer),
            self.blob_folder(&digest),
        ] {
            // Images that were never pushed have no folders.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Waits until all files of a folder's filesystem are on disk.
pub(crate) fn flush(folder: &Path) {
    rustix::fs::syncfs(File::open(folder).unwrap()).unwrap();
}

fn put(path: &Path, chunks: &[&[u8]]) {
    let folder = path.parent().expect("a file lies in a folder");
    fs::create_dir_all(folder).unwrap();
    let mut file = File::create(path).unwrap();
    for chunk in chunks {
        file.write_all(chunk).unwrap();
    }
}
