//! `prepare-storage` as an init container runs it: root, with `CAP_CHOWN` alone.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use crate::support::process::{command, output};
use crate::support::server::PROGRAM;
use crate::support::skip::{Need, lacks};

/// User and group of the registry's image.
const OWNER: u32 = 65532;

/// Prepares a folder. Returns what the program says, and whether it has succeeded.
fn prepare(folder: &Path) -> (bool, String) {
    let mut limited = command("setpriv");
    limited.args(["--bounding-set=-all,+chown", "--inh-caps=-all,+chown", "--no-new-privs", PROGRAM]);
    limited.args(["prepare-storage", "--owner", "65532:65532", "--storage"]).arg(folder);
    let done = output(&mut limited).unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(said).unwrap())
}

fn owner_and_mode(folder: &Path) -> (u32, u32, u32) {
    let found = fs::metadata(folder).unwrap();
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

fn set(folder: &Path, owner: u32, mode: u32) {
    fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
    chown(folder, Some(owner), Some(owner)).unwrap();
}

#[test]
fn a_folder_of_root_is_given_away_once() {
    if lacks(&[Need::Root, Need::Tool("setpriv")]) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("storage");
    let prepared = (OWNER, OWNER, 0o700);
    // A folder that is missing; that the kubelet has made; of a former run that was cut off; with another mode.
    for before in [None, Some((0, 0o755)), Some((0, 0o700)), Some((OWNER, 0o755)), Some((1000, 0o755))] {
        match before {
            None => {}
            Some((owner, mode)) => set(&folder, owner, mode),
        }
        let (is_done, said) = prepare(&folder);
        assert!(is_done && said.ends_with("belongs to 65532:65532 now\n"), "{before:?}: {said}");
        assert_eq!(owner_and_mode(&folder), prepared, "{before:?}");
        let (is_done, said) = prepare(&folder);
        assert!(is_done && said.ends_with("belongs to 65532:65532 already\n"), "{before:?}: {said}");
        assert_eq!(owner_and_mode(&folder), prepared, "{before:?}");
    }
    // Content of the owner is no obstacle.
    let blob = folder.join("blob");
    fs::write(&blob, "bytes").unwrap();
    chown(&blob, Some(OWNER), Some(OWNER)).unwrap();
    fs::create_dir(folder.join("lost+found")).unwrap();
    set(&folder, 0, 0o755);
    assert!(prepare(&folder).0);
    assert_eq!((owner_and_mode(&folder), fs::read(blob).unwrap()), (prepared, b"bytes".to_vec()));
}

#[test]
fn a_folder_with_content_of_others_stays_as_it_is() {
    if lacks(&[Need::Root, Need::Tool("setpriv")]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("passwd"), "root").unwrap();
    for (owner, mode, reason) in [
        (0, 0o755, "it has content of user 0, such as passwd; choose an empty folder"),
        (1000, 0o755, "it has content of user 0, such as passwd; choose an empty folder"),
        (1000, 0o700, "it belongs to user 1000 and cannot be listed; choose an empty folder"),
    ] {
        set(folder.path(), owner, mode);
        let (is_done, said) = prepare(folder.path());
        assert!(!is_done && said.contains(reason) && said.lines().count() == 1, "{said}");
        assert_eq!(owner_and_mode(folder.path()), (owner, owner, mode));
    }
}
