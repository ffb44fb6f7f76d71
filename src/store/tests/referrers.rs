//! Tests of descriptors that are rebuilt after another program has written to the repository.

use quinistry_oci::Descriptor;

use super::*;
use crate::Page;
use crate::layout::RepositoryKeys;
use crate::referrers::DescriptorState;

fn referrer(subject: &Digest, note: &str) -> Bytes {
    let subject = json!({"mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 7});
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [], "subject": subject,
        "artifactType": "application/note", "annotations": {"note": note},
    });
    to_json(&index).into()
}

/// Puts referrers where another program would.
fn place(store: &Store, subject: &Digest, notes: std::ops::Range<usize>) {
    for note in notes {
        let bytes = referrer(subject, &note.to_string());
        let digest = Digest::sha256(&bytes);
        let entries = [
            (blob(&digest), &bytes[..]),
            (RepositoryKeys(&name("a")).revision_link(&digest), digest.as_str().as_bytes()),
        ];
        store.storage().write(&[&entries]).unwrap();
    }
}

fn ask(store: &Store, subject: &Digest, wanted: &[String]) -> Vec<Descriptor> {
    let page = Page { size: 1000, last: String::new() };
    let (found, more) =
        store.read_referrers(&name("a"), &(subject.clone(), wanted.to_vec(), page, 1 << 20)).unwrap().0;
    assert!(!more);
    found.to_vec()
}

#[test]
fn descriptors_are_built_once_and_found_after_a_restart() {
    let folder = folder();
    let subject = Digest::sha256(b"subject");
    let store = open(folder.path());
    place(&store, &subject, 0..50);
    assert_eq!(ask(&store, &subject, &[]).len(), 50);
    assert_eq!(store.descriptor_state(&name("a")).unwrap(), DescriptorState::Complete);
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.descriptor_state(&name("a")).unwrap(), DescriptorState::Complete);
    assert_eq!(ask(&store, &subject, &[]).len(), 50);
    assert_eq!(ask(&store, &subject, &["application/other".into()]), []);
    // Another program writes again.
    place(&store, &subject, 50..60);
    assert_eq!(ask(&store, &subject, &[]).len(), 60);
}

#[test]
fn no_push_waits_for_descriptors_and_later_pushes_are_listed() {
    let folder = folder();
    let subject = Digest::sha256(b"subject");
    let store = open(folder.path());
    place(&store, &subject, 0..5);
    // A push holds the repository's lock while descriptors are built.
    std::thread::scope(|scope| {
        store.changing_manifests_at_once(&name("a"), || {
            let asking = scope.spawn(|| store.build_rows(&name("a")).unwrap().0.len());
            assert_eq!(asking.join().unwrap(), 5);
        });
    });
    // Manifests that this program and another one added after the rows were built are saved with them.
    let (rows, seen) = store.build_rows(&name("a")).unwrap();
    let version = store.revisions_version(&name("a")).unwrap();
    put(&store, "a", &referrer(&subject, "pushed"), &[]).unwrap();
    place(&store, &subject, 5..8);
    store.save_rows(&name("a"), &rows, &seen, &version).unwrap();
    assert_eq!(store.descriptor_state(&name("a")).unwrap(), DescriptorState::Complete);
    assert_eq!(ask(&store, &subject, &[]).len(), 9);
}

#[test]
fn a_query_for_a_rare_type_is_answered_from_memory_until_a_change() {
    let folder = folder();
    let subject = Digest::sha256(b"subject");
    let store = open(folder.path());
    place(&store, &subject, 0..300);
    let known = |store: &Store| {
        let version = store.revisions_version(&name("a")).unwrap();
        store.0.artifact_types.get(&name("a"), &subject, &version).map(|types| types.len())
    };
    let [other, own] = ["application/other", "application/note"].map(|own| [own.to_owned()]);
    // The first query builds the descriptors, the second reads the storage.
    for _ in 0..2 {
        assert_eq!(ask(&store, &subject, &other), []);
    }
    assert_eq!(known(&store), Some(300));
    assert_eq!(ask(&store, &subject, &own).len(), 300);
    put(&store, "a", &referrer(&subject, "pushed"), &[]).unwrap();
    assert_eq!(known(&store), None);
    assert_eq!(ask(&store, &subject, &own).len(), 301);
    place(&store, &subject, 300..310);
    assert_eq!(known(&store), None);
    assert_eq!(ask(&store, &subject, &other), []);
    assert_eq!(ask(&store, &subject, &own).len(), 311);
}
