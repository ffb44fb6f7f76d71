//! Objects that cannot be copied, and those that are copied in another way.

use super::*;

#[test]
fn a_damaged_blob_is_named_with_all_that_needs_it_and_the_rest_is_copied() {
    let from = filled();
    let damaged = Digest::sha256(b"layer of two");
    from.write(&[&[(blob(&damaged), b"layer of tWo")]]).unwrap();
    let to = Memory::new(ROOM);
    let report = copy(&from, &to, &WANTED);
    let text: Vec<String> =
        report.faults.iter().map(|fault| format!("{} {}", fault.subject, fault.reason)).collect();
    assert_eq!(report.fault_count, 5, "{text:#?}");
    assert!(text[4].starts_with(blob(&damaged).as_str()) || text[0].contains("a:all"), "{text:#?}");
    for part in ["is damaged: its bytes have the digest sha256:", "a:all refers to", "a:v2 refers to"] {
        assert!(text.iter().any(|line| line.contains(part)), "{part}: {text:#?}");
    }
    assert_eq!(broken(&to), [""; 0]);
    let store = Store::open(to.clone(), false).unwrap();
    assert!(resolve_tag(&store, "a", "v1").is_some());
    assert_eq!(resolve_tag(&store, "a", "all"), None);
    assert!(!objects(&to).keys().any(|key| key.contains("/tags/v2/")), "distribution would list the tag");
    drop(store);

    push_blob(&Store::open(from.clone(), false).unwrap(), "a", b"layer of two").unwrap();
    copy_all(&from, &to);
    assert_eq!(objects(&to), objects(&from));
}

#[test]
fn damage_in_the_target_is_found_by_reading_it_and_by_another_length() {
    let (from, to) = (filled(), Memory::new(ROOM));
    copy_all(&from, &to);
    let blobs = [b"layer of one", b"layer of two"].map(|bytes| blob(&Digest::sha256(bytes)));
    to.write(&[&[(blobs[0].clone(), b"layer of oNe"), (blobs[1].clone(), b"layer")]]).unwrap();
    assert_eq!(copy_all(&from, &to).blobs, 1);
    let report = copy(&from, &to, &Migration { verifies: true, ..WANTED });
    assert_eq!((report.blobs, report.faults), (1, vec![]));
    assert_eq!(objects(&to), objects(&from));
}

#[test]
fn objects_of_another_type_are_removed_before_their_keys_are_written() {
    let (from, to) = (filled(), Stepped::new(Memory::new(ROOM)));
    copy_all(&from, &to);
    let moved = push(&Store::open(from.clone(), false).unwrap(), "a", "moved", &["v1"]);
    to.memory.write(&[&[(blob(&Digest::sha256(b"layer of two")), b"torn")]]).unwrap();
    to.refuse_replacements();
    let report = copy_all(&from, &to);
    assert_eq!((report.tags, resolve_link(&to, "a", "v1")), (1, moved));
    assert_eq!(objects(&to), objects(&from));
}

#[test]
fn links_without_bytes_are_left_out_and_no_fault() {
    let from = filled();
    from.remove(&blob(&Digest::sha256(b"blob by sha512"))).unwrap();
    let to = Memory::new(ROOM);
    let report = copy_all(&from, &to);
    assert_eq!(report.dangling, 3, "an alias and two links");
    assert_eq!(broken(&to), [""; 0]);
}

#[test]
fn a_tag_without_a_manifest_and_a_torn_link_are_faults() {
    let from = filled();
    let digest = Digest::sha256(b"nothing");
    let torn = RepositoryKeys(&name("a")).layer_link(&digest);
    from.write(&[&[(tag_key("a", "v2"), digest.as_str().as_bytes()), (torn.clone(), b"sha256:")]]).unwrap();
    let report = copy(&from, &Memory::new(ROOM), &WANTED);
    let faults: Vec<_> = report.faults.iter().map(|fault| fault.subject.as_str()).collect();
    assert_eq!(faults, ["a:v2", torn.as_str()]);
}

#[test]
fn an_index_whose_manifests_the_source_lacks_is_copied_as_it_is() {
    let from = Memory::new(ROOM);
    let store = Store::open(from.clone(), true).unwrap();
    push_index(&store, "a", &[&Digest::sha256(b"elsewhere")], &["sparse"]);
    let to = Memory::new(ROOM);
    copy_all(&from, &to);
    assert_eq!(objects(&to), objects(&from));
}

#[test]
fn indexes_in_more_indexes_than_builders_make_are_a_fault_and_not_a_crash() {
    let from = Memory::new(ROOM);
    let store = Store::open(from.clone(), false).unwrap();
    let mut inner = push(&store, "a", "inner", &[]);
    for _ in 0..200 {
        inner = push_index(&store, "a", &[&inner], &[]);
    }
    push_index(&store, "a", &[&inner], &["deep"]);
    let to = Memory::new(ROOM);
    assert!(copy(&from, &to, &WANTED).fault_count > 0);
    assert_eq!(broken(&to), [""; 0]);
}

#[test]
fn a_tag_that_differs_is_replaced_in_a_copy_alone() {
    let (from, to) = (filled(), Memory::new(ROOM));
    copy_all(&from, &to);
    let here = push(&Store::open(to.clone(), false).unwrap(), "a", "pushed to the target", &["v1"]);
    let kept = copy(&from, &to, &Migration { overwrites: false, ..WANTED });
    assert_eq!(kept.faults.iter().map(|fault| fault.subject.as_str()).collect::<Vec<_>>(), ["a:v1"]);
    assert_eq!(resolve_tag(&Store::open(to.clone(), false).unwrap(), "a", "v1"), Some(here));
    assert_eq!(copy_all(&from, &to).tags, 1);
    assert_eq!(to.read(&tag_key("a", "v1"), 100).unwrap(), from.read(&tag_key("a", "v1"), 100).unwrap());
}
