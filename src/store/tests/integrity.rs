//! Tests of damaged content: it counts as absent, and the next push mends it.

use quinistry_oci::Algorithm;

use super::*;

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

/// Returns the damaged forms of a file.
fn damages(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut flipped = bytes.to_vec();
    flipped[bytes.len() / 2] ^= 1;
    let mut last = bytes.to_vec();
    *last.last_mut().unwrap() ^= 0x80;
    vec![
        flipped,
        last,
        bytes[..bytes.len() / 2].to_vec(),
        [bytes, b"more"].concat(),
        vec![0; bytes.len()],
        vec![],
    ]
}

#[test]
fn a_damaged_blob_is_absent_to_every_request_until_it_is_pushed_again() {
    for length in [1000, 64 * 1024, 64 * 1024 + 1, 700_000] {
        let bytes = content(length);
        for (which, damaged) in damages(&bytes).into_iter().enumerate() {
            let when = format!("{length} {which}");
            let folder = folder();
            let store = open(folder.path());
            let digest = push_blob(&store, "a", &bytes).unwrap();
            push_blob(&store, "a", b"{}").unwrap();
            damage(folder.path(), &digest, &damaged);
            for _ in 0..2 {
                let found = store.blob(&name("a"), &digest);
                assert!(matches!(found, Err(StoreError::BlobUnknown)), "{when}");
                for from in [None, Some(&name("a"))] {
                    assert!(store.mount(&name("b"), &digest, from).unwrap().is_none(), "{when}");
                }
                let refused = put(&store, "a", &manifest(&bytes, "x"), &["x"]);
                let missing =
                    matches!(&refused, Err(StoreError::Missing(all)) if all[..] == [digest.clone()]);
                assert!(missing, "{when}: {refused:?}");
            }
            push_blob(&store, "b", &bytes).unwrap();
            put(&store, "a", &manifest(&bytes, "x"), &["x"]).unwrap();
            let found = store.blob(&name("a"), &digest).unwrap();
            assert_eq!(found.digest(Algorithm::Sha256).unwrap(), digest, "{when}");
        }
    }
}

#[test]
fn a_long_blob_is_hashed_once_and_again_when_its_file_is_another() {
    let folder = folder();
    let bytes = content(100_000);
    let digest = push_blob(&open(folder.path()), "a", &bytes).unwrap();
    // A new process has no result in its cache.
    let store = open(folder.path());
    let key = blob(&digest);
    let known =
        |store: &Store| store.0.verified.get(&digest, &store.storage().head(&key).unwrap().unwrap().tag);
    assert_eq!(known(&store), None);
    store.blob(&name("a"), &digest).unwrap();
    assert_eq!(known(&store), Some(true));
    let copy = folder.path().join("copy");
    fs::copy(path(folder.path(), &key), &copy).unwrap();
    fs::rename(&copy, path(folder.path(), &key)).unwrap();
    assert_eq!(known(&store), None);
    assert_eq!(store.mount(&name("b"), &digest, Some(&name("a"))).unwrap(), Some(100_000));
    assert_eq!(known(&store), Some(true));
}

#[test]
fn a_damaged_child_of_an_index_is_missing() {
    let folder = folder();
    let store = open(folder.path());
    push_blob(&store, "a", b"{}").unwrap();
    push_blob(&store, "a", b"layer").unwrap();
    let child = manifest(b"layer", "child");
    let digest = put(&store, "a", &child, &[]).unwrap();
    let index: Bytes = to_json(&json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": [{"mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": child.len()}],
    }))
    .into();
    damage(folder.path(), &digest, b"torn");
    assert!(matches!(put(&store, "a", &index, &["i"]), Err(StoreError::Missing(_))));
    put(&store, "a", &child, &[]).unwrap();
    put(&store, "a", &index, &["i"]).unwrap();
}

#[test]
fn a_link_that_leads_to_other_content_leads_nowhere() {
    use crate::layout::{RepositoryKeys, alias};
    for length in [10, 100_000] {
        let folder = folder();
        let store = open(folder.path());
        let (one, other) = (content(length), [content(length), b"x".to_vec()].concat());
        let short = push_blob(&store, "a", &one).unwrap();
        let wrong = push_blob(&store, "a", &other).unwrap();
        let long = Digest::of(Algorithm::Sha512, &one);
        let mut receiver = store.receive(&long, None).unwrap();
        receiver.append(&one).unwrap();
        store.commit(&name("a"), &mut receiver, &long).unwrap();
        drop(receiver);
        let manifests = [manifest(&one, "1"), manifest(&other, "2")];
        push_blob(&store, "a", b"{}").unwrap();
        let names = [&manifests[0], &manifests[1]].map(|bytes| put(&store, "a", bytes, &[]).unwrap());
        let long_name = Digest::of(Algorithm::Sha512, &manifests[0]);
        put_as(&store, "a", &long_name, &manifests[0], &["v1"]).unwrap();
        for digest in [&short, &long] {
            assert!(store.blob(&name("a"), digest).is_ok());
            assert!(store.mount(&name("b"), digest, Some(&name("a"))).unwrap().is_some());
        }
        let place = RepositoryKeys(&name("a"));
        let layers = [&short, &long].map(|digest| (place.layer_link(digest), wrong.as_str().as_bytes()));
        let revisions =
            [&names[0], &long_name].map(|digest| (place.revision_link(digest), names[1].as_str().as_bytes()));
        store.storage().write(&[&layers, &revisions]).unwrap();
        store.storage().write(&[&[(alias(&long), wrong.as_str().as_bytes())]]).unwrap();
        let store = open_again(store, folder.path());
        for digest in [&short, &long] {
            assert!(matches!(store.blob(&name("a"), digest), Err(StoreError::BlobUnknown)), "{digest}");
            for from in [None, Some(&name("a"))] {
                let mounted = store.mount(&name("c"), digest, from).unwrap().is_some();
                // Mounted from `b`, where the link is right.
                assert_eq!(mounted, from.is_none() && *digest == short, "{digest}");
            }
        }
        for digest in [&names[0], &long_name] {
            assert!(store.manifest(&name("a"), &Reference::Digest(digest.clone())).is_err(), "{digest}");
        }
        assert!(store.manifest(&name("a"), &Reference::Tag(tags(&["v1"]).remove(0))).is_err());
    }
}

#[test]
fn deleted_content_is_not_mounted() {
    let folder = folder();
    let memory = Store::open(crate::Memory::new(1 << 20), false).unwrap();
    for store in [open(folder.path()), memory] {
        let digest = push_blob(&store, "a", b"{}").unwrap();
        let layer = push_blob(&store, "a", b"layer").unwrap();
        push_blob(&store, "c/d", b"layer").unwrap();
        let image = put(&store, "a", &manifest(b"layer", "x"), &["x"]).unwrap();
        let mount = |digest: &Digest| store.mount(&name("b"), digest, None).unwrap().is_some();
        // Mounted from another repository, though `a` has lost it.
        store.delete_blob(&name("a"), &layer).unwrap();
        assert!(mount(&layer));
        store.delete_blob(&name("b"), &layer).unwrap();
        store.delete_blob(&name("c/d"), &layer).unwrap();
        store.delete_blob(&name("a"), &digest).unwrap();
        store.delete_manifest(&name("a"), &image).unwrap();
        for gone in [&layer, &digest, &image] {
            assert!(!mount(gone));
            assert!(store.mount(&name("b"), gone, Some(&name("a"))).unwrap().is_none());
            assert!(store.blob(&name("b"), gone).is_err());
        }
    }
}

#[test]
fn other_files_than_content_are_absent_and_delay_no_request() {
    let (folder, outside) = (folder(), folder());
    let store = open(folder.path());
    let digest = push_blob(&store, "a", b"{}").unwrap();
    let data = path(folder.path(), &blob(&digest));
    let link = path(folder.path(), &crate::layout::RepositoryKeys(&name("a")).layer_link(&digest));
    let secret = outside.path().join("secret");
    fs::write(&secret, b"{}").unwrap();
    let absent = |what: &str| {
        let fresh = Store::open(Filesystem::open(folder.path(), Access::Read).unwrap(), false).unwrap();
        assert!(matches!(fresh.blob(&name("a"), &digest), Err(StoreError::BlobUnknown)), "{what}");
    };
    let fifo = |path: &Path| {
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::RUSR, 0).unwrap();
    };
    for path in [&data, &link] {
        let kept = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        fifo(path);
        absent("a FIFO");
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink(&secret, path).unwrap();
        absent("a link out of the root");
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        absent("a folder");
        fs::remove_dir(path).unwrap();
        fs::write(path, vec![b'x'; 20_000_000]).unwrap();
        absent("20 MB");
        fs::write(path, kept).unwrap();
    }
    store.blob(&name("a"), &digest).unwrap();
}

#[test]
fn a_circular_link_in_place_of_a_tag_hides_no_other_tag() {
    let folder = folder();
    let store = open(folder.path());
    push_blob(&store, "a", b"{}").unwrap();
    put(&store, "a", &manifest(b"{}", "x"), &["fine"]).unwrap();
    let tags = path(folder.path(), &crate::layout::RepositoryKeys(&name("a")).tags());
    std::os::unix::fs::symlink("circle", tags.join("circle")).unwrap();
    let page = crate::Page { size: 10, last: String::new() };
    let (found, _) = store.tags(&name("a"), &page).unwrap();
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["fine"]);
}

#[test]
fn nothing_is_written_through_a_link_out_of_the_root() {
    let (folder, outside) = (folder(), folder());
    let store = open(folder.path());
    push_blob(&store, "a", b"{}").unwrap();
    let repositories = path(folder.path(), &crate::layout::repositories());
    std::os::unix::fs::symlink(outside.path(), repositories.join("out")).unwrap();
    assert!(push_blob(&store, "out", b"{}").is_err());
    assert!(push_blob(&store, "out/x", b"{}").is_err());
    assert!(store.delete_blob(&name("out"), &Digest::sha256(b"{}")).is_err());
    // The innermost folder is not looked at before it is made: a link may be there already.
    let digest = Digest::sha256(b"last");
    let last = path(folder.path(), &crate::layout::RepositoryKeys(&name("a")).layer(&digest));
    for target in [outside.path().to_path_buf(), outside.path().join("absent"), "../../../../..".into()] {
        std::os::unix::fs::symlink(&target, &last).unwrap();
        let pushed = push_blob(&store, "a", b"last");
        assert_eq!(pushed.is_err(), target.is_absolute(), "{target:?}");
        fs::remove_file(&last).unwrap();
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    push_blob(&store, "a", b"more").unwrap();
}
