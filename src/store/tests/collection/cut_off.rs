//! Leaders that are cut off, and those that come back late.

use std::sync::mpsc;
use std::time::Duration;

use quinistry_oci::{Algorithm, Digest, Manifest};

use super::super::{manifest, name, push_blob, put, resolve_tag};
use super::online::{
    self, GRACE, KeepTagged, NAME, Scene, content_keys, has_bytes, has_link, has_revision, options, push,
};
use crate::failpoint::once::failing;
use crate::layout::RepositoryKeys;
use crate::layout::collection::EpochKeys;
use crate::{
    Access, Cycle, CycleReport, Filesystem, GcOptions, LocalClock, Safeguard, Storage as _, Store,
    StoreError, StoreOptions, Tagged,
};

const FAILPOINTS: [&str; 8] =
    ["gc.owner", "gc.list", "gc.sealed", "gc.doom", "gc.doomed", "gc.deletes", "gc.done", "gc.swept"];

/// Fills a repository with garbage of each kind, with bytes in several links.
fn fill(store: &Store) {
    push(store, b"kept", "kept", &["v1"]).unwrap();
    push(store, b"garbage", "one", &[]).unwrap();
    push(store, b"garbage", "other", &["moved"]).unwrap();
    put(store, NAME, &manifest(b"kept", "kept"), &["moved"]).unwrap();
    push_blob(store, "b", b"garbage").unwrap();
    push_blob(store, "b", b"alone").unwrap();
}

/// Returns what a report tells of its sweep, and what stays.
fn told(report: &CycleReport) -> Vec<(u64, u64, u64)> {
    [&report.revisions, &report.links, &report.blobs]
        .map(|kind| (kind.doomed, kind.doomed_bytes, kind.found))
        .to_vec()
}

/// Returns what a cycle condemns that follows, with new garbage.
fn condemned_next(scene: &Scene, store: &Store) -> Vec<(u64, u64)> {
    push_blob(store, "b", b"later").unwrap();
    push(store, b"later, too", "later", &[]).unwrap();
    let report = scene.cycle(store);
    [report.revisions, report.links, report.blobs].map(|kind| (kind.condemned, kind.condemned_bytes)).to_vec()
}

/// Runs cycles by a replica until the first epoch is swept and the next one sealed.
fn go_on(scene: &Scene, store: &Store) -> CycleReport {
    for _ in 0..4 {
        let lead = scene.lead(store);
        match store.collect_online(&options(), &KeepTagged, &lead).unwrap() {
            Cycle::Done(report) if report.swept_epoch.is_some() => return report,
            Cycle::Done(_) | Cycle::Waits { .. } => scene.advance(GRACE),
            Cycle::LostLead => panic!("the only replica leads"),
        }
    }
    panic!("no cycle has swept");
}

#[test]
fn a_leader_that_is_cut_off_anywhere_is_followed_by_another_with_the_same_result() {
    let undisturbed = Scene::new();
    let store = undisturbed.replica();
    fill(&store);
    undisturbed.cycle(&store);
    undisturbed.advance(GRACE);
    let expected = (told(&go_on(&undisturbed, &store)), content_keys(&undisturbed.storage));
    assert_eq!(expected.0[2].0, 4, "two manifests, a layer and a blob");
    let expected_next = condemned_next(&undisturbed, &store);
    let counts: Vec<u64> = expected_next.iter().map(|(count, _)| *count).collect();
    assert_eq!(counts, [1, 2, 3], "a manifest, its layer, and a blob");
    let mut cuts = 0;
    for cut_cycle in 0..2 {
        for failpoint in FAILPOINTS {
            for passage in 1.. {
                let scene = Scene::new();
                let (first, second) = (scene.replica(), scene.replica());
                fill(&first);
                for _ in 0..cut_cycle {
                    scene.cycle(&first);
                }
                scene.advance(GRACE);
                let lead = scene.lead(&first);
                let (reached, cut) =
                    failing(failpoint, passage, 5, || first.collect_online(&options(), &KeepTagged, &lead));
                if !reached {
                    break;
                }
                assert!(cut.is_err(), "{failpoint} {passage}: {cut:?}");
                cuts += 1;
                drop(first);
                // A sealed epoch has a report, also if its leader did not return.
                let report = if cut_cycle == 1 && failpoint == "gc.sealed" {
                    second.last_collection().unwrap().unwrap()
                } else {
                    go_on(&scene, &second)
                };
                let result = (told(&report), content_keys(&scene.storage));
                let what = format!("cycle {cut_cycle}, {failpoint} {passage}");
                assert_eq!(result, expected, "{what}");
                assert_eq!(condemned_next(&scene, &second), expected_next, "{what}");
            }
        }
    }
    assert!(cuts >= 15, "{cuts}");
}

#[test]
fn an_epoch_without_a_seal_is_abandoned_and_its_number_is_not_used_again() {
    let scene = Scene::new();
    let (first, second) = (scene.replica(), scene.replica());
    fill(&first);
    scene.advance(GRACE);
    let lead = scene.lead(&first);
    let (_, cut) = failing("gc.list", 1, 5, || first.collect_online(&options(), &KeepTagged, &lead));
    assert!(cut.is_err());
    let report = scene.cycle(&second);
    assert_eq!((report.epoch, report.swept_epoch), (2, None));
    let seal = scene.storage.read(&EpochKeys(1).sealed(), 1000).unwrap().unwrap();
    assert!(std::str::from_utf8(&seal).unwrap().contains("\"abandoned\":true"));
    // A client whose view is of the time before finds the second one.
    let client = scene.replica();
    head(&client, b"alone").unwrap();
    scene.cycle(&second);
    assert!(has_bytes(&second, b"alone"));
}

fn head(store: &Store, bytes: &[u8]) -> Result<(), StoreError> {
    let (repository, digest) = (name("b"), Digest::sha256(bytes));
    store.holding_blob(&repository, &digest, || store.blob(&repository, &digest).map(drop))
}

#[test]
fn a_leader_whose_epoch_was_abandoned_seals_nothing() {
    let scene = std::sync::Arc::new(Scene::new());
    let view = scene.storage.view();
    let first = scene.replica_on(view.clone(), |_| {});
    let second = scene.replica();
    fill(&first);
    scene.advance(GRACE);
    let lead = scene.lead(&first);
    let (during, other) = (scene.clone(), second.clone());
    // While it writes its lists, another one comes.
    view.after_write("/list-", move || drop(during.cycle(&other)));
    let stopped = first.collect_online(&options(), &KeepTagged, &lead).unwrap();
    assert_eq!(stopped, Cycle::LostLead);
    assert_eq!(second.last_collection().unwrap().unwrap().epoch, 2);
}

/// Holds a leader's removal up until another leader has ended the sweep and a client has pushed the content
/// again. Returns true if the content is still there after the removal.
fn survives_a_zombie(removed: Option<Safeguard>) -> bool {
    let scene = std::sync::Arc::new(Scene::new());
    let view = scene.storage.view();
    let mut zombie = scene.replica_on(view.clone(), |_| {});
    if let Some(removed) = removed {
        zombie = zombie.without_safeguard(removed);
    }
    let (second, client) = (scene.replica(), scene.replica());
    push_blob(&zombie, NAME, b"layer").unwrap();
    scene.cycle(&zombie);
    scene.advance(GRACE);
    let lead = scene.lead(&zombie);
    let during = scene.clone();
    let (pushed, is_pushed) = mpsc::channel();
    let hook = move || {
        during.advance(Duration::from_mins(10));
        let lead = during.lead(&second);
        let ended = second.collect_online(&options(), &KeepTagged, &lead).unwrap();
        assert!(matches!(ended, Cycle::Done(_)), "{ended:?}");
        assert!(!has_bytes(&client, b"layer"));
        push_blob(&client, NAME, b"layer").unwrap();
        pushed.send(()).unwrap();
    };
    if removed == Some(Safeguard::Fence) {
        // Its removals are requests like others: held up before they are sent.
        let link = RepositoryKeys(&name(NAME)).layer_link(&Digest::sha256(b"layer"));
        view.before_remove(&link, hook);
    } else {
        view.before_removal(hook);
    }
    let stopped = zombie.collect_online(&options(), &KeepTagged, &lead);
    assert!(!matches!(stopped, Ok(Cycle::Done(_))), "{stopped:?}");
    is_pushed.try_recv().expect("the removal was held up");
    has_bytes(&zombie, b"layer") && has_link(&zombie, &Digest::sha256(b"layer"))
}

#[test]
fn nothing_is_removed_by_a_leader_that_was_stopped_between_lease_and_removal() {
    assert!(survives_a_zombie(None));
    assert!(!survives_a_zombie(Some(Safeguard::Fence)), "the test would find a missing fence");
}

#[test]
fn a_number_that_was_given_and_cleared_is_not_taken_again() {
    let scene = std::sync::Arc::new(Scene::new());
    let view = scene.storage.view();
    let first = scene.replica_on(view.clone(), |_| {});
    let second = scene.replica();
    fill(&first);
    scene.advance(GRACE);
    let lead = scene.lead(&first);
    let (during, other) = (scene.clone(), second.clone());
    // Stopped right before it creates the register of the first epoch.
    view.before_create("/owner", move || {
        for _ in 0..3 {
            during.cycle(&other);
        }
    });
    let stopped = first.collect_online(&options(), &KeepTagged, &lead).unwrap();
    assert_eq!(stopped, Cycle::LostLead);
    let report = scene.cycle(&second);
    assert_eq!((report.epoch, report.swept_epoch), (4, Some(3)));
}

#[test]
fn what_a_late_decision_of_another_leader_leaves_out_keeps_its_parts() {
    for (kind, is_whole) in [("r-0", true), ("l-0", false)] {
        let scene = Scene::new();
        let view = scene.storage.view();
        let store = scene.replica_on(view.clone(), |_| {});
        let digest = push(&store, b"layer", "untagged", &[]).unwrap();
        scene.cycle(&store);
        let (storage, key) = (scene.storage.view(), EpochKeys(1).folder().child("doomed").child(kind));
        // Another leader was stopped before this write, after it had found that everything is needed.
        view.before_create(&format!("/doomed/{kind}"), move || drop(storage.create(&key, b"").unwrap()));
        scene.cycle(&store);
        assert_eq!(has_revision(&store, &digest), is_whole);
        assert!(has_link(&store, &Digest::sha256(b"layer")), "{kind}");
        assert!(has_bytes(&store, b"layer"), "{kind}");
        for _ in 0..2 {
            scene.cycle(&store);
        }
        assert!(!has_revision(&store, &digest) && !has_bytes(&store, b"layer"));
    }
}

/// Failpoints between the begin of a decision and the end of its removals.
const WITHIN_A_SHARD: [&str; 3] = ["gc.doom", "gc.doomed", "gc.deletes"];

/// Fills a store with garbage of each kind, with a manifest by another hash and its referrer.
fn fill_with_all_names(store: &Store) {
    online::fill(store);
    let bytes = manifest(b"kept", "long name");
    let long = Digest::of(Algorithm::Sha512, &bytes);
    let parsed = Manifest::parse(&bytes, None).unwrap();
    store.put_manifest(&name(NAME), &bytes, &parsed, Tagged { digest: &long, tags: &[] }).unwrap();
    let about = online::referrer_of(&Digest::sha256(&bytes));
    put(store, NAME, &about, &["about"]).unwrap();
    store.delete_tag(&name(NAME), &"about".parse().unwrap()).unwrap();
}

/// Pushes what `fill` leaves as garbage, with a tag.
fn push_again(store: &Store) -> Result<(), StoreError> {
    push_blob(store, NAME, b"alone")?;
    push_blob(store, "other", b"of another")?;
    push_blob(store, NAME, b"named")?;
    push(store, b"garbage", "old", &["again"])?;
    put(store, NAME, &manifest(b"kept", "long name"), &["long"])?;
    Ok(())
}

fn check_pushed_again(store: &Store, what: &str) {
    for tag in ["again", "long"] {
        assert!(resolve_tag(store, NAME, tag).is_some_and(|digest| has_revision(store, &digest)), "{what}");
    }
    for layer in [&b"{}"[..], b"garbage", b"kept"] {
        assert!(has_bytes(store, layer) && has_link(store, &Digest::sha256(layer)), "{what}");
    }
}

#[test]
fn pushes_of_what_a_cut_off_sweep_removes_wait_for_no_cycle() {
    let mut cuts = 0;
    for failpoint in WITHIN_A_SHARD {
        for passage in 1.. {
            let scene = Scene::new();
            let (first, second, client) = (scene.replica(), scene.replica(), scene.replica());
            fill_with_all_names(&first);
            scene.cycle(&first);
            scene.advance(GRACE);
            let lead = scene.lead(&first);
            let (reached, cut) =
                failing(failpoint, passage, 5, || first.collect_online(&options(), &KeepTagged, &lead));
            if !reached {
                break;
            }
            assert!(cut.is_err(), "{failpoint} {passage}: {cut:?}");
            cuts += 1;
            let lead = scene.lead(&second);
            let ended = second.end_cut_off_removals(&options(), &lead).unwrap();
            let what = format!("{failpoint} {passage}: {ended:?} shards");
            push_again(&client).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(ended, Some(1), "{what}");
            assert_eq!(second.end_cut_off_removals(&options(), &lead).unwrap(), Some(0), "{what}");
            for _ in 0..3 {
                scene.cycle(&second);
            }
            check_pushed_again(&client, &what);
        }
    }
    assert!(cuts >= 9, "{cuts}");
}

#[test]
fn of_what_is_ended_without_a_mark_nothing_is_left_behind() {
    let undisturbed = Scene::new();
    let store = undisturbed.replica();
    fill_with_all_names(&store);
    (0..2).for_each(|_| drop(undisturbed.cycle(&store)));
    let expected = content_keys(&undisturbed.storage);
    for failpoint in WITHIN_A_SHARD {
        for passage in 1.. {
            let scene = Scene::new();
            let (first, second) = (scene.replica(), scene.replica());
            fill_with_all_names(&first);
            scene.cycle(&first);
            scene.advance(GRACE);
            let lead = scene.lead(&first);
            let (reached, _) =
                failing(failpoint, passage, 5, || first.collect_online(&options(), &KeepTagged, &lead));
            if !reached {
                break;
            }
            second.end_cut_off_removals(&options(), &scene.lead(&second)).unwrap();
            scene.cycle(&second);
            // What the empty decision has left out is condemned once more.
            if failpoint == "gc.doom" {
                (0..2).for_each(|_| drop(scene.cycle(&second)));
            }
            assert_eq!(content_keys(&scene.storage), expected, "{failpoint} {passage}");
        }
    }
}

#[test]
fn a_folder_whose_sweep_was_cut_off_takes_pushes_again() {
    for failpoint in WITHIN_A_SHARD {
        for passage in 1.. {
            let folder = super::super::folder();
            let open = || {
                let storage = Filesystem::open(folder.path(), Access::Write).unwrap();
                let clock = LocalClock::of(|| Duration::ZERO);
                Store::open_collected(storage, StoreOptions::default(), clock, Duration::from_mins(1), |_| {})
                    .unwrap()
            };
            let options = GcOptions { grace: Duration::ZERO, min_age: Duration::ZERO, ..options() };
            let cycle =
                |store: &Store| store.collect_online(&options, &KeepTagged, &store.lead().unwrap()).map(drop);
            let store = open();
            fill_with_all_names(&store);
            cycle(&store).unwrap();
            let (reached, cut) = failing(failpoint, passage, 5, || cycle(&store));
            if !reached {
                assert!(passage > 1, "{failpoint}");
                break;
            }
            assert!(cut.is_err(), "{failpoint} {passage}: {cut:?}");
            drop(store);
            let store = open();
            let what = format!("{failpoint} {passage}");
            let ended = store.end_cut_off_removals(&options, &store.lead().unwrap()).unwrap();
            push_again(&store).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(ended, Some(1), "{what}");
            for _ in 0..3 {
                cycle(&store).unwrap();
            }
            check_pushed_again(&store, &what);
        }
    }
}
