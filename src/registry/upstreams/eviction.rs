//! Removal of copies that clients do not use any more, and the record of their uses.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use quinistry_oci::{RepositoryName, WithCauses};
use quinistry_store::copies::{CopyLimits, EvictionInputs, EvictionReport};
use quinistry_store::{Lead, StoreError};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Upstreams;
use crate::collection::{bounds, leading};
use crate::{CollectionSettings, LimitedStore, Settings};

/// Time between two evictions. Each reads the records of all copies.
const EVICTION_INTERVAL: Duration = Duration::from_hours(1);

/// Time between two records of uses: a crash loses those since the last one.
const RECORD_INTERVAL: Duration = Duration::from_mins(1);

/// Evicts copies and records uses at intervals, for as long as the registry runs.
pub(crate) async fn run(stored: LimitedStore, settings: watch::Receiver<Arc<Settings>>) {
    tokio::join!(record_at_intervals(&stored, &settings), evict_at_intervals(&stored, &settings));
}

async fn record_at_intervals(stored: &LimitedStore, settings: &watch::Receiver<Arc<Settings>>) {
    loop {
        sleep(RECORD_INTERVAL).await;
        if !settings.borrow().read_only {
            record_uses(stored).await;
        }
    }
}

/// The first eviction comes an interval after the start: clients of a registry that was away for long use by then what
/// they need.
async fn evict_at_intervals(stored: &LimitedStore, settings: &watch::Receiver<Arc<Settings>>) {
    loop {
        // Short times of collection are for tests, which wait for evictions, too.
        sleep(EVICTION_INTERVAL.min(bounds::min_age())).await;
        let settings = settings.borrow().clone();
        let upstreams = settings.upstreams.clone().filter(|_| !settings.read_only);
        let Some((upstreams, lead)) = upstreams.zip(stored.store.lead()) else { continue };
        record_uses(stored).await;
        let evicting = stored.clone();
        let evicted = leading(lead, move |lead| {
            let now = evicting.store.now();
            upstreams.evict(&evicting, lead, (now, settings.collection.as_ref()))
        });
        // Only a panic, which is logged, or the end of the runtime gives no result.
        let Some(evicted) = evicted.await else { return };
        if let Err(error) = evicted {
            tracing::warn!(error = %WithCauses(&error), "eviction of copies of upstreams failed, trying again");
        }
    }
}

/// Writes the uses that wait in memory to the storage.
pub(crate) async fn record_uses(stored: &LimitedStore) {
    let waiting = stored.copy_uses().waiting();
    if waiting.is_empty() {
        return;
    }
    let store = stored.store.clone();
    // A panic is logged, and the end of the runtime ends this task as well.
    let Ok(recorded) = spawn_blocking(move || store.renew_copies(waiting)).await else { return };
    stored.copy_uses().note_recorded(recorded.renewed, Instant::now());
    if let Some(error) = recorded.error {
        tracing::warn!(error = %WithCauses(&error), "cannot record uses of copies of upstreams, trying again");
    }
}

impl Upstreams {
    /// Removes the copies of which the limits of their upstreams say so. Blocks.
    ///
    /// Copies of an upstream that is away stay, since they cannot be fetched again.
    pub(crate) fn evict(
        &self,
        stored: &LimitedStore,
        lead: &Lead,
        (now, collection): (SystemTime, Option<&CollectionSettings>),
    ) -> Result<EvictionReport, StoreError> {
        let limits: Vec<CopyLimits> = self.upstreams.iter().map(|upstream| upstream.copy_limits()).collect();
        let are_up: Vec<bool> =
            self.upstreams.iter().map(|upstream| upstream.counts(stored).circuit().is_up()).collect();
        let upstream_of = |name: &RepositoryName| {
            let upstream = self.table.locate(name).ok()??.upstream;
            are_up[upstream].then_some(upstream)
        };
        let coming_bytes = stored.coming_room().bytes(collection, now);
        let report = stored.store.evict_copies(EvictionInputs {
            limits: &limits,
            upstream_of: &upstream_of,
            is_protected: &|name, tag| self.prefetches(name, tag),
            is_in_use: &|name, digest| stored.copy_uses().is_waiting(name, digest),
            coming_bytes,
            min_idle: bounds::min_age(),
            now,
            lead: Some(lead),
        })?;
        stored.coming_room().note(report.freed_bytes, now);
        for (upstream, copies) in self.upstreams.iter().zip(&report.upstreams) {
            if copies.evicted > 0 {
                upstream.counts(stored).evicted.add(copies.evicted as u64);
                let (upstream, found, evicted) = (&upstream.name, copies.found, copies.evicted);
                tracing::info!(%upstream, found, evicted, "copies of upstream evicted");
            }
        }
        Ok(report)
    }
}

impl super::CachedUpstream {
    fn copy_limits(&self) -> CopyLimits {
        CopyLimits {
            upstream: self.name.to_string(),
            keep: self.settings.keep,
            max_bytes: self.settings.max_bytes,
        }
    }
}
