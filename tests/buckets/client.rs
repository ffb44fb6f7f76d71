//! A client of one registry, which may be several replicas: each request goes to the next one.

use std::sync::atomic::{AtomicUsize, Ordering};

use quinistry::oci::{Descriptor, Digest};

use crate::support::http::{Answer, Peer, request};
use crate::support::images::Image;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Way to push a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// POST, then PUT with all bytes, as containerd does.
    Put,
    /// POST, PATCH with all bytes, then an empty PUT, as Docker does.
    Patch,
    /// POST, PATCH in chunks of this many bytes, then an empty PUT.
    Chunks(usize),
}

/// Repository of a registry.
#[derive(Debug)]
pub(crate) struct Client {
    replicas: Vec<Peer>,
    next: AtomicUsize,
    name: String,
}

impl Client {
    pub(crate) fn new(replicas: &[Peer], name: &str) -> Self {
        Self { replicas: replicas.to_vec(), next: AtomicUsize::new(0), name: name.to_owned() }
    }

    /// Makes a client of the registry at `host:port`.
    pub(crate) fn at(host: &str, name: &str) -> Self {
        Self::new(&[Peer(host.parse().unwrap())], name)
    }

    /// Returns the replica for the next request.
    pub(crate) fn peer(&self) -> Peer {
        self.replicas[self.next.fetch_add(1, Ordering::Relaxed) % self.replicas.len()]
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.name)
    }

    pub(crate) fn ask(&self, method: &str, rest: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.peer().ask(method, &self.path(rest), headers, body)
    }

    pub(crate) fn head(&self, rest: &str) -> Answer {
        self.ask("HEAD", rest, &[], b"")
    }

    /// Begins an upload, and returns the target of its requests.
    #[track_caller]
    pub(crate) fn begin(&self) -> String {
        let answer = self.ask("POST", "blobs/uploads/", &[("Content-Length", "0")], b"");
        assert_eq!(answer.status, 202, "{answer:?}");
        target(answer.header("location").unwrap())
    }

    /// Sends a chunk to an upload, and returns the answer.
    pub(crate) fn patch(&self, at: &str, start: usize, chunk: &[u8]) -> Answer {
        let range = format!("{start}-{}", start + chunk.len() - 1);
        let headers = [("Content-Range", &*range), ("Content-Type", "application/octet-stream")];
        self.peer().ask("PATCH", at, &headers, chunk)
    }

    /// Ends an upload, and returns the answer.
    pub(crate) fn finish(&self, at: &str, digest: &Digest, body: &[u8]) -> Answer {
        let joint = if at.contains('?') { '&' } else { '?' };
        let headers = [("Content-Type", "application/octet-stream"), ("Content-Length", "0")];
        let headers = if body.is_empty() { &headers[..] } else { &headers[..1] };
        self.peer().ask("PUT", &format!("{at}{joint}digest={digest}"), headers, body)
    }

    #[track_caller]
    pub(crate) fn push_blob(&self, way: Way, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let mut at = self.begin();
        let length = match way {
            Way::Put => {
                let answer = self.finish(&at, &digest, bytes);
                assert_eq!(answer.status, 201, "{answer:?}");
                return digest;
            }
            Way::Patch => bytes.len().max(1),
            Way::Chunks(length) => length,
        };
        let mut start = 0;
        for chunk in bytes.chunks(length) {
            let answer = self.patch(&at, start, chunk);
            assert_eq!(answer.status, 202, "{answer:?}");
            start += chunk.len();
            at = target(answer.header("location").unwrap());
        }
        let answer = self.finish(&at, &digest, b"");
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }

    pub(crate) fn put_manifest(&self, reference: &str, bytes: &[u8]) -> Answer {
        self.ask("PUT", &format!("manifests/{reference}"), &[("Content-Type", MANIFEST)], bytes)
    }

    /// Pushes an image with all its blobs.
    #[track_caller]
    pub(crate) fn push(&self, way: Way, tag: &str, image: &Image) {
        for (_, bytes) in image.blobs() {
            self.push_blob(way, bytes);
        }
        let answer = self.put_manifest(tag, &image.manifest);
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    /// Returns a blob; a redirect is followed.
    #[track_caller]
    pub(crate) fn blob(&self, blob: &Descriptor) -> Vec<u8> {
        let answer = self.ask("GET", &format!("blobs/{}", blob.digest), &[], b"");
        let answer = if answer.status == 307 { follow(answer.header("location").unwrap()) } else { answer };
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// Pulls an image with all its blobs, and compares the bytes.
    #[track_caller]
    pub(crate) fn assert_image(&self, reference: &str, image: &Image) {
        let answer = self.ask("GET", &format!("manifests/{reference}"), &[("Accept", MANIFEST)], b"");
        assert_eq!((answer.status, &answer.body), (200, &image.manifest), "{answer:?}");
        assert_eq!(answer.header("docker-content-digest"), Some(image.digest().as_str()));
        for (descriptor, bytes) in image.blobs() {
            assert!(self.blob(descriptor) == *bytes, "{reference}: {} has other bytes", descriptor.digest);
            assert_eq!(self.head(&format!("blobs/{}", descriptor.digest)).status, 200);
        }
    }

    #[track_caller]
    pub(crate) fn delete(&self, rest: &str) {
        let answer = self.ask("DELETE", rest, &[], b"");
        assert_eq!(answer.status, 202, "{answer:?}");
    }

    /// Returns all tags, by pages of `n`; that no page but the last is short, the caller must check.
    #[track_caller]
    pub(crate) fn tags(&self, n: usize) -> Vec<String> {
        self.pages(&self.path(&format!("tags/list?n={n}")), "tags")
    }

    /// Returns all repositories.
    #[track_caller]
    pub(crate) fn catalog(&self, n: usize) -> Vec<String> {
        self.pages(&format!("/v2/_catalog?n={n}"), "repositories")
    }

    #[track_caller]
    fn pages(&self, first: &str, member: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut next = Some(first.to_owned());
        while let Some(page) = next {
            let answer = self.peer().ask("GET", &page, &[], b"");
            assert_eq!(answer.status, 200, "{answer:?}");
            let more: Option<Vec<String>> = serde_json::from_value(answer.json()[member].clone()).unwrap();
            names.extend(more.unwrap_or_default());
            next = answer.header("link").map(|link| target(link.split(['<', '>']).nth(1).unwrap()));
        }
        names
    }
}

/// Returns path and query of a location, which may be absolute.
pub(crate) fn target(location: &str) -> String {
    let behind_scheme = location.split_once("://").map(|(_, rest)| rest);
    let path = behind_scheme.and_then(|rest| rest.find('/').map(|at| rest[at..].to_owned()));
    path.unwrap_or_else(|| location.to_owned())
}

/// Sends a GET to another server.
#[track_caller]
pub(crate) fn follow(url: &str) -> Answer {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, _) = rest.split_once('/').unwrap();
    let mut connection = Peer(host.parse().unwrap()).connect();
    // The host is part of the signature.
    let text = String::from_utf8(request("GET", &target(url), &[], b"")).unwrap();
    connection.ask(text.replace("registry.test", host).as_bytes())
}
