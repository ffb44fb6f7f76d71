//! Upload sessions, and what of them is on the disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use quinistry::oci::{Digest, RepositoryName};
use quinistry::store::{Session, Store, StoreError};

use crate::push::registry::{Registry, store_in};

#[test]
fn a_session_from_before_that_one_client_ends_is_not_found_again_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let name: RepositoryName = "a/b".parse().unwrap();
    let store = store_in(folder.path());
    let ids: Vec<_> = (0..100).map(|_| kept(&store, &name).id().clone()).collect();
    drop(store);
    let store = store_in(folder.path());
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in &ids {
                barrier.wait();
                let session = store.session(&name, id).unwrap();
                // The other one only asks.
                store.finish(&session, session.try_claim().unwrap(), &Digest::sha256(b"")).unwrap();
                barrier.wait();
            }
        });
        for id in &ids {
            barrier.wait();
            let found = store.session(&name, id);
            assert!(matches!(found, Ok(_) | Err(StoreError::UploadUnknown)), "{found:?}");
            barrier.wait();
            assert!(store.session(&name, id).is_err(), "it has ended");
        }
    });
}

/// A session that is found again after a restart.
fn kept(store: &Store, name: &RepositoryName) -> Arc<Session> {
    let session = store.begin(name, None).unwrap();
    session.try_claim().unwrap().persist().unwrap();
    session
}

#[test]
fn a_session_has_a_folder_only_while_there_is_something_to_go_on_with() {
    let registry = Registry::on_a_quick_disk();
    let repository = registry.repository("a/b");
    let uploads = registry.folder().join("docker/registry/v2/repositories/a/b/_uploads");
    let at = repository.begin();
    assert!(!uploads.exists(), "nothing has come");
    let whole = format!("{at}?digest={}", Digest::sha256(b"whole"));
    assert_eq!(repository.peer.ask("PUT", &whole, &[], b"whole").status, 201);
    assert!(!uploads.exists(), "it came whole");
    let at = repository.begin();
    assert_eq!(repository.peer.ask("PATCH", &at, &[], b"half").status, 202);
    let names = || std::fs::read_dir(&uploads).unwrap().count();
    assert_eq!(names(), 1);
    assert_eq!(repository.peer.ask("DELETE", &at, &[], b"").status, 204);
    assert_eq!(names(), 0);
}

#[test]
fn what_came_of_a_blob_in_one_request_is_acknowledged_found_after_a_restart_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let name: RepositoryName = "a/b".parse().unwrap();
    let store = store_in(folder.path());
    let session = store.begin(&name, None).unwrap();
    let mut claimed = session.try_claim().unwrap();
    claimed.receiver_mut().unwrap().append(b"hello").unwrap();
    // The client that sent the bytes is gone; the next one asks for the offset.
    drop(claimed);
    assert_eq!(store.acknowledge(&session, &mut session.try_claim().unwrap()).unwrap(), 5);
    let id = session.id().clone();
    drop((session, store));

    let store = store_in(folder.path());
    let session = store.session(&name, &id).unwrap();
    assert_eq!(session.offset(), 5);
    let mut claimed = session.try_claim().unwrap();
    claimed.receiver_mut().unwrap().append(b" again").unwrap();
    store.finish(&session, claimed, &Digest::sha256(b"hello again")).unwrap();
}

#[test]
fn of_a_session_that_is_discarded_or_swept_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let name: RepositoryName = "a/b".parse().unwrap();
    let store = store_in(folder.path());
    let before = files(folder.path());
    let with_bytes = |session: Arc<Session>| {
        session.try_claim().unwrap().receiver_mut().unwrap().append(b"some").unwrap();
        session
    };
    for begin in [|store: &Store, name: &RepositoryName| store.begin(name, None).unwrap(), kept] {
        let session = with_bytes(begin(&store, &name));
        assert_ne!(files(folder.path()), before);
        store.discard(&session, session.try_claim().unwrap()).unwrap();
        drop(session);
        assert_eq!(files(folder.path()), before);
        drop(with_bytes(begin(&store, &name)));
        assert_eq!(store.expire_uploads(Duration::ZERO).unwrap(), 1);
        assert_eq!(files(folder.path()), before);
    }
}

/// All files under a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> =
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    all.sort();
    all
}
