//! A disk that is full, or fails: what was there stays, and what is refused leaves nothing behind.

use quinistry::oci::Digest;

use crate::push::durability::Child;
use crate::push::registry::Repository;

/// Error numbers of the system calls.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[test]
fn a_full_disk_is_507_at_every_step_and_loses_nothing() {
    for point in ["stage", "append", "file.sync", "rename", "renamed", "folder.sync"] {
        let folder = tempfile::tempdir().unwrap();
        let (digest, bytes) = {
            let child = Child::start(folder.path(), None);
            child.repository("a").push_image("v1", &[b"layer"])
        };
        let child = Child::start(folder.path(), Some(&format!("{point}={ENOSPC}")));
        let repository = child.repository("a");
        repository.assert_manifest("v1", &digest, &bytes);
        for bytes in [&b"new"[..], b"layer"] {
            let path = format!("blobs/uploads/?digest={}", Digest::sha256(bytes));
            assert_eq!(repository.ask("POST", &path, &[], bytes).status, 507, "{point}");
        }
        assert_eq!(put(&repository, "v1", &bytes), 507, "{point}");
        repository.assert_manifest("v1", &digest, &bytes);
        drop(child);
        // With room again.
        let child = Child::start(folder.path(), None);
        let repository = child.repository("a");
        repository.assert_manifest("v1", &digest, &bytes);
        repository.push_image("v2", &[b"new"]);
        assert_eq!(scratch(folder.path()), [""; 0], "{point}");
    }
}

#[test]
fn of_a_session_that_could_not_be_kept_nothing_is_left_when_it_has_ended() {
    for (point, method) in [("keep", "PATCH"), ("append", "PUT"), ("append", "PATCH")] {
        let folder = tempfile::tempdir().unwrap();
        let child = Child::start(folder.path(), Some(&format!("{point}={ENOSPC}")));
        let repository = child.repository("a");
        let at = repository.begin();
        let target = format!("{at}?digest={}", Digest::sha256(b"bytes"));
        assert_eq!(repository.peer.ask(method, &target, &[], b"bytes").status, 507, "{point}");
        assert_eq!(repository.peer.ask("DELETE", &at, &[], b"").status, 204, "{point}");
        repository.peer.get(&at).assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
        assert_eq!(scratch(folder.path()), [""; 0], "{point} {method}");
        let uploads = folder.path().join("docker/registry/v2/repositories/a/_uploads");
        let left = std::fs::read_dir(&uploads).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{point} {method}");
    }
}

#[test]
fn after_a_failure_to_flush_nothing_is_written_and_everything_read() {
    for point in ["file.sync", "folder.sync"] {
        let folder = tempfile::tempdir().unwrap();
        let (digest, bytes) = {
            let child = Child::start(folder.path(), None);
            child.repository("a").push_image("v1", &[b"layer"])
        };
        let child = Child::start(folder.path(), Some(&format!("{point}={EIO}")));
        let repository = child.repository("a");
        let path = format!("blobs/uploads/?digest={}", Digest::sha256(b"new"));
        assert_eq!(repository.ask("POST", &path, &[], b"new").status, 500, "{point}");
        for _ in 0..2 {
            let answer = repository.ask("POST", &path, &[], b"new");
            assert_eq!(answer.status, 503, "{point}: {answer:?}");
            assert!(answer.header("retry-after").is_some());
        }
        assert_eq!(put(&repository, "v2", &bytes), 503);
        repository.assert_manifest("v1", &digest, &bytes);
        repository.assert_blob(&Digest::sha256(b"layer"), b"layer");
        assert_eq!(repository.get(&format!("referrers/{digest}")).status, 200);
    }
}

#[test]
fn an_upload_for_whose_end_there_is_no_room_can_be_ended_later() {
    let folder = tempfile::tempdir().unwrap();
    let digest = Digest::sha256(b"all of it");
    let at = {
        let child = Child::start(folder.path(), Some(&format!("rename={ENOSPC}")));
        let repository = child.repository("a");
        let at = repository.begin();
        assert_eq!(repository.peer.ask("PATCH", &at, &[], b"all of it").status, 202);
        for _ in 0..2 {
            let end =
                repository.peer.ask("PUT", &format!("{at}?digest={digest}"), &[("Content-Length", "0")], b"");
            assert_eq!(end.status, 507, "{end:?}");
            assert_eq!(repository.peer.get(&at).header("range"), Some("0-8"));
        }
        at
    };
    let child = Child::start(folder.path(), None);
    let repository = child.repository("a");
    let end = repository.peer.ask("PUT", &format!("{at}?digest={digest}"), &[("Content-Length", "0")], b"");
    assert_eq!(end.status, 201, "{end:?}");
    repository.assert_blob(&digest, b"all of it");
}

#[test]
fn an_upload_that_was_moved_and_could_not_be_made_a_blob_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let digest = Digest::sha256(b"all of it");
    let child = Child::start(folder.path(), Some(&format!("renamed={ENOSPC}")));
    let repository = child.repository("a");
    let at = repository.begin();
    assert_eq!(repository.peer.ask("PATCH", &at, &[], b"all of it").status, 202);
    let end = repository.peer.ask("PUT", &format!("{at}?digest={digest}"), &[("Content-Length", "0")], b"");
    assert_eq!(end.status, 507, "{end:?}");
    repository.peer.get(&at).assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn a_chunk_that_could_not_be_flushed_ends_its_session() {
    let folder = tempfile::tempdir().unwrap();
    let child = Child::start(folder.path(), Some(&format!("file.sync={ENOSPC}")));
    let repository = child.repository("a");
    let at = repository.begin();
    assert_eq!(repository.peer.ask("PATCH", &at, &[], b"perhaps lost").status, 507);
    // What a second flush says proves nothing.
    repository.peer.get(&at).assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
    repository.peer.ask("PATCH", &at, &[], b"more").assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn what_was_refused_halfway_does_not_come_back_at_the_next_start() {
    // Every step of deleting a digest that has two tags, as an intent.
    for passage in 1..8 {
        let folder = tempfile::tempdir().unwrap();
        let (digest, bytes) = {
            let child = Child::start(folder.path(), None);
            let (digest, bytes) = child.repository("a").push_image("one", &[b"layer"]);
            assert_eq!(put(&child.repository("a"), "two", &bytes), 201);
            (digest, bytes)
        };
        {
            let child = Child::start(folder.path(), Some(&format!("folder.sync:{passage}={ENOSPC}")));
            let repository = child.repository("a");
            let status = repository.ask("DELETE", &format!("manifests/{digest}"), &[], b"").status;
            assert!(matches!(status, 202 | 503 | 507), "{status}");
        }
        // Pushed again, and acknowledged.
        {
            let child = Child::start(folder.path(), None);
            assert_eq!(put(&child.repository("a"), "one", &bytes), 201, "{passage}");
        }
        let child = Child::start(folder.path(), None);
        child.repository("a").assert_manifest("one", &digest, &bytes);
    }
}

fn put(repository: &Repository, tag: &str, bytes: &[u8]) -> u16 {
    repository.put_manifest(tag, crate::push::registry::MANIFEST, bytes).status
}

/// Returns the files of writes that were not finished.
fn scratch(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("docker/registry/v2/_quinistry/tmp")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
