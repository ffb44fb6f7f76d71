//! Operations of a client at which a replica dies, and what another replica must show then.

use quinistry::oci::{Descriptor, Digest};

use crate::attempt::{Attempts, Outcome};
use crate::client::{Client, Way, target};
use crate::support::images::{Image, Packing};

/// Length of the chunks of an upload, and their number: several chunks fill a part.
const CHUNK: usize = 3 << 20;
const CHUNKS: usize = 4;
/// Length of a blob of few bytes.
const SMALL: usize = 300;

/// An operation in a repository of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Upload in chunks, which goes on at another replica.
    Chunks,
    /// Upload of several parts by POST and PUT.
    Put,
    /// Upload of few bytes by POST and PUT.
    SmallPut,
    /// Upload of few bytes by POST, PATCH and PUT.
    SmallPatch,
    /// Mount of a blob of another repository.
    Mount,
    /// PUT of a manifest under a tag that means another one.
    Manifest,
    /// DELETE of a manifest that two tags mean.
    DeleteManifest,
    /// DELETE of a tag.
    DeleteTag,
    /// DELETE of a blob.
    DeleteBlob,
}

/// Steps of an operation that were answered.
#[derive(Debug)]
pub(super) struct Progress {
    /// True if each request was answered.
    pub(super) is_complete: bool,
    /// Target of an upload, and the number of bytes that are acknowledged.
    session: Option<(String, usize)>,
}

impl Operation {
    pub(super) const ALL: [Self; 9] = [
        Self::Chunks,
        Self::Put,
        Self::SmallPut,
        Self::SmallPatch,
        Self::Mount,
        Self::Manifest,
        Self::DeleteManifest,
        Self::DeleteTag,
        Self::DeleteBlob,
    ];

    /// Brings a repository into the state before the operation.
    pub(super) fn prepare(self, alive: &Client, name: &str) {
        let [before, after] = images(name);
        match self {
            Self::Chunks | Self::Put | Self::SmallPut | Self::SmallPatch => {}
            Self::Mount => drop(source(alive, name).push_blob(Way::Put, &self.bytes(name))),
            Self::Manifest => {
                alive.push(Way::Put, "tag", &before);
                for (_, bytes) in after.blobs() {
                    alive.push_blob(Way::Put, bytes);
                }
            }
            Self::DeleteManifest | Self::DeleteTag | Self::DeleteBlob => {
                alive.push(Way::Put, "kept", &before);
                alive.push(Way::Put, "tag", &after);
                assert_eq!(alive.put_manifest("second", &after.manifest).status, 201);
                alive.push_blob(Way::Put, &self.bytes(name));
            }
        }
    }

    /// Runs the operation at a replica that may die.
    pub(super) fn run(self, dying: Attempts<'_>, name: &str) -> Progress {
        let [_, after] = images(name);
        let complete = |is_complete| Progress { is_complete, session: None };
        match self {
            Self::Chunks => upload_in_chunks(dying, &self.bytes(name)),
            Self::Put | Self::SmallPut => complete(dying.push_blob(Way::Put, &self.bytes(name))),
            Self::SmallPatch => complete(dying.push_blob(Way::Patch, &self.bytes(name))),
            Self::Mount => {
                let rest = format!("blobs/uploads/?mount={}&from={name}/source", self.digest(name));
                let outcome = dying.send("POST", &dying.path(&rest), &[("Content-Length", "0")], b"");
                complete(is_answered(&outcome, 201))
            }
            Self::Manifest => complete(is_answered(&dying.put_manifest("tag", &after.manifest), 201)),
            Self::DeleteManifest | Self::DeleteTag | Self::DeleteBlob => {
                let target = dying.path(&self.deleted(name));
                complete(is_answered(&dying.send("DELETE", &target, &[], b""), 202))
            }
        }
    }

    /// Checks at another replica what the operation has left, finishes it there, and checks the end.
    pub(super) fn check(self, alive: &Client, name: &str, progress: &Progress) {
        match self {
            Self::Chunks => self.go_on(alive, name, progress),
            Self::Put | Self::SmallPut | Self::SmallPatch => {
                self.check_blob(alive, name, progress.is_complete);
                alive.push_blob(Way::Put, &self.bytes(name));
                self.check_blob(alive, name, true);
            }
            Self::Mount => {
                self.check_blob(alive, name, progress.is_complete);
                let rest = format!("blobs/uploads/?mount={}&from={name}/source", self.digest(name));
                let answer = alive.ask("POST", &rest, &[("Content-Length", "0")], b"");
                assert_eq!(answer.status, 201, "{answer:?}");
                self.check_blob(alive, name, true);
            }
            Self::Manifest => check_push(alive, name, progress.is_complete),
            Self::DeleteManifest => {
                check_removal(alive, name, progress.is_complete, &["tag", "second"], self);
            }
            Self::DeleteTag => check_removal(alive, name, progress.is_complete, &["tag"], self),
            Self::DeleteBlob => {
                let rest = self.deleted(name);
                let status = alive.head(&rest).status;
                assert!(status == 404 || (status == 200 && !progress.is_complete), "{status}");
                assert!(matches!(alive.ask("DELETE", &rest, &[], b"").status, 202 | 404));
                assert_eq!(alive.head(&rest).status, 404);
                alive.assert_image("kept", &images(name)[0]);
            }
        }
    }

    /// Bytes that no other repository has.
    fn bytes(self, name: &str) -> Vec<u8> {
        let length = if matches!(self, Self::Chunks | Self::Put) { CHUNK * CHUNKS } else { SMALL };
        name.bytes().cycle().take(length).collect()
    }

    fn digest(self, name: &str) -> Digest {
        Digest::sha256(&self.bytes(name))
    }

    /// Returns the path that a DELETE names.
    fn deleted(self, name: &str) -> String {
        match self {
            Self::DeleteManifest => format!("manifests/{}", images(name)[1].digest()),
            Self::DeleteTag => "manifests/tag".to_owned(),
            _ => format!("blobs/{}", self.digest(name)),
        }
    }

    /// Checks that a blob is there as a whole, or not at all where that is allowed.
    fn check_blob(self, alive: &Client, name: &str, must_be_there: bool) {
        let bytes = self.bytes(name);
        let blob = Descriptor::of("a/b", &bytes);
        let status = alive.head(&format!("blobs/{}", blob.digest)).status;
        assert!(status == 200 || (status == 404 && !must_be_there), "{status}");
        if status == 200 {
            assert!(alive.blob(&blob) == bytes, "other bytes");
        }
    }

    /// Goes on with an upload in chunks from what is acknowledged.
    fn go_on(self, alive: &Client, name: &str, progress: &Progress) {
        let bytes = self.bytes(name);
        let digest = self.digest(name);
        // An upload whose begin was not answered has no name.
        let Some((at, acknowledged)) = &progress.session else { return };
        let is_there = alive.head(&format!("blobs/{digest}")).status == 200;
        assert!(is_there || !progress.is_complete, "an acknowledged blob is lost");
        if !is_there {
            let shown = alive.peer().get(at);
            assert_eq!(shown.status, 204, "{name}: {shown:?}");
            let range = shown.header("range").unwrap();
            let last: usize = range.strip_prefix("0-").unwrap().parse().unwrap();
            let mut start = if last == 0 { 0 } else { last + 1 };
            assert!(start >= *acknowledged, "{acknowledged} bytes were acknowledged, {range} are there");
            while start < bytes.len() {
                let piece = &bytes[start..bytes.len().min(start + CHUNK)];
                let answer = alive.patch(at, start, piece);
                assert_eq!(answer.status, 202, "{answer:?}");
                start += piece.len();
            }
        }
        // A client whose PUT was not answered repeats it, whatever became of the first one.
        let answer = alive.finish(at, &digest, b"");
        assert_eq!(answer.status, 201, "{answer:?}");
        self.check_blob(alive, name, true);
    }
}

/// Images of a repository: the first one stays, or is what a tag means before the operation.
fn images(name: &str) -> [Image; 2] {
    ["before", "after"].map(|text| Image::new("amd64", &[&format!("{name} {text}")], Packing::Plain))
}

/// Repository that a blob is mounted from.
fn source(alive: &Client, name: &str) -> Client {
    Client::new(&[alive.peer()], &format!("{name}/source"))
}

fn is_answered(outcome: &Outcome, expected: u16) -> bool {
    let status = outcome.status();
    assert!(status.is_none_or(|status| status == expected), "{expected} is expected: {outcome:?}");
    status.is_some()
}

fn upload_in_chunks(dying: Attempts<'_>, bytes: &[u8]) -> Progress {
    let begun = dying.send("POST", &dying.path("blobs/uploads/"), &[("Content-Length", "0")], b"");
    let Outcome::Answered(begun) = begun else { return Progress { is_complete: false, session: None } };
    let at = target(begun.header("location").unwrap());
    let mut acknowledged = 0;
    for chunk in bytes.chunks(CHUNK) {
        let range = format!("{acknowledged}-{}", acknowledged + chunk.len() - 1);
        if !is_answered(&dying.send("PATCH", &at, &[("Content-Range", &range)], chunk), 202) {
            return Progress { is_complete: false, session: Some((at, acknowledged)) };
        }
        acknowledged += chunk.len();
    }
    let joint = if at.contains('?') { '&' } else { '?' };
    let end = format!("{at}{joint}digest={}", Digest::sha256(bytes));
    let is_complete = is_answered(&dying.send("PUT", &end, &[("Content-Length", "0")], b""), 201);
    Progress { is_complete, session: Some((at, acknowledged)) }
}

/// Checks that a tag means the manifest before or the one after, as a whole.
fn check_push(alive: &Client, name: &str, is_complete: bool) {
    let [before, after] = images(name);
    let shown = alive.head("manifests/tag");
    assert_eq!(shown.status, 200, "the tag is lost: {shown:?}");
    let is_after = shown.header("docker-content-digest") == Some(after.digest().as_str());
    assert!(is_after || !is_complete, "an acknowledged push is lost");
    alive.assert_image("tag", if is_after { &after } else { &before });
    assert_eq!(alive.tags(10), ["tag"]);
    assert_eq!(alive.put_manifest("tag", &after.manifest).status, 201);
    alive.assert_image("tag", &after);
    alive.assert_image(before.digest().as_str(), &before);
}

/// Checks that each tag is whole, or gone from lists too, and that the removal can be repeated.
fn check_removal(alive: &Client, name: &str, is_complete: bool, removed: &[&str], operation: Operation) {
    let [before, after] = images(name);
    let consistent = || {
        let listed = alive.tags(10);
        for tag in ["tag", "second"] {
            let status = alive.head(&format!("manifests/{tag}")).status;
            let is_listed = listed.iter().any(|listed| listed == tag);
            assert_eq!((status, is_listed), if is_listed { (200, true) } else { (404, false) }, "{tag}");
            if is_listed {
                alive.assert_image(tag, &after);
            }
        }
        alive.assert_image("kept", &before);
        listed
    };
    let left = consistent();
    let is_gone = |listed: &[String]| removed.iter().all(|tag| !listed.iter().any(|listed| listed == tag));
    assert!(!is_complete || is_gone(&left), "an acknowledged removal is undone: {left:?}");
    let again = alive.ask("DELETE", &operation.deleted(name), &[], b"");
    assert!(matches!(again.status, 202 | 404), "{again:?}");
    let left = consistent();
    assert!(is_gone(&left), "{left:?}");
    if operation == Operation::DeleteManifest {
        assert_eq!(alive.head(&format!("manifests/{}", after.digest())).status, 404);
    }
}
