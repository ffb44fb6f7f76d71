//! Tests in which each system call fails once: later writes succeed, and no start undoes acknowledged
//! changes.

use super::*;
use crate::failpoint::once::failing;
use crate::storage::StorageError;

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

/// Every point at which a system call can fail.
const POINTS: [&str; 17] = [
    "stage",
    "append",
    "file.sync",
    "synced",
    "make",
    "rename",
    "renamed",
    "folder.sync",
    "folder.open",
    "remove",
    "removed",
    "keep",
    "open",
    "look",
    "list",
    "lazily",
    "space",
];

/// Makes some of every kind of change to a store; returns the names of the acknowledged ones.
fn work(store: &Store) -> Vec<&'static str> {
    let mut done = Vec::new();
    let mut note = |what: &'static str, result: Result<(), StoreError>| {
        if result.is_ok() {
            done.push(what);
        }
    };
    let one = manifest(b"layer", "one");
    note("blob", push_blob(store, "a", b"another").map(drop));
    note("put", put(store, "a", &one, &["x", "y"]).map(drop));
    note("delete", store.delete_manifest(&name("a"), &Digest::sha256(&one)).map(drop));
    note("untag", store.delete_tag(&name("a"), &tags(&["old"])[0]));
    note("mount", store.mount(&name("b"), &Digest::sha256(b"layer"), Some(&name("a"))).map(drop));
    note("chunk", chunk(store));
    note("delete blob", store.delete_blob(&name("a"), &Digest::sha256(b"unused")));
    done
}

/// Uploads a blob in pieces.
fn chunk(store: &Store) -> Result<(), StoreError> {
    let session = store.begin(&name("a"), None)?;
    let mut claimed = session.try_claim()?;
    claimed.receiver_mut().unwrap().append(b"piece")?;
    store.acknowledge(&session, &mut claimed)?;
    store.finish(&session, claimed, &Digest::sha256(b"piece"))
}

fn fill(folder: &Path) {
    let store = open(folder);
    for bytes in [&b"{}"[..], b"layer", b"unused"] {
        push_blob(&store, "a", bytes).unwrap();
    }
    put(&store, "a", &manifest(b"layer", "zero"), &["zero", "old"]).unwrap();
}

fn is_acknowledged(done: &[&str], store: &Store, when: &str) {
    let has = |what: &str| done.contains(&what);
    assert!(!has("blob") || store.blob(&name("a"), &Digest::sha256(b"another")).is_ok(), "{when}");
    assert!(!has("chunk") || store.blob(&name("a"), &Digest::sha256(b"piece")).is_ok(), "{when}");
    assert!(!has("mount") || store.blob(&name("b"), &Digest::sha256(b"layer")).is_ok(), "{when}");
    assert!(!has("delete blob") || store.blob(&name("a"), &Digest::sha256(b"unused")).is_err(), "{when}");
    assert!(!has("untag") || resolve_tag(store, "a", "old").is_none(), "{when}");
    assert!(resolve_tag(store, "a", "zero").is_some(), "{when}");
}

/// Lets one passage of a point fail; returns whether there was one.
fn fail(point: &'static str, passage: u32, error: i32) -> bool {
    let when = format!("{point}:{passage}={error}");
    let folder = folder();
    fill(folder.path());
    let store = open(folder.path());
    let (is_reached, done) = failing(point, passage, error, || work(&store));
    is_acknowledged(&done, &store, &when);
    // Everything works again: the deleted manifest is pushed once more, and stays.
    let one = manifest(b"layer", "one");
    let digest = put(&store, "a", &one, &["x", "y"]).unwrap_or_else(|error| panic!("{when}: {error}"));
    let two = put(&store, "a", &manifest(b"layer", "two"), &["x"]).unwrap();
    chunk(&store).unwrap_or_else(|error| panic!("{when}: {error}"));
    drop(store);
    let store = open(folder.path());
    is_acknowledged(&done, &store, &when);
    assert_eq!(resolve_tag(&store, "a", "x"), Some(two), "{when}");
    assert_eq!(resolve_tag(&store, "a", "y"), Some(digest), "{when}");
    is_reached
}

#[test]
fn after_a_passing_error_everything_is_written_again() {
    for (place, point) in POINTS.into_iter().enumerate() {
        // After any other failure of a flush the state of the disk is unknown, and writes are refused.
        let errors = match point {
            "file.sync" | "folder.sync" => &[ENOSPC, EDQUOT][..],
            _ => &[EMFILE, ENOSPC, EDQUOT, EIO],
        };
        for error in errors {
            assert!(fail(point, 1, *error), "{point} is never passed");
        }
        let mut passage = 2;
        while fail(point, passage, errors[(place + passage as usize) % errors.len()]) {
            passage += 1;
            assert!(passage < 1000, "{point} is passed without end");
        }
    }
}

#[test]
fn after_a_failed_flush_nothing_is_written() {
    for point in ["file.sync", "folder.sync"] {
        let folder = folder();
        fill(folder.path());
        let store = open(folder.path());
        let (is_reached, pushed) = failing(point, 1, EIO, || push_blob(&store, "a", b"new"));
        assert!(is_reached && pushed.is_err());
        let again = push_blob(&store, "a", b"new");
        assert!(matches!(again, Err(StoreError::Storage(StorageError::WritesRefused))), "{again:?}");
        assert!(resolve_tag(&store, "a", "zero").is_some());
    }
}
