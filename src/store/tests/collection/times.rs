//! Clocks that are set, and answers that come late.

use std::fs::File;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use quinistry_oci::Digest;

use super::super::{name, push_blob};
use super::online::{GRACE, KeepTagged, NAME, Scene, options};
use crate::gc::online::subject::{Shard, SubjectKind};
use crate::layout::collection::EpochKeys;
use crate::waiting::set_yielding;
use crate::{
    Access, Cycle, Filesystem, GcOptions, LocalClock, Storage as _, Store, StoreError, StoreOptions,
};

/// Lifetime of a view.
const LIFETIME: Duration = Duration::from_mins(1);

#[test]
fn on_a_folder_the_grace_is_not_ended_by_a_clock_that_is_set_forward() {
    let folder = super::super::folder();
    let now = Arc::new(Mutex::new(Duration::from_hours(24)));
    let open = || {
        let shown = now.clone();
        let storage = Filesystem::open(folder.path(), Access::Write).unwrap();
        let clock = LocalClock::of(move || *shown.lock().unwrap());
        Store::open_collected(storage, StoreOptions::default(), clock, LIFETIME, |_| {}).unwrap()
    };
    let store = open();
    let cycle =
        |store: &Store| store.collect_online(&options(), &KeepTagged, &store.lead().unwrap()).unwrap();
    assert!(matches!(cycle(&store), Cycle::Done(_)));
    // Seen from a clock that was set forward, the seal is old.
    let sealed = folder.path().join(EpochKeys(1).sealed().to_string());
    File::options().write(true).open(&sealed).unwrap().set_modified(SystemTime::now() - 2 * GRACE).unwrap();
    assert!(matches!(cycle(&store), Cycle::Waits { until } if until > SystemTime::now() + GRACE / 2));
    *now.lock().unwrap() += GRACE;
    assert!(matches!(cycle(&store), Cycle::Done(report) if report.epoch == 2));
    // Of an epoch that another process has sealed, nothing but the time of the storage is known.
    let sealed = folder.path().join(EpochKeys(2).sealed().to_string());
    File::options().write(true).open(&sealed).unwrap().set_modified(SystemTime::now() - 2 * GRACE).unwrap();
    drop(store);
    assert!(matches!(cycle(&open()), Cycle::Done(report) if report.epoch == 3));
}

#[test]
fn a_removal_that_has_begun_does_not_wait_for_the_rate() {
    let scene = Scene::new();
    let (waits, waiting) = (Arc::<Mutex<Vec<_>>>::default(), scene.clone());
    let is_removing = {
        let storage = scene.storage.view();
        move || {
            let keys = EpochKeys(1);
            [SubjectKind::Revision, SubjectKind::Link, SubjectKind::Bytes].into_iter().any(|kind| {
                let shard = Shard { kind, number: 0 };
                storage.exists(&keys.doom(shard)).unwrap() && !storage.exists(&keys.done(shard)).unwrap()
            })
        }
    };
    let seen = waits.clone();
    let store = scene.replica_waiting(move |by| {
        seen.lock().unwrap().push((by, is_removing()));
        waiting.advance(by);
    });
    for i in 0..60_u8 {
        push_blob(&store, NAME, &[i]).unwrap();
    }
    scene.advance(GRACE);
    assert_eq!(scene.cycle(&store).links.condemned, 60);
    waits.lock().unwrap().clear();
    scene.advance(GRACE);
    let slow = GcOptions { rate: NonZeroU32::new(20).unwrap(), ..options() };
    let report = scene.cycle_by(&store, &slow, &KeepTagged).unwrap();
    assert_eq!((report.links.doomed, report.blobs.doomed), (60, 60));
    let waits = waits.lock().unwrap();
    assert!(waits.iter().map(|(by, _)| *by).sum::<Duration>() > Duration::from_secs(6), "{waits:?}");
    assert!(waits.iter().all(|(_, is_removing)| !is_removing), "{waits:?}");
}

#[test]
fn a_leader_that_loses_the_lead_while_it_waits_decides_nothing() {
    let scene = Scene::new();
    let stop = Arc::<AtomicBool>::default();
    let (stopped, waiting) = (stop.clone(), scene.clone());
    let is_over = Arc::<AtomicBool>::default();
    let over = is_over.clone();
    let store = scene.replica_waiting(move |by| {
        stopped.store(over.load(Ordering::Relaxed), Ordering::Relaxed);
        waiting.advance(by);
    });
    for i in 0..60_u8 {
        push_blob(&store, NAME, &[i]).unwrap();
    }
    scene.advance(GRACE);
    assert_eq!(scene.cycle(&store).links.condemned, 60);
    scene.advance(GRACE);
    let lead = scene.lead(&store).until(stop);
    is_over.store(true, Ordering::Relaxed);
    let slow = GcOptions { rate: NonZeroU32::new(20).unwrap(), ..options() };
    let ended = store.collect_online(&slow, &KeepTagged, &lead).unwrap();
    assert!(matches!(ended, Cycle::LostLead), "{ended:?}");
    for kind in [SubjectKind::Revision, SubjectKind::Link, SubjectKind::Bytes] {
        let doom = EpochKeys(1).doom(Shard { kind, number: 0 });
        assert!(!scene.storage.view().exists(&doom).unwrap(), "{kind:?}");
    }
}

/// Sends HEADs of a blob while the first of them refreshes a view that is too old, by requests that take longer than a
/// view counts. Returns the number of requests to the storage.
fn requests_of_heads(waiting: usize) -> usize {
    let scene = Arc::new(Scene::new());
    let view = scene.storage.view();
    let store = scene.replica_on(view.clone(), |_| {});
    let digest = push_blob(&store, NAME, b"layer").unwrap();
    let head = |store: &Store, digest: &Digest| {
        store.holding_blob(&name(NAME), digest, || store.blob(&name(NAME), digest).map(drop))
    };
    scene.advance(2 * LIFETIME);
    view.take_requests();
    let (heads, handles) = mpsc::channel();
    let (during, other, asked) = (scene.clone(), store.clone(), digest.clone());
    view.before_round(0, move || {
        for _ in 0..waiting {
            let (other, asked) = (other.clone(), asked.clone());
            let (arrived, arrival) = mpsc::channel();
            let waits = move || {
                // Called while another thread has the lock.
                set_yielding(Some(Box::new(move || {
                    arrived.send(()).ok();
                    thread::yield_now();
                })));
                head(&other, &asked)
            };
            heads.send(thread::spawn(waits)).unwrap();
            arrival.recv().unwrap();
        }
        during.advance(2 * LIFETIME);
    });
    let answers = [head(&store, &digest)].into_iter();
    let answers: Vec<_> = answers.chain(handles.iter().map(|head| head.join().unwrap())).collect();
    assert_eq!(answers.len(), 1 + waiting);
    assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Unvouched))), "{answers:?}");
    let requests = view.take_requests().all;
    // The next one refreshes the view.
    head(&store, &digest).unwrap();
    requests
}

#[test]
fn those_that_wait_for_a_view_share_the_failure_of_its_refreshment() {
    let alone = requests_of_heads(0);
    assert!(alone > 0);
    assert_eq!(requests_of_heads(3), alone);
}
