//! Stores and generations as processes, and what a client does with them.

use std::time::Instant;

use quinistry::oci::{Descriptor, Digest};

use crate::support::http::{Answer, Connection, Peer, TEST_TIMEOUT, request};
use crate::support::images::{Image, Packing};
use crate::support::process::command;
use crate::support::server::{PROGRAM, Server};

/// Repository of all images.
pub(super) const REPOSITORY: &str = "ghcr.io/acme/shop";

/// Registry that clients pull from, and that asks peers.
pub(super) struct Generation(Running);

/// Registry with storage.
pub(super) struct Store(Generation);

/// Program behind an address, or another address of a program that runs elsewhere.
enum Running {
    Program(Box<Server>),
    Elsewhere(Peer),
}

/// End of a download.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Download {
    Whole(Vec<u8>),
    /// The connection ended before the announced length.
    Cut,
    Refused(u16),
}

pub(super) fn image() -> Image {
    Image::new("amd64", &["a shop, and all that is in it"], Packing::Gzip)
}

/// Returns the path of content in [`REPOSITORY`].
pub(super) fn path(kind: &str, digest: &Digest) -> String {
    format!("/v2/{REPOSITORY}/{kind}/{digest}")
}

/// Waits for a condition.
pub(super) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < TEST_TIMEOUT, "{what}");
        std::thread::yield_now();
    }
}

// === impl Generation ===

impl Generation {
    pub(super) fn start(peers: &[&str], arguments: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", peers, arguments)
    }

    pub(super) fn start_at(address: &str, peers: &[&str], arguments: &[&str]) -> Self {
        Self::start_with(&[], address, peers, arguments)
    }

    /// Starts a registry with variables in its environment.
    pub(super) fn start_with(
        variables: &[(&str, &str)],
        address: &str,
        peers: &[&str],
        arguments: &[&str],
    ) -> Self {
        let mut serve = command(PROGRAM);
        serve.args(["serve", "--listen", address]).args(arguments).envs(variables.iter().copied());
        for peer in peers {
            serve.args(["--peers", peer]);
        }
        Self(Running::Program(Box::new(Server::launch(&mut serve))))
    }

    pub(super) fn peer(&self) -> Peer {
        match &self.0 {
            Running::Program(server) => server.peer,
            Running::Elsewhere(peer) => *peer,
        }
    }

    pub(super) fn server(&self) -> &Server {
        match &self.0 {
            Running::Program(server) => server,
            Running::Elsewhere(_) => panic!("another value has the program"),
        }
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.peer().get(path)
    }

    pub(super) fn head(&self, path: &str) -> Answer {
        self.peer().head(path)
    }

    /// Downloads as far as the registry sends.
    pub(super) fn download(&self, path: &str) -> Download {
        let mut connection = self.peer().connect();
        connection.send(&request("GET", path, &[], b"")).unwrap();
        let (status, headers) = connection.head().unwrap();
        if status != 200 {
            return Download::Refused(status);
        }
        let mut bytes = Vec::new();
        match connection.body(&headers, |piece| bytes.extend_from_slice(piece)) {
            Ok(()) => Download::Whole(bytes),
            Err(_) => Download::Cut,
        }
    }

    /// Begins a download, and returns its connection and the headers of the answer.
    pub(super) fn begin_download(&self, path: &str) -> (Connection, Vec<(String, String)>) {
        let mut connection = self.peer().connect();
        connection.send(&request("GET", path, &[], b"")).unwrap();
        let (status, headers) = connection.head().unwrap();
        assert_eq!(status, 200, "{path}");
        (connection, headers)
    }

    /// Pulls an image by its digest, and compares all of its bytes.
    pub(super) fn pulls(&self, image: &Image) {
        let manifest = self.get(&path("manifests", &image.descriptor.digest));
        assert_eq!((manifest.status, &manifest.body), (200, &image.manifest));
        for (descriptor, bytes) in image.layers.iter().chain([&image.config]) {
            assert_eq!(self.download(&path("blobs", &descriptor.digest)), Download::Whole(bytes.clone()));
        }
    }
}

// === impl Store ===

impl Store {
    pub(super) fn start(arguments: &[&str]) -> Self {
        Self(Generation::start(&[], &[&["--storage", "memory"], arguments].concat()))
    }

    pub(super) fn of(generation: Generation) -> Self {
        Self(generation)
    }

    /// Returns the store at another address of a program that runs already.
    pub(super) fn at(peer: Peer) -> Self {
        Self(Generation(Running::Elsewhere(peer)))
    }

    pub(super) fn generation(&self) -> &Generation {
        &self.0
    }

    pub(super) fn address(&self) -> String {
        format!("http://{}", self.0.peer().0)
    }

    pub(super) fn push(&self, image: &Image) {
        for (_, bytes) in image.layers.iter().chain([&image.config]) {
            self.push_blob(bytes);
        }
        self.push_manifest(&image.descriptor, &image.manifest);
    }

    pub(super) fn push_blob(&self, bytes: &[u8]) {
        let digest = Digest::sha256(bytes);
        let path = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={digest}");
        let headers = [("Content-Type", "application/octet-stream")];
        assert_eq!(self.0.peer().ask("POST", &path, &headers, bytes).status, 201);
    }

    pub(super) fn push_manifest(&self, descriptor: &Descriptor, bytes: &[u8]) {
        let headers = [("Content-Type", descriptor.media_type.as_str())];
        let path = path("manifests", &descriptor.digest);
        assert_eq!(self.0.peer().ask("PUT", &path, &headers, bytes).status, 201);
    }
}
