//! Retention beside other replicas.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinistry_oci::Digest;

use super::storage::SharedMemory;
use super::{NAME, image, lead, put, replica, served};
use crate::retention::{Criteria, RetentionRun, TagRule};
use crate::tests::retention::{AT_ONCE, Prefix, deleted, policies, run, run_with, tags_of};
use crate::{LocalClock, Migration, Store, StoreError, migrate};

#[test]
fn a_push_by_another_replica_between_judgement_and_deletion_wins() {
    for storage in [SharedMemory::new(), SharedMemory::with_content_tags()] {
        let [one, other] = [replica(&storage.view()), replica(&storage.view())];
        let [old, new] = ["old", "new"].map(|note| image(&one, note));
        put(&one, NAME, &old, &["keep-1"]).unwrap();
        put(&one, NAME, &old, &["old"]).unwrap();
        put(&one, NAME, &old, &["older"]).unwrap();
        let report = run_with(&one, &policies(), AT_ONCE, || {
            put(&other, NAME, &new, &["old"]).unwrap();
        });
        assert_eq!((deleted(&report), report.changed), (vec!["older".to_owned()], 1));
        assert_eq!(served(&one, "old").unwrap(), Digest::sha256(&new));
        assert!(matches!(served(&other, "older"), Err(StoreError::ManifestUnknown)));
        assert_eq!(tags_of(&other, NAME), ["keep-1", "old"]);
    }
}

#[test]
fn the_same_image_pushed_again_under_the_tag_wins() {
    for storage in [SharedMemory::new(), SharedMemory::with_content_tags()] {
        storage.stop_clock();
        let [one, other] = [replica(&storage.view()), replica(&storage.view())];
        let old = image(&one, "old");
        put(&one, NAME, &old, &["old"]).unwrap();
        let report = run_with(&one, &policies(), AT_ONCE, || {
            storage.advance(Duration::from_secs(5));
            put(&other, NAME, &old, &["old"]).unwrap();
        });
        assert_eq!((deleted(&report).len(), report.changed), (0, 1));
        assert_eq!(served(&other, "old").unwrap(), Digest::sha256(&old));
    }
}

#[test]
fn a_push_at_any_point_of_the_deletion_leaves_the_tag_and_its_manifest() {
    let hour = Criteria { pushed_within: Some(Duration::from_hours(1)), ..Criteria::default() };
    let mut policies = policies();
    policies.list[0].keep_tags = vec![TagRule { tags: Arc::new(Prefix("old")), criteria: hour }];
    let mut rounds = 0;
    for round in 0.. {
        let storage = SharedMemory::new();
        let view = storage.view();
        let [one, other] = [replica(&view), replica(&storage.view())];
        let [old, new] = ["old", "new"].map(|note| image(&one, note));
        put(&one, NAME, &old, &["old"]).unwrap();
        storage.age("/_manifests/", Duration::from_hours(2));
        let pushed = new.clone();
        view.before_round(round, move || {
            put(&other, NAME, &pushed, &["old"]).unwrap();
        });
        run(&one, &policies, AT_ONCE);
        if view.forget_hook() {
            break;
        }
        rounds += 1;
        assert_eq!(served(&one, "old").unwrap(), Digest::sha256(&new), "before round {round}");
        one.delete_manifest(&super::name(NAME), &Digest::sha256(&new)).unwrap();
        assert!(served(&one, "old").is_err(), "the removal of the manifest finds the tag");
    }
    assert!(rounds >= 5, "{rounds}");
}

#[test]
fn a_replica_that_loses_the_lead_during_a_run_deletes_nothing_more() {
    let storage = SharedMemory::new();
    storage.stop_clock();
    let time = Arc::new(Mutex::new(Duration::from_hours(1)));
    let clock = time.clone();
    let store = Store::open_replica(storage.view(), LocalClock::of(move || *clock.lock().unwrap())).unwrap();
    let old = image(&store, "old");
    put(&store, NAME, &old, &["old"]).unwrap();
    lead(&store);
    let term = store.lead().unwrap();
    let as_leader = RetentionRun { lead: Some(&term), applies_changes_at_once: true };
    let report = run_with(&store, &policies(), as_leader, || {
        *time.lock().unwrap() += Duration::from_mins(10);
    });
    assert_eq!((deleted(&report).len(), report.lost_lead), (0, true));
    assert!(run(&store, &policies(), as_leader).lost_lead);
    assert_eq!(served(&store, "old").unwrap(), Digest::sha256(&old));
    assert_eq!(deleted(&run(&store, &policies(), AT_ONCE)), ["old"]);
}

#[test]
fn a_copied_tag_is_as_old_as_the_one_that_was_pushed() {
    let [from, to] = [SharedMemory::new(), SharedMemory::new()];
    let store = replica(&from.view());
    put(&store, NAME, &image(&store, "old"), &["old"]).unwrap();
    from.age("/_manifests/", Duration::from_hours(48));
    put(&store, NAME, &image(&store, "new"), &["new"]).unwrap();
    let wanted = Migration {
        verifies: false,
        overwrites: false,
        removes: false,
        is_dry_run: false,
        jobs: NonZeroUsize::MIN,
        tags_since: None,
    };
    assert_eq!(migrate(&from, &to, &wanted, &()).unwrap().faults, []);
    let day = Criteria { pushed_within: Some(Duration::from_hours(24)), ..Criteria::default() };
    let mut policies = policies();
    policies.list[0].keep_tags = vec![TagRule { tags: Arc::new(Prefix("")), criteria: day }];
    let copied = replica(&to.view());
    assert_eq!(deleted(&run(&copied, &policies, AT_ONCE)), ["old"]);
}
