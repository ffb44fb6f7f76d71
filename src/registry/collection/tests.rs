//! Tests of the task on a store in memory.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinistry_store::{Memory, Store, Writers};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{CollectionHooks, CollectionSettings, LeaderWork};
use crate::metrics::{CollectionMetrics, RegistryMetrics};
use crate::{Settings, State};

/// Longest wait for something that takes milliseconds.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Registry whose collection runs, with a counter of its cycles.
struct Collecting {
    state: State,
    store: Store,
    metrics: Arc<RegistryMetrics>,
    cycles: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

/// Returns hooks with one before and one after each cycle.
fn hooks(before: LeaderWork, after: LeaderWork) -> CollectionHooks {
    CollectionHooks {
        before: vec![("before", before)],
        after: vec![("after", after)],
        ..CollectionHooks::default()
    }
}

fn settings(collection: Option<CollectionSettings>) -> Settings {
    Settings { collection, ..Settings::default() }
}

fn enabled() -> CollectionSettings {
    CollectionSettings { rate: std::num::NonZeroU32::MAX, ..CollectionSettings::of(Writers::Ours) }
}

// === impl Collecting ===

impl Collecting {
    fn start(settings: Settings) -> Self {
        let cycles = Arc::<AtomicU32>::default();
        let counted = cycles.clone();
        let after: LeaderWork = Arc::new(move |_, _, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        Self::with(settings, hooks(Arc::new(|_, _, _| Ok(())), after), cycles)
    }

    fn with(settings: Settings, hooks: CollectionHooks, cycles: Arc<AtomicU32>) -> Self {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let state = State::stored(store.clone(), settings);
        let collection = Arc::<CollectionMetrics>::default();
        let metrics = Arc::<RegistryMetrics>::default();
        metrics.watch_collection(collection.clone());
        let task = tokio::spawn(state.collect_garbage(hooks, collection));
        Self { state, store, metrics, cycles, task }
    }

    async fn until(&self, is_true: impl Fn() -> bool) {
        let wait = async {
            while !is_true() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(TIMEOUT, wait).await.expect("it becomes true");
    }

    /// Returns the value of a metric without labels.
    fn metric(&self, name: &str) -> u64 {
        let page = self.metrics.render();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {page}")).parse().unwrap()
    }

    fn cycles(&self) -> u32 {
        self.cycles.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_runs_at_once_and_is_reported() {
    let collecting = Collecting::start(settings(Some(enabled())));
    collecting.until(|| collecting.metric("quinistry_gc_last_success_timestamp_seconds") > 0).await;
    assert_eq!(collecting.cycles(), 1);
    assert_eq!(collecting.metric("quinistry_gc_enabled"), 1);
    assert_eq!(collecting.metric("quinistry_gc_failures_total"), 0);
    let report = collecting.store.last_collection().unwrap().expect("a report");
    assert_eq!(collecting.metric("quinistry_gc_epoch"), report.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_collected_until_settings_ask_for_it_and_while_read_only() {
    let collecting = Collecting::start(settings(None));
    collecting.state.replace_settings(Settings { read_only: true, ..settings(Some(enabled())) });
    // Settings that are in force are visible in the metrics; these are not.
    timeout(Duration::from_millis(50), collecting.until(|| collecting.cycles() > 0)).await.unwrap_err();
    assert_eq!(collecting.metric("quinistry_gc_enabled"), 0);
    collecting.state.replace_settings(settings(Some(enabled())));
    collecting.until(|| collecting.cycles() == 1).await;
    assert_eq!(collecting.metric("quinistry_gc_enabled"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_the_leader_goes_before_and_after_a_cycle_and_its_failure_stops_nothing() {
    let order = Arc::<Mutex<Vec<&str>>>::default();
    let work = |name: &'static str| -> LeaderWork {
        let order = order.clone();
        Arc::new(move |store, _, _| {
            order.lock().unwrap().push(if store.last_collection()?.is_some() { "report" } else { name });
            Err(quinistry_store::StoreError::BlobUnknown)
        })
    };
    let collecting =
        Collecting::with(settings(Some(enabled())), hooks(work("before"), work("after")), Arc::default());
    collecting.until(|| order.lock().unwrap().len() == 2).await;
    assert_eq!(*order.lock().unwrap(), ["before", "report"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_task_ends_with_the_registry_also_within_a_cycle() {
    let (entered, ended) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let (enters, ends) = (entered.clone(), ended.clone());
    let before: LeaderWork = Arc::new(move |_, _, lead| {
        enters.store(1, Ordering::SeqCst);
        while lead.still() {
            std::thread::sleep(Duration::from_millis(1));
        }
        ends.store(1, Ordering::SeqCst);
        Ok(())
    });
    let hooks = hooks(before, Arc::new(|_, _, _| Ok(())));
    let collecting = Collecting::with(settings(Some(enabled())), hooks, Arc::default());
    collecting.until(|| entered.load(Ordering::SeqCst) == 1).await;
    collecting.task.abort();
    collecting.until(|| ended.load(Ordering::SeqCst) == 1).await;
    assert!(collecting.store.last_collection().unwrap().is_none());
}
