//! Clocks that are set.

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::online::{GRACE, KeepTagged, Scene, options};
use crate::layout::collection::EpochKeys;
use crate::{Access, Cycle, Filesystem, LocalClock, Store, StoreOptions};

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
