//! Tests of the records of deletions.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{Access, Filesystem, Memory};

fn tag_deletion(number: usize) -> Deletion {
    let repository: RepositoryName = "team/app".parse().unwrap();
    let subject = DeletedSubject::Tag {
        repository,
        tag: format!("v{number}").parse().unwrap(),
        digest: Digest::sha256(b"manifest"),
    };
    let policy = Some("retention.policies[0]".into());
    Deletion { actor: DeletionActor::Retention, subject, policy, reason: "no rule keeps \"it\"\n".into() }
}

/// Returns the lines of all objects of records, in the order of the objects.
fn lines(store: &Store) -> Vec<Vec<serde_json::Value>> {
    let mut objects = Vec::new();
    let folder = Key::of_path(audit_of("x").as_str().trim_end_matches("/x").into()).unwrap();
    store
        .scan(&folder, |key, _| {
            let bytes = store.storage().read(&key, 1 << 24)?.unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            objects.push(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
            Ok(())
        })
        .unwrap();
    objects
}

fn folder_store(folder: &std::path::Path) -> Store {
    Store::open(Filesystem::open(folder, Access::Write).unwrap(), false).unwrap()
}

#[test]
fn deletions_are_one_object_of_lines_and_the_next_process_adds_another() {
    let folder = tempfile::tempdir().unwrap();
    for process in 1..=3 {
        let store = folder_store(folder.path());
        for number in 0..3 {
            store.record_deletion(tag_deletion(number));
        }
        assert_eq!(lines(&store).len(), process - 1, "written before the flush");
        store.flush_deletions().unwrap();
        store.flush_deletions().unwrap();
        let objects = lines(&store);
        assert_eq!(objects.iter().map(Vec::len).collect::<Vec<_>>(), vec![3; process]);
        let line = &objects[0][1];
        assert!(line["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
        let expected = serde_json::json!({
            "time": line["time"], "actor": "retention", "policy": "retention.policies[0]",
            "reason": "no rule keeps \"it\"\n",
            "subject": {"kind": "tag", "repository": "team/app", "tag": "v1", "digest": Digest::sha256(b"manifest")},
        });
        assert_eq!(*line, expected);
    }
}

#[test]
fn many_deletions_are_written_without_a_flush() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder_store(folder.path());
    for number in 0..=2 * BATCH_RECORDS {
        store.record_deletion(tag_deletion(number));
    }
    assert_eq!(lines(&store).iter().map(Vec::len).collect::<Vec<_>>(), [BATCH_RECORDS; 2]);
    assert_eq!(store.0.deletions.waiting().len(), 1);
}

#[test]
fn a_storage_that_refuses_records_gets_the_newest_later() {
    let folder = tempfile::tempdir().unwrap();
    drop(folder_store(folder.path()));
    let store = Store::open(Filesystem::open(folder.path(), Access::Read).unwrap(), false).unwrap();
    for number in 0..3 * MAX_WAITING_RECORDS {
        store.record_deletion(tag_deletion(number));
    }
    assert!(store.flush_deletions().is_err());
    let waiting = store.0.deletions.waiting();
    assert!(waiting.len() <= MAX_WAITING_RECORDS, "{} records in memory", waiting.len());
    let DeletedSubject::Tag { tag, .. } = &waiting.back().unwrap().subject else { panic!("no tag") };
    assert_eq!(tag.as_str(), format!("v{}", 3 * MAX_WAITING_RECORDS - 1));
}

#[test]
fn the_observer_sees_each_deletion_also_of_a_storage_without_records() {
    #[derive(Debug, Default)]
    struct Counter(AtomicUsize);
    impl DeletionObserver for Counter {
        fn deleted(&self, deletion: &Deletion, _: SystemTime) {
            assert_eq!(deletion.actor.as_str(), "retention");
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let counter = Arc::new(Counter::default());
    store.observe_deletions(counter.clone());
    store.record_deletion(tag_deletion(1));
    store.flush_deletions().unwrap();
    assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    assert_eq!(lines(&store).len(), 0);
}
