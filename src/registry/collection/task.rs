//! Task that collects while the registry serves.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinistry_oci::WithCauses;
use quinistry_store::{Cycle, CycleReport, Lead, LeadGains, Store, StoreError, Writers};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::cycle::{lead_cycle, leading};
use super::hooks::CollectionHooks;
use super::schedule::{self, LastCycle};
use super::settings::CollectionSettings;
use crate::low_priority::at_low_priority;
use crate::metrics::CollectionMetrics;
use crate::settings::Settings;

/// Shortest pause between two looks at the storage, whatever the times say.
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause: times of the storage and of this machine may differ, and a clock may be set.
const MAX_PAUSE: Duration = Duration::from_hours(1);

/// End of one attempt to collect.
enum Attempt {
    /// The grace of the former cycle lasts until then.
    Waits(SystemTime),
    /// Another replica leads, or the registry stops.
    Ended,
    Collected(Box<CycleReport>),
}

/// Settings that a collector follows.
#[derive(Clone, Copy, PartialEq, Eq)]
struct InForce {
    is_read_only: bool,
    /// Collection; `None` for a registry that is read-only.
    collection: Option<CollectionSettings>,
}

/// End of the runtime, or a panic, which is logged.
struct RuntimeEnded;

/// Collector of one registry.
struct Collector {
    store: Store,
    settings: watch::Receiver<Arc<Settings>>,
    hooks: CollectionHooks,
    metrics: Arc<CollectionMetrics>,
    /// True if no removals are left that another leader or a failed cycle has begun.
    has_ended_others: bool,
    /// Last cycle, as the storage or this process knows it.
    last: Option<LastCycle>,
    /// Failures in a row.
    failures: u32,
    /// Text of the last failure, which is logged as a warning once.
    failure: Option<String>,
}

/// Refreshes the view of condemned content, and collects as the settings say, for as long as the registry
/// runs.
pub(crate) async fn run(
    store: Store,
    settings: watch::Receiver<Arc<Settings>>,
    hooks: CollectionHooks,
    metrics: Arc<CollectionMetrics>,
) {
    let collector = Collector {
        store: store.clone(),
        settings,
        hooks,
        metrics: metrics.clone(),
        has_ended_others: false,
        last: None,
        failures: 0,
        failure: None,
    };
    // A cycle may take hours, and must not keep the view from being refreshed.
    tokio::join!(refresh(&store, &metrics), collector.run());
}

/// Refreshes the view at intervals. Every writer needs it, because another replica may collect.
async fn refresh(store: &Store, metrics: &CollectionMetrics) {
    let mut has_failed = false;
    while let Some(interval) = store.gc_view_interval() {
        let refreshed = {
            let store = store.clone();
            spawn_blocking(move || store.refresh_gc_view()).await
        };
        // Only a panic, which is logged, or the end of the runtime ends the task.
        let Ok(refreshed) = refreshed else { return };
        match &refreshed {
            Ok(()) if has_failed => tracing::info!("view of condemned content refreshed again"),
            Ok(()) => {}
            Err(error) => {
                metrics.view_failed();
                let error = WithCauses(error);
                if has_failed {
                    tracing::debug!(%error, "cannot refresh view of condemned content");
                } else {
                    tracing::warn!(%error, "cannot refresh view of condemned content, pushes are refused soon");
                }
            }
        }
        has_failed = refreshed.is_err();
        sleep(interval).await;
    }
}

// === impl InForce ===

impl InForce {
    fn of(settings: &Settings) -> Self {
        let is_read_only = settings.read_only;
        Self { is_read_only, collection: settings.collection.filter(|_| !is_read_only) }
    }
}

// === impl Collector ===

impl Collector {
    async fn run(mut self) {
        let mut gains = self.store.lead_gains();
        loop {
            let settings = self.settings.borrow_and_update().clone();
            let in_force = InForce::of(&settings);
            self.metrics.follow(in_force.collection.as_ref());
            let Ok(pause) = self.turn(&settings, in_force).await else { return };
            let pause = pause.map(|pause| pause.clamp(MIN_PAUSE, MAX_PAUSE));
            if self.wait(pause, &mut gains, in_force).await.is_none() {
                return;
            }
        }
    }

    /// Ends what was cut off, whatever the times say, and collects if it is time to. Returns the pause until the next
    /// turn, if it does not only come with other settings or the lead; an error at the end of the runtime.
    async fn turn(
        &mut self,
        settings: &Arc<Settings>,
        in_force: InForce,
    ) -> Result<Option<Duration>, RuntimeEnded> {
        if !self.has_ended_others
            && !in_force.is_read_only
            && let Some(lead) = self.store.lead()
        {
            match self.end_others(in_force, lead).await.ok_or(RuntimeEnded)? {
                Ok(ended) => self.has_ended_others = ended.is_some(),
                Err(error) => return Ok(Some(self.failed("end of removals that were cut off", &error))),
            }
        }
        let Some(wanted) = in_force.collection else {
            self.metrics.retention.forget();
            return Ok(None);
        };
        self.step(settings, &wanted).await.ok_or(RuntimeEnded).map(Some)
    }

    /// Waits for the end of a pause, the lead, or other settings. Returns `None` when the registry has ended.
    async fn wait(
        &mut self,
        pause: Option<Duration>,
        gains: &mut LeadGains,
        in_force: InForce,
    ) -> Option<()> {
        let pause = async {
            match pause {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pause => Some(()),
            () = gains.next() => {
                self.has_ended_others = false;
                Some(())
            }
            changed = self.settings.wait_for(|settings| InForce::of(settings) != in_force) => {
                changed.is_ok().then_some(())
            }
        }
    }

    /// Collects if it is time to. Returns the pause until the next step; `None` at the end of the runtime.
    async fn step(&mut self, settings: &Arc<Settings>, wanted: &CollectionSettings) -> Option<Duration> {
        let Some(lead) = self.store.lead() else {
            // The lead comes with a notice, and neither the times nor the runs of the other leader are this one's.
            self.metrics.retention.forget();
            self.last = None;
            self.has_ended_others = false;
            return Some(MAX_PAUSE);
        };
        let read = match self.last {
            Some(last) => Ok(Some(last)),
            None => self.read_last().await?,
        };
        let last = match read {
            Ok(last) => last,
            Err(error) => return Some(self.failed("collection", &error)),
        };
        let wait = schedule::wait(wanted, last, self.store.storage_time());
        if !wait.is_zero() {
            return Some(wait);
        }
        let attempt = self.attempt(settings, wanted, lead).await?;
        self.has_ended_others = matches!(attempt, Ok(Attempt::Waits(_) | Attempt::Collected(_)));
        match attempt {
            Ok(Attempt::Waits(until)) => {
                Some(until.duration_since(self.store.storage_time()).unwrap_or_default())
            }
            Ok(Attempt::Ended) => Some(MIN_PAUSE),
            Ok(Attempt::Collected(report)) => {
                self.failures = 0;
                self.failure = None;
                // Kept here, too: the storage has no report of a dry cycle.
                self.last = Some(LastCycle::from(&*report));
                self.metrics.succeeded(&report, self.store.storage_time());
                Some(schedule::wait(wanted, self.last, self.store.storage_time()))
            }
            Err(error) => Some(self.failed("collection", &error)),
        }
    }

    async fn read_last(&self) -> Option<Result<Option<LastCycle>, StoreError>> {
        let store = self.store.clone();
        let read = spawn_blocking(move || store.last_collection()).await.ok()?;
        Some(read.map(|report| {
            let report = report?;
            self.metrics.show(&report);
            Some(LastCycle::from(&report))
        }))
    }

    async fn attempt(
        &self,
        settings: &Arc<Settings>,
        wanted: &CollectionSettings,
        lead: Lead,
    ) -> Option<Result<Attempt, StoreError>> {
        let (store, settings, wanted) = (self.store.clone(), settings.clone(), *wanted);
        let (hooks, metrics) = (self.hooks.clone(), self.metrics.clone());
        leading(lead, move |lead| {
            at_low_priority(|| {
                let _running = metrics.run();
                Ok(match lead_cycle(&store, &settings, &wanted, lead, &hooks)? {
                    Cycle::Waits { until } => Attempt::Waits(until),
                    Cycle::LostLead => Attempt::Ended,
                    Cycle::Done(report) => Attempt::Collected(Box::new(report)),
                })
            })
        })
        .await
    }

    /// Ends the removals that another leader or a failed cycle has begun, also if nothing is collected: pushes of that
    /// content wait for it. Returns the number of shards; `None` if the lead was lost.
    async fn end_others(&self, in_force: InForce, lead: Lead) -> Option<Result<Option<usize>, StoreError>> {
        // Without settings, other programs may write: the bytes go to the trash.
        let settings = in_force.collection.unwrap_or(CollectionSettings::of(Writers::Foreign));
        let store = self.store.clone();
        leading(lead, move |lead| store.end_cut_off_removals(&settings.options(), lead)).await
    }

    /// Logs a failure, a repeated one only for those who debug. Returns the pause until the next attempt.
    fn failed(&mut self, what: &str, error: &StoreError) -> Duration {
        self.metrics.failed();
        if matches!(error, StoreError::DamagedIn { .. }) {
            self.metrics.found_damaged(1);
        }
        self.failures = self.failures.saturating_add(1);
        let pause = schedule::pause(self.failures);
        let text = WithCauses(error).to_string();
        if self.failure.as_ref() == Some(&text) {
            tracing::debug!(error = %text, ?pause, "{what} failed again");
        } else {
            tracing::warn!(error = %text, ?pause, "{what} failed, trying again");
        }
        self.failure = Some(text);
        pause
    }
}
