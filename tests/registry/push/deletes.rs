//! Deleting, and what is left.

use quinistry::oci::Digest;
use quinistry::registry::Settings;
use quinistry::store::{Access, Filesystem, Memory, Store};

use crate::push::registry::{MANIFEST, Registry, on_each, sha512};

#[test]
fn a_tag_goes_alone_and_a_digest_takes_its_tags_along() {
    on_each(|registry| {
        let repository = registry.repository("deletes");
        let delete =
            |reference: &str| repository.ask("DELETE", &format!("manifests/{reference}"), &[], b"").status;
        let (digest, bytes) = repository.push_image("a", &[b"1"]);
        for tag in ["b", "c"] {
            repository.put_manifest(tag, MANIFEST, &bytes);
        }
        let (other, other_bytes) = repository.push_image("z", &[b"2"]);
        assert_eq!(delete("a"), 202);
        repository.get("manifests/a").assert_refused(404, "MANIFEST_UNKNOWN");
        repository.assert_manifest(digest.as_str(), &digest, &bytes);
        assert_eq!(repository.tags(), ["b", "c", "z"]);
        assert_eq!((delete("a"), delete("never")), (404, 404));

        assert_eq!(delete(digest.as_str()), 202);
        for gone in ["b", "c", digest.as_str()] {
            repository.get(&format!("manifests/{gone}")).assert_refused(404, "MANIFEST_UNKNOWN");
        }
        assert_eq!(repository.tags(), ["z"]);
        assert_eq!(delete(digest.as_str()), 404);
        repository.assert_manifest("z", &other, &other_bytes);
    });
}

#[test]
fn a_manifest_goes_by_all_of_its_names() {
    on_each(|registry| {
        let repository = registry.repository("names");
        let (short, bytes) = repository.push_image("short", &[]);
        let long = sha512(&bytes);
        assert_eq!(repository.put_manifest(&format!("{long}?tag=long"), MANIFEST, &bytes).status, 201);
        assert_eq!(repository.ask("DELETE", &format!("manifests/{short}"), &[], b"").status, 202);
        for gone in ["short", "long", short.as_str(), long.as_str()] {
            repository.get(&format!("manifests/{gone}")).assert_refused(404, "MANIFEST_UNKNOWN");
        }
    });
}

#[test]
fn a_blob_goes_from_one_repository_and_stays_in_others() {
    on_each(|registry| {
        // A short one is remembered as it is, and a long one as an open file.
        for content in [vec![b'x'; 12], vec![b'x'; 200_000]] {
            let (one, other) = (registry.repository("one"), registry.repository("other"));
            let digest = one.push_blob(&content);
            other.push_blob(&content);
            one.assert_blob(&digest, &content);
            assert_eq!(one.ask("DELETE", &format!("blobs/{digest}"), &[], b"").status, 202);
            one.get(&format!("blobs/{digest}")).assert_refused(404, "BLOB_UNKNOWN");
            one.ask("DELETE", &format!("blobs/{digest}"), &[], b"").assert_refused(404, "BLOB_UNKNOWN");
            other.assert_blob(&digest, &content);
        }
    });
}

/// A deleted blob's file must not stay open: its room would come back only with the end of the registry.
#[test]
#[cfg(target_os = "linux")]
fn a_blob_that_went_is_not_held_open() {
    let registry = Registry::on_disk();
    let repository = registry.repository("held");
    let content = vec![b'x'; 200_000];
    let digest = repository.push_blob(&content);
    let open = || {
        let files = std::fs::read_dir("/proc/self/fd").unwrap();
        let paths = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
        paths.filter(|path| path.starts_with(registry.folder()) && path.ends_with("data")).count()
    };
    repository.assert_blob(&digest, &content);
    repository.assert_blob(&digest, &content);
    assert_eq!(open(), 1, "it is opened once, and remembered");
    assert_eq!(repository.ask("DELETE", &format!("blobs/{digest}"), &[], b"").status, 202);
    assert_eq!(open(), 0);
}

#[test]
fn a_blob_goes_by_all_of_its_names() {
    on_each(|registry| {
        let repository = registry.repository("names");
        let names = [Digest::sha256(b"blob"), sha512(b"blob")];
        for gone in &names {
            let path = format!("blobs/uploads/?digest={}", names[1]);
            assert_eq!(repository.ask("POST", &path, &[], b"blob").status, 201);
            assert_eq!(repository.ask("DELETE", &format!("blobs/{gone}"), &[], b"").status, 202);
            for name in &names {
                repository.get(&format!("blobs/{name}")).assert_refused(404, "BLOB_UNKNOWN");
            }
        }
    });
}

#[test]
fn in_memory_what_is_deleted_makes_room() {
    let store = Store::open(Memory::new(250_000), false).unwrap();
    let registry = Registry::on(store, Settings::default(), None);
    let (one, other) = (registry.repository("one"), registry.repository("other"));
    for round in 0..20_u8 {
        let layer = vec![round; 100_000];
        let blob = format!("blobs/{}", Digest::sha256(&layer));
        let (digest, _) = one.push_image("v1", &[&layer]);
        let path = format!("blobs/uploads/?digest={}", sha512(&layer));
        assert_eq!(other.ask("POST", &path, &[], &layer).status, 201);
        assert_eq!(one.ask("DELETE", &format!("manifests/{digest}"), &[], b"").status, 202);
        assert_eq!(one.ask("DELETE", &blob, &[], b"").status, 202);
        // The other repository has it still, under both names.
        other.assert_blob(&Digest::sha256(&layer), &layer);
        assert_eq!(other.ask("DELETE", &blob, &[], b"").status, 202);
        let mount = one.ask(
            "POST",
            &format!("blobs/uploads/?mount={}", sha512(&layer)),
            &[("Content-Length", "0")],
            b"",
        );
        assert_eq!(mount.status, 202, "nobody has it any more");
        assert_eq!(one.peer.ask("DELETE", mount.header("location").unwrap(), &[], b"").status, 204);
    }
}

#[test]
fn a_memory_that_is_full_can_be_made_room_in() {
    let store = Store::open(Memory::new(100_000), false).unwrap();
    let registry = Registry::on(store, Settings::default(), None);
    let repository = registry.repository("full");
    let layer = vec![1; 50_000];
    let (digest, _) = repository.push_image("v1", &[&layer]);
    // Of ever smaller blobs none fits any more in the end, nor does anything else.
    for length in (0..50_000_usize).rev().step_by(100).map(|length| length + 1) {
        let blob = vec![2; length];
        let path = format!("blobs/uploads/?digest={}", Digest::sha256(&blob));
        let status = repository.ask("POST", &path, &[], &blob).status;
        assert!(matches!(status, 201 | 507), "{status}");
    }
    assert_eq!(repository.ask("DELETE", &format!("manifests/{digest}"), &[], b"").status, 202);
    assert_eq!(repository.ask("DELETE", &format!("blobs/{}", Digest::sha256(&layer)), &[], b"").status, 202);
    repository.push_image("v2", &[&vec![3; 50_000]]);
}

#[test]
fn in_memory_what_was_acknowledged_stays_whoever_deletes_the_same_elsewhere() {
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let registry = Registry::on(store, Settings::default(), None);
    let (digest, long) = (Digest::sha256(b"shared"), sha512(b"shared"));
    let rounds = |name: &str, push: &str, found: &Digest| {
        let repository = registry.repository(name);
        for _ in 0..200 {
            let answer = repository.ask("POST", push, &[], b"shared");
            if answer.status == 201 {
                repository.assert_blob(found, b"shared");
                assert_eq!(repository.ask("DELETE", &format!("blobs/{digest}"), &[], b"").status, 202);
            } else {
                assert_eq!(answer.status, 202, "{answer:?}");
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| rounds("a", &format!("blobs/uploads/?digest={digest}"), &digest));
        scope.spawn(|| rounds("b", &format!("blobs/uploads/?digest={long}"), &long));
        scope.spawn(|| rounds("c", &format!("blobs/uploads/?mount={digest}"), &digest));
    });
}

#[test]
fn a_registry_that_is_only_read_changes_nothing_on_its_disk() {
    let registry = Registry::on_disk();
    let repository = registry.repository("read");
    let (digest, bytes) = repository.push_image("v1", &[b"layer"]);
    let storage = Filesystem::open(registry.folder(), Access::Read).unwrap();
    let store = Store::open(storage, false).unwrap();
    let reader = Registry::on(store, Settings { read_only: true, ..Settings::default() }, None);
    let files = || walkdir(registry.folder());
    let before = files();
    let repository = reader.repository("read");
    repository.assert_manifest("v1", &digest, &bytes);
    assert_eq!(repository.get(&format!("referrers/{digest}")).status, 200);
    repository.ask("POST", "blobs/uploads/", &[], b"").assert_read_only();
    repository.put_manifest("v1", MANIFEST, &bytes).assert_read_only();
    repository.ask("DELETE", "manifests/v1", &[], b"").assert_read_only();
    assert_eq!(files(), before);
}

/// All files beneath a folder.
fn walkdir(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
            }
            all.push(path);
        }
    }
    all.sort();
    all
}
