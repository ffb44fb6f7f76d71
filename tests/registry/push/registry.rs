//! A registry to push to, and a client that says what it pushes.

use std::path::Path;
use std::time::Instant;

use quinistry::oci::{Algorithm, Digest};
use quinistry::registry::{Limits, Settings, State};
use quinistry::store::{Access, Filesystem, Memory, OpenError, Store};
use serde_json::{Value, json};

use crate::support::http::{Answer, Connection, Peer, TEST_TIMEOUT, request};
use crate::support::in_process::{InProcess, QUINE};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry with the built-in repository and an empty store.
pub(crate) struct Registry {
    pub(crate) peer: Peer,
    store: Store,
    _running: InProcess,
    folder: Option<tempfile::TempDir>,
}

impl Registry {
    pub(crate) fn on(store: Store, options: Settings, folder: Option<tempfile::TempDir>) -> Self {
        let state = State::new(&QUINE).with_store(store.clone(), options);
        let running = InProcess::serving(state, Limits::default());
        Self { peer: running.peer, store, _running: running, folder }
    }

    pub(crate) fn in_memory() -> Self {
        Self::on(Store::open(Memory::new(256 << 20), false).unwrap(), Settings::default(), None)
    }

    pub(crate) fn on_disk() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap())
    }

    /// On a disk that flushes at once, if there is one: races come up there that flushing keeps apart
    /// elsewhere.
    pub(crate) fn on_a_quick_disk() -> Self {
        Self::in_folder(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn in_folder(folder: tempfile::TempDir) -> Self {
        Self::on(store_in(folder.path()), Settings::default(), Some(folder))
    }

    /// The store of the registry.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The folder of one on a disk.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    pub(crate) fn repository(&self, name: &str) -> Repository {
        Repository { peer: self.peer, name: name.into() }
    }
}

/// A store on a folder that may be opened again.
pub(crate) fn store_in(folder: &Path) -> Store {
    Store::open(Filesystem::open(folder, Access::Write).unwrap(), false).unwrap()
}

/// Opens a store on a folder that a registry is about to give up: a registry that was dropped ends on a
/// thread of its own.
pub(crate) fn store_once_free(folder: &Path) -> Store {
    let begun = Instant::now();
    let storage = loop {
        match Filesystem::open(folder, Access::Write) {
            Err(OpenError::InUse(_)) if begun.elapsed() < TEST_TIMEOUT => std::thread::yield_now(),
            opened => break opened.unwrap(),
        }
    };
    Store::open(storage, false).unwrap()
}

/// Runs a test on each kind of storage.
pub(crate) fn on_each(test: impl Fn(&Registry)) {
    test(&Registry::in_memory());
    test(&Registry::on_disk());
}

/// A repository of a registry.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    pub(crate) peer: Peer,
    pub(crate) name: String,
}

impl Repository {
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.name)
    }

    pub(crate) fn ask(&self, method: &str, rest: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.peer.ask(method, &self.path(rest), headers, body)
    }

    pub(crate) fn get(&self, rest: &str) -> Answer {
        self.ask("GET", rest, &[], b"")
    }

    /// Opens a session, and says where.
    #[track_caller]
    pub(crate) fn begin(&self) -> String {
        let answer = self.ask("POST", "blobs/uploads/", &[("Content-Length", "0")], b"");
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.header("location").unwrap().to_owned()
    }

    /// Begins a chunk of that length: when this returns the registry is at the session, and waits for its
    /// bytes.
    #[track_caller]
    pub(crate) fn begin_chunk(&self, at: &str, length: usize) -> Connection {
        let length = length.to_string();
        let headers = [("Content-Length", &*length), ("Expect", "100-continue")];
        let mut connection = self.peer.connect();
        let answer = connection.ask(&request("PATCH", at, &headers, b""));
        assert_eq!(answer.status, 100, "{answer:?}");
        connection
    }

    /// Pushes a blob in one request.
    #[track_caller]
    pub(crate) fn push_blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let none: &[(&str, &str)] = &[("Content-Length", "0")];
        let headers = if bytes.is_empty() { none } else { &[] };
        let answer = self.ask("POST", &format!("blobs/uploads/?digest={digest}"), headers, bytes);
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }

    #[track_caller]
    pub(crate) fn assert_blob(&self, digest: &Digest, bytes: &[u8]) {
        let answer = self.get(&format!("blobs/{digest}"));
        assert_eq!((answer.status, &answer.body[..]), (200, bytes));
        assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
        let head = self.ask("HEAD", &format!("blobs/{digest}"), &[], b"");
        assert_eq!(head.header("content-length"), Some(&*bytes.len().to_string()));
    }

    pub(crate) fn put_manifest(&self, reference: &str, media_type: &str, bytes: &[u8]) -> Answer {
        self.ask("PUT", &format!("manifests/{reference}"), &[("Content-Type", media_type)], bytes)
    }

    /// Pushes a manifest with its configuration and layers.
    #[track_caller]
    pub(crate) fn push_image(&self, reference: &str, layers: &[&[u8]]) -> (Digest, Vec<u8>) {
        let bytes = self.image(layers, &json!({}));
        let answer = self.put_manifest(reference, MANIFEST, &bytes);
        assert_eq!(answer.status, 201, "{answer:?}");
        (Digest::sha256(&bytes), bytes)
    }

    /// An image whose blobs are pushed, with members of its own.
    #[track_caller]
    pub(crate) fn image(&self, layers: &[&[u8]], more: &Value) -> Vec<u8> {
        let config = self.push_blob(b"{}");
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
            "layers": layers.iter().map(|layer| json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": self.push_blob(layer),
                "size": layer.len(),
            })).collect::<Vec<_>>(),
        });
        let members = more.as_object().unwrap().clone();
        manifest.as_object_mut().unwrap().extend(members);
        serde_json::to_vec(&manifest).unwrap()
    }

    #[track_caller]
    pub(crate) fn assert_manifest(&self, reference: &str, digest: &Digest, bytes: &[u8]) {
        // We do not care; distribution gives nothing that was not asked for.
        let answer = self.ask("GET", &format!("manifests/{reference}"), &[("Accept", MANIFEST)], b"");
        assert_eq!((answer.status, &answer.body[..]), (200, bytes));
        assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
    }

    pub(crate) fn tags(&self) -> Vec<String> {
        let answer = self.get("tags/list");
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_value(answer.json()["tags"].clone()).unwrap()
    }
}

pub(crate) fn sha512(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha512, bytes)
}
