//! `fsck` from outside: exit codes, a registry beside it, and repairs.

use std::fs;
use std::path::{Path, PathBuf};

use super::{bad, good, run, stdout};
use crate::support::process::command;
use crate::support::server::{PROGRAM, SERVE, Server};

/// Returns the first file of a store whose path contains a text and ends in `link`.
fn link(store: &Path, part: &str) -> PathBuf {
    let mut folders = vec![store.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("link") && path.to_str().unwrap().contains(part) {
                return path;
            }
        }
    }
    panic!("no link in {part}");
}

#[test]
fn damage_is_found_beside_a_registry_and_repaired_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let path = store.to_str().unwrap();
    let server = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", path]));
    good(&["push", "--self", &format!("{}/a:1", server.peer.0), "-q"]);
    let said = good(&["fsck", path, "--hash"]);
    assert!(said.contains("1 manifest, 1 tag") && said.contains("0 errors"), "{said}");
    assert_eq!(good(&["fsck", path, "-q"]), "");
    let said = bad(&["fsck", path, "--repair"], 2);
    assert!(said.contains("in use"), "{said}");

    let torn = link(&store, "_layers");
    let whole = fs::read(&torn).unwrap();
    fs::write(&torn, "torn").unwrap();
    let found = run(&["fsck", path]);
    assert_eq!(found.status.code(), Some(1));
    let said = stdout(&found);
    assert!(said.contains("error link-torn docker/registry/v2/repositories/a/_layers/"), "{said}");
    assert!(said.contains("error manifest-part-missing") && said.contains("a :1 sha256:"), "{said}");
    assert_eq!(fs::read(&torn).unwrap(), b"torn", "nothing is repaired unasked");
    drop(server);

    let said = good(&["fsck", path, "--repair"]);
    assert!(said.contains("repaired\n") && said.contains("0 errors"), "{said}");
    assert_eq!(fs::read(&torn).unwrap(), whole);
    assert!(good(&["fsck", path, "--repair"]).ends_with("0 notes, 0 repaired\n"));
}

#[test]
fn what_is_no_storage_cannot_be_examined() {
    let folder = tempfile::tempdir().unwrap();
    for place in [folder.path().to_str().unwrap(), "/nonexistent/store", "s3://key:secret@bucket"] {
        bad(&["fsck", place], 2);
        bad(&["fsck", place, "--repair"], 2);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
}
