//! Runs of retention on a storage that fails.

use std::fs;

use quinistry_store::{Access, Filesystem, RevisionRules as _, Store};

use super::config;
use crate::retention::Retention;

#[test]
fn without_the_pulls_of_all_processes_nothing_is_judged_and_all_manifests_stay() {
    let more = "quinistry:\n  retention:\n    dryrun: false\n    policies:\n    - repositories: [\"**\"]\n      \
                keeptags: [{pulledwithin: 1h}]\n      untagged: {pulledwithin: 1h}\n";
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Filesystem::open(folder.path(), Access::Write).unwrap(), false).unwrap();
    let retention = Retention::new(&config(more)).unwrap();
    let (name, lead) = ("a/b".parse().unwrap(), store.lead().unwrap());
    store.begin_pull_records().unwrap();
    for is_dry in [true, false] {
        retention.run(&store, &lead).unwrap();
        assert_eq!(retention.rules(&store).keeps_all(&name), is_dry, "changed policies run dry once");
    }
    // A file stands where the records of pulls belong.
    let pulls = folder.path().join("docker/registry/v2/_quinistry/pulls");
    if pulls.exists() {
        fs::remove_dir_all(&pulls).unwrap();
    }
    fs::create_dir_all(pulls.parent().unwrap()).unwrap();
    fs::write(&pulls, b"").unwrap();
    store.note_pull(&name, &quinistry_oci::Digest::sha256(b"x"), None);
    let run = retention.run(&store, &lead);
    assert!(run.is_err(), "{run:?}");
    assert!(retention.rules(&store).keeps_all(&name));
}
