//! One cycle of collection, with the work before and after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use quinistry_oci::WithCauses;
use quinistry_store::{Cycle, Lead, Store, StoreError};
use tokio::task::spawn_blocking;

use super::hooks::{CollectionHooks, LeaderWork};
use super::schedule::{self, LastCycle};
use super::settings::CollectionSettings;
use crate::State;
use crate::settings::Settings;

/// Sets the flag of running work when the task is dropped: a blocking thread ends only by itself.
struct StopOnDrop(Arc<AtomicBool>);

// === impl StopOnDrop ===

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl State {
    /// Leads one cycle of collection at once, as [`collect_garbage`](Self::collect_garbage) does when it is time to: by
    /// the settings, with the work of `hooks` beside it. Neither interval nor window count. The cycle ends early when
    /// the future is dropped.
    ///
    /// Returns `None` without a storage or [`Settings::collection`], and at the end of the runtime.
    pub async fn lead_cycle(&self, hooks: CollectionHooks, lead: Lead) -> Option<Result<Cycle, StoreError>> {
        let (store, settings) = (self.0.stored.as_ref()?.store.clone(), self.0.settings.current());
        let wanted = settings.collection?;
        leading(lead, move |lead| {
            if !lead.still() {
                return Ok(Cycle::LostLead);
            }
            // Else the work before the cycle is done, though the cycle has to wait.
            if let Some(until) = grace_end(&store, &wanted)? {
                return Ok(Cycle::Waits { until });
            }
            lead_cycle(&store, &settings, &wanted, lead, &hooks)
        })
        .await
    }
}

/// Runs work of the leader on a thread that may block, and stops it when this future is dropped. Returns `None` at the
/// end of the runtime.
pub(crate) async fn leading<T: Send + 'static>(
    lead: Lead,
    work: impl FnOnce(&Lead) -> T + Send + 'static,
) -> Option<T> {
    let stop = StopOnDrop(Arc::default());
    let lead = lead.until(stop.0.clone());
    let done = spawn_blocking(move || work(&lead)).await;
    drop(stop);
    done.ok()
}

/// Returns the end of the last cycle's grace, if it is in the future and a cycle waits for it.
fn grace_end(store: &Store, wanted: &CollectionSettings) -> Result<Option<SystemTime>, StoreError> {
    let now = store.storage_time();
    let last = store.last_collection()?.map(|report| LastCycle::from(&report));
    let wait = schedule::grace_left(wanted, last, now);
    Ok((!wait.is_zero()).then(|| now + wait))
}

/// Makes one cycle, with the work before and after it. Blocks.
pub(crate) fn lead_cycle(
    store: &Store,
    settings: &Settings,
    wanted: &CollectionSettings,
    lead: &Lead,
    hooks: &CollectionHooks,
) -> Result<Cycle, StoreError> {
    let work = |hooks: &[(&'static str, LeaderWork)]| {
        for (name, hook) in hooks {
            // Content that this work keeps too long is not lost, so that the cycle goes on.
            if let Err(error) = hook(store, settings, lead) {
                tracing::warn!(work = name, error = %WithCauses(&error), "work of the leader failed");
            }
        }
    };
    work(&hooks.before);
    let rules = (hooks.rules)(store, settings);
    let cycle = store.collect_online(&wanted.options(), &*rules, lead);
    work(&hooks.after);
    cycle
}
