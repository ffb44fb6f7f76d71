//! The process is killed at every step of a client's work, and started again: what was acknowledged is there,
//! what was not is wholly there or not at all, every byte hashes right, and the work can be done again.
//!
//! A kill does not lose what was not flushed; that each step is flushed is told by the failures of flushing,
//! next door.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use quinistry::oci::Digest;
use quinistry::registry::{Limits, Settings, State};
use quinistry::store::{Access, Filesystem, Store};
use serde_json::{Value, json};

use crate::push::registry::{INDEX, MANIFEST, Repository, sha512};
use crate::support::http::Peer;
use crate::support::in_process::InProcess;
use crate::support::process::Process;

const FOLDER: &str = "QUINISTRY_TEST_FOLDER";

/// This very program, serving a folder.
pub(crate) struct Child {
    _process: Process,
    peer: Peer,
}

impl Child {
    /// With a failpoint, or without.
    pub(crate) fn start(folder: &Path, failpoint: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "push::durability::serves_if_it_is_told_to", "--nocapture"])
            .env(FOLDER, folder);
        command.env("QUINISTRY_FAILPOINT", failpoint.unwrap_or("none"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Process::start(&mut command).unwrap();
        let lines = BufReader::new(process.child().stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| {
            line.split_once("serving at ").map(|(_, address)| address.trim().parse().unwrap())
        });
        let peer = Peer(address.expect("it serves"));
        Self { _process: process, peer }
    }

    pub(crate) fn repository(&self, name: &str) -> Repository {
        Repository { peer: self.peer, name: name.into() }
    }
}

#[test]
fn serves_if_it_is_told_to() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let storage = Filesystem::open(Path::new(&folder), Access::Write).unwrap();
    let store = Store::open(storage, false).unwrap();
    let running = InProcess::serving(State::stored(store, Settings::default()), Limits::default());
    println!("serving at {}", running.peer.0);
    std::io::stdout().flush().unwrap();
    // Until it is killed, or who started it is gone.
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Content that the registry has acknowledged, or acknowledged the deletion of, by tag or digest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acknowledged {
    blobs: BTreeMap<Digest, Option<Vec<u8>>>,
    manifests: BTreeMap<String, Option<Vec<u8>>>,
    /// Names and digests that unanswered requests are about.
    open: Vec<String>,
}

impl Acknowledged {
    /// Returns the state after a collection: a blob that was pushed may be gone, unless a tag leads to it.
    pub(crate) fn collected(mut self) -> Self {
        self.blobs.retain(|_, expected| expected.is_none());
        self
    }
}

/// A client's record of its requests and their answers.
#[derive(Debug, Default)]
pub(crate) struct Log {
    now: Acknowledged,
    /// Each state and when it was reached.
    past: Vec<(SystemTime, Acknowledged)>,
}

impl Log {
    fn begin(&mut self, what: &[&str]) {
        self.now.open = what.iter().map(ToString::to_string).collect();
        self.past.push((SystemTime::now(), self.now.clone()));
    }

    fn end(&mut self) {
        self.now.open.clear();
        self.past.push((SystemTime::now(), self.now.clone()));
    }

    /// Returns the states and when each was reached.
    pub(crate) fn past(self) -> Vec<(SystemTime, Acknowledged)> {
        self.past
    }
}

/// A client's work. It panics when the registry is gone.
pub(crate) fn run_workload(repository: &Repository, log: &mut Log) {
    for bytes in [&b"{}"[..], b"layer one", b"layer two"] {
        let digest = Digest::sha256(bytes);
        log.begin(&[digest.as_str()]);
        if bytes == b"layer two" {
            let at = repository.begin();
            assert_eq!(repository.peer.ask("PATCH", &at, &[], b"layer").status, 202);
            let end = repository.peer.ask("PUT", &format!("{at}?digest={digest}"), &[], b" two");
            assert_eq!(end.status, 201);
        } else {
            repository.push_blob(bytes);
        }
        log.now.blobs.insert(digest, Some(bytes.to_vec()));
        log.end();
    }
    let manifest = |layer: &[u8], more: Value| {
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "a/b", "digest": Digest::sha256(b"{}"), "size": 2},
            "layers": [{"mediaType": "a/c", "digest": Digest::sha256(layer), "size": layer.len()}],
        });
        manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::to_vec(&manifest).unwrap()
    };
    let put = |log: &mut Log, target: &str, also: &[&str], bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        let reference = target.split('?').next().unwrap();
        log.begin(&[&[reference, digest.as_str()], also].concat());
        let media_type = if bytes.starts_with(b"{\"manifests") { INDEX } else { MANIFEST };
        assert_eq!(repository.put_manifest(target, media_type, bytes).status, 201);
        for name in [&[reference, digest.as_str()], also].concat() {
            log.now.manifests.insert(name.into(), Some(bytes.to_vec()));
        }
        log.end();
    };
    let one = manifest(b"layer one", json!({}));
    let two = manifest(b"layer two", json!({}));
    let (one_digest, two_digest) = (Digest::sha256(&one), Digest::sha256(&two));
    put(log, "latest", &[], &one);
    put(log, "latest", &[], &two);
    let other_digest = sha512(&one);
    put(log, &format!("{other_digest}?tag=a&tag=b&tag=c"), &["a", "b", "c"], &one);
    let subject = json!({"subject": {"mediaType": MANIFEST, "digest": two_digest, "size": two.len()}});
    put(log, "signature", &[], &manifest(b"layer one", subject));

    log.begin(&["b"]);
    assert_eq!(repository.ask("DELETE", "manifests/b", &[], b"").status, 202);
    log.now.manifests.insert("b".into(), None);
    log.end();
    log.begin(&["a", "c", one_digest.as_str(), other_digest.as_str()]);
    assert_eq!(repository.ask("DELETE", &format!("manifests/{one_digest}"), &[], b"").status, 202);
    for gone in ["a", "c", one_digest.as_str(), other_digest.as_str()] {
        log.now.manifests.insert(gone.into(), None);
    }
    log.end();
    let unused = Digest::sha256(b"layer one");
    log.begin(&[unused.as_str()]);
    assert_eq!(repository.ask("DELETE", &format!("blobs/{unused}"), &[], b"").status, 202);
    log.now.blobs.insert(unused, None);
    log.end();
}

/// Asserts that acknowledged content is there, that unacknowledged content is there or not, and that all of
/// it matches its digests.
pub(crate) fn assert_consistent(repository: &Repository, log: &Acknowledged, when: &str) {
    for (digest, expected) in &log.blobs {
        let answer = repository.get(&format!("blobs/{digest}"));
        let open = log.open.contains(&digest.to_string());
        let is = (answer.status == 200).then_some(&answer.body);
        assert!(open || is == expected.as_ref(), "{when}: {digest} is {}", answer.status);
    }
    for (reference, expected) in &log.manifests {
        let answer = repository.get(&format!("manifests/{reference}"));
        let is = (answer.status == 200).then_some(&answer.body);
        let open = log.open.contains(reference);
        assert!(open || is == expected.as_ref(), "{when}: {reference} is {}", answer.status);
        assert!(matches!(answer.status, 200 | 404), "{when}: {reference} is {}", answer.status);
    }
    // Every tag leads to bytes that are what they should be, down to the layers.
    let answer = repository.get("tags/list");
    let tags: Vec<String> = serde_json::from_value(answer.json()["tags"].clone()).unwrap_or_default();
    for tag in tags {
        let answer = repository.get(&format!("manifests/{tag}"));
        assert_eq!(answer.status, 200, "{when}: {tag} means nothing");
        let digest: Digest = answer.header("docker-content-digest").unwrap().parse().unwrap();
        assert!(digest.matches(&answer.body), "{when}: {tag}");
        let manifest = answer.json();
        for part in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
            let digest: Digest = serde_json::from_value(part["digest"].clone()).unwrap();
            let blob = repository.get(&format!("blobs/{digest}"));
            // A blob that the client itself is taking away.
            let taken = log.open.contains(&digest.to_string()) || log.blobs.get(&digest) == Some(&None);
            assert!(taken || blob.status == 200 && digest.matches(&blob.body), "{when}: {tag}: {digest}");
        }
    }
}

/// Kills at the given passage of a point, if there is one; whether there was.
fn killed_at(point: &str, passage: usize) -> bool {
    let when = format!("{point}:{passage}");
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::default();
    let finished = {
        let child = Child::start(folder.path(), Some(&when));
        let repository = child.repository("kill/me");
        catch_unwind(AssertUnwindSafe(|| run_workload(&repository, &mut log))).is_ok()
    };
    let child = Child::start(folder.path(), None);
    let repository = child.repository("kill/me");
    assert_consistent(&repository, &log.now, &when);
    // The same work again, from wherever that was.
    let mut log = Log::default();
    run_workload(&repository, &mut log);
    assert_consistent(&repository, &log.now, &when);
    !finished
}

/// Every passage is too long for each day: `QUINISTRY_TESTS_KILLS=1` takes them all.
fn kills(points: &[&str]) {
    let stride = if std::env::var_os("QUINISTRY_TESTS_KILLS").is_some() { 1 } else { 5 };
    for (place, point) in points.iter().enumerate() {
        let mut passage = 1 + place % stride;
        let mut times = 0;
        while killed_at(point, passage) {
            times += 1;
            passage += stride;
            assert!(passage < 1000, "{point} is passed without end");
        }
        println!("killed at {point} {times} times");
        assert!(times > 0, "{point} is never passed");
    }
}

#[test]
fn killed_while_bytes_are_written_nothing_is_lost() {
    kills(&["append", "synced", "rename"]);
}

#[test]
fn killed_while_names_are_made_durable_nothing_is_lost() {
    kills(&["renamed", "folder.sync", "file.sync"]);
}

#[test]
fn killed_while_things_are_removed_nothing_is_lost() {
    kills(&["remove", "removed"]);
}
