//! Removal of what no name needs from a store while clients pull it through a generation.

use std::io::ErrorKind;

use super::super::cluster::Download;
use super::*;
use crate::support::http::{Connection, header};
use crate::support::images::tar_of;

/// Grace of collection and of names, in seconds.
const SHORT_GRACE: (&str, &str) = ("QUINISTRY_GC_MIN_GRACE", "1");

/// Length of a layer that no buffers of sockets between store and client can hold.
const LAYER_BYTES: usize = 64 << 20;

/// Bytes that a slow client reads at once.
const SLOW_BYTES: u64 = 64;

/// Client that reads a blob as slowly as it is told to.
struct SlowClient {
    connection: Connection,
    length: u64,
    bytes: Vec<u8>,
}

impl SlowClient {
    fn begin(generation: &Generation, digest: &Digest) -> Self {
        let (connection, headers) = generation.begin_download(&path("blobs", digest));
        let length = header(&headers, "content-length").unwrap().parse().unwrap();
        Self { connection, length, bytes: Vec::new() }
    }

    /// Reads a few bytes.
    fn read_some(&mut self) {
        self.read(SLOW_BYTES).unwrap();
    }

    /// Reads as far as the generation sends.
    fn read_rest(&mut self) -> std::io::Result<()> {
        while (self.bytes.len() as u64) < self.length {
            self.read(self.length)?;
        }
        Ok(())
    }

    fn read(&mut self, most: u64) -> std::io::Result<usize> {
        let most = most.min(self.length - self.bytes.len() as u64);
        self.connection.piece(most, |piece| self.bytes.extend_from_slice(piece))
    }
}

#[test]
fn a_pull_that_has_begun_ends_whole_or_is_cut_when_its_image_is_removed() {
    let (names, folder) = (Names::new(), tempfile::tempdir().unwrap());
    let storage = folder.path().join("store");
    let large: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(LAYER_BYTES).collect();
    let (large, shared) = (tar_of("large", &large), tar_of("shared", b"of both versions"));
    let old = Image::of_tars("amd64", &[large, shared.clone()], Packing::Plain);
    let new = Image::of_tars("amd64", &[tar_of("small", b"a new version"), shared], Packing::Plain);
    let (layer, bytes) = &old.layers[0];

    // The store asks itself, as the only one behind the address of a service does.
    let address = reserved_address();
    let own_address = format!("http://{address}");
    let root = storage.to_str().unwrap();
    let store = Keeper::start_with(&[SHORT_GRACE], address, root, &own_address, &names);
    let name = |tag: &str| format!("{REPOSITORY}:{tag}");
    store.pushes.push(&old);
    store.has_all(&names.write(&[(&name("1.0"), &old.descriptor.digest)], &[]));
    store.pushes.push(&new);
    let both = [(&*name("1.0"), &old.descriptor.digest), (&*name("1.1"), &new.descriptor.digest)];
    store.has_all(&names.write(&both, &[]));
    let file = names.file();
    let generation = Generation::start(&[&own_address], &["--names", file.to_str().unwrap()]);
    let [mut patient, mut late] = [(); 2].map(|()| SlowClient::begin(&generation, &layer.digest));

    // The new version makes the old one unneeded. All that the new one needs is served at each moment.
    store.has_all(&names.write(&both[1..], &[]));
    let hex = layer.digest.hex();
    let stored = storage.join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
    until("the old version is removed", || {
        generation.pulls(&new);
        patient.read_some();
        late.read_some();
        !stored.exists()
    });
    assert!(patient.bytes.len() < LAYER_BYTES / 2, "the pull was over before the removal");
    let by_tag = generation.get(&format!("/v2/{REPOSITORY}/manifests/1.1"));
    assert_eq!((by_tag.status, &by_tag.body), (200, &new.manifest));
    for (blob, _) in [&old.layers[0], &old.config] {
        assert_eq!(store.own(&path("blobs", &blob.digest)), 404);
    }

    // The store sends what it has opened.
    patient.read_rest().unwrap();
    assert!(patient.bytes == *bytes, "the pull is whole, and wrong");

    // A pull whose connection to the store breaks cannot go on, and does not end as if it were whole.
    drop(store);
    let store = Keeper::start_with(&[SHORT_GRACE], address, root, &own_address, &names);
    let error = late.read_rest().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    assert!(late.bytes.len() < bytes.len() && bytes.starts_with(&late.bytes), "the part of a pull is wrong");
    until("the old version is not found", || {
        generation.download(&path("blobs", &layer.digest)) == Download::Refused(404)
    });
    generation.get(&path("manifests", &old.descriptor.digest)).assert_refused(404, "MANIFEST_UNKNOWN");
    generation.pulls(&new);
    store.main.pulls(&new);
}
