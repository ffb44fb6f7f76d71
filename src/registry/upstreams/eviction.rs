//! Removal of copies that clients do not use any more, and the record of their uses.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use quinistry_oci::{Digest, Reference, RepositoryName, WithCauses};
use quinistry_store::copies::{CopyLimits, EvictionInputs, EvictionReport};
use quinistry_store::{Lead, StoreError};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::question::Failure;
use super::{CachedUpstream, LocatedRepository, Upstreams, states};
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
    let mut recorded = None;
    loop {
        sleep(RECORD_INTERVAL).await;
        let settings = settings.borrow().clone();
        if !settings.read_only {
            record_uses(stored).await;
            states::record(stored, &settings, &mut recorded).await;
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
        // A panic is logged, and the end of the runtime ends this task at its next wait.
        let Some(evicted) = evicted.await else { continue };
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
    let Ok(recorded) = spawn_blocking(move || store.renew_copies(&waiting)).await else { return };
    stored.copy_uses().note_recorded(recorded.renewed, Instant::now());
    if let Some(error) = recorded.error {
        tracing::warn!(error = %WithCauses(&error), "cannot record uses of copies of upstreams, trying again");
    }
}

impl Upstreams {
    /// Removes the copies of which the limits of their upstreams say so. Blocks; call inside of a runtime.
    ///
    /// Copies stay that could not be fetched again: those of an upstream that has shown no content since the last
    /// eviction, and does not answer a question about one of them either.
    pub(crate) fn evict(
        &self,
        stored: &LimitedStore,
        lead: &Lead,
        (now, collection): (SystemTime, Option<&CollectionSettings>),
    ) -> Result<EvictionReport, StoreError> {
        let limits: Vec<CopyLimits> = self.cached.iter().map(|upstream| upstream.copy_limits()).collect();
        let answers: Vec<OnceLock<bool>> =
            self.cached.iter().map(|upstream| upstream.known_answer(stored)).collect();
        let upstream_of = |name: &RepositoryName| {
            let upstream = self.table.locate(name).ok()??.upstream;
            (answers[upstream].get() != Some(&false)).then_some(upstream)
        };
        let is_fetchable = |name: &RepositoryName, digest: &Digest| match self.table.locate(name) {
            // What the patterns exclude is not served, and is never asked for.
            Ok(Some(LocatedRepository { is_allowed: true, upstream, remote, .. })) => *answers[upstream]
                .get_or_init(|| self.cached[upstream].answers(stored, remote, digest.clone())),
            _ => true,
        };
        let coming_bytes = stored.coming_room().bytes(collection, now);
        let report = stored.store.evict_copies(EvictionInputs {
            limits: &limits,
            upstream_of: &upstream_of,
            is_protected: &|name, tag| self.prefetches(name, tag),
            is_in_use: &|name, digest| stored.copy_uses().is_waiting(name, digest),
            is_fetchable: &is_fetchable,
            coming_bytes,
            min_idle: bounds::min_age(),
            now,
            lead: Some(lead),
        })?;
        stored.coming_room().note(report.freed_bytes, now);
        for (upstream, copies) in self.cached.iter().zip(&report.upstreams) {
            if copies.evicted > 0 {
                upstream.counts(stored).evicted.add(copies.evicted as u64);
                let (upstream, found, evicted) = (&upstream.name, copies.found, copies.evicted);
                tracing::info!(%upstream, found, evicted, "copies of upstream evicted");
            }
        }
        Ok(report)
    }
}

impl CachedUpstream {
    /// Returns whether the upstream sends content, as far as its last answers tell.
    fn known_answer(&self, stored: &LimitedStore) -> OnceLock<bool> {
        let (mut circuit, now) = (self.counts(stored).circuit(), self.clock.now());
        if circuit.is_paused(now) {
            return OnceLock::from(false);
        }
        if circuit.take_answer(now) { OnceLock::from(true) } else { OnceLock::new() }
    }

    /// Asks the upstream whether it has a manifest. Returns true if it says so, or says that it has none. Blocks.
    fn answers(self: &Arc<Self>, stored: &LimitedStore, remote: RepositoryName, digest: Digest) -> bool {
        let (upstream, stored) = (self.clone(), stored.clone());
        let question = async move {
            let reference = Reference::Digest(digest);
            let head = upstream.upstream.head_manifest(&remote, &reference, None);
            match upstream.ask(&stored, upstream.cold_patience, head).await {
                Ok(_) | Err(Failure::NotFound) => true,
                Err(failure) => {
                    let upstream = &upstream.name;
                    tracing::info!(%upstream, ?failure, "upstream sends no content, its copies stay");
                    false
                }
            }
        };
        let runtime = Handle::current();
        // The end of the runtime cancels a task, but would have a timer on this thread panic.
        runtime.block_on(runtime.spawn(question)).unwrap_or(false)
    }

    fn copy_limits(&self) -> CopyLimits {
        CopyLimits {
            upstream: self.name.to_string(),
            keep: self.settings.keep,
            max_bytes: self.settings.max_bytes,
        }
    }
}
