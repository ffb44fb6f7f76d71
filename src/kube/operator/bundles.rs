//! Bundles: names of images for the stores and generations of a `Quinistry`, and the proof that nodes can
//! serve them.
//!
//! Two loops run beside the reconciler, since bundles concern no `DaemonSet`, and must not hold up one. The
//! first plans the bundles of each namespace whenever one changes, and writes the `ConfigMap` of names and
//! the statuses; the second asks a few nodes in each round. `plan`, `proof`, `refusals` and `status` are
//! pure; `watch`, `write`, `announce` and `ask` take clients. Status is no input here either: the history of
//! images is in the `ConfigMap`.

mod announce;
mod ask;
mod documents;
mod observed;
mod parse;
mod pass;
mod plan;
mod proof;
mod refusals;
mod rounds;
mod status;
mod watch;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use quinistry_client::ClientError;
use tokio::sync::Notify;

use super::cache::Cache;
use super::{Operator, watches};
use crate::api::names::labels::NAMES;
use crate::crd::BundleStatus;
use crate::lenient::Guarded;
use crate::sorted::Sorted as _;
use ask::Asker;
use documents::{HISTORY_KEY, HistoryDocument};
use observed::{ObservedBundle, ObservedNames, WireBundle, WireNames};
use plan::Registry;
use proof::Proofs;
use refusals::Refusals;

/// Bundles of all namespaces, and what is known about them.
pub(super) struct Bundles {
    observed: Arc<Cache<ObservedBundle>>,
    names: Arc<Cache<ObservedNames>>,
    /// Statuses that were written last, by UID of the bundle: the cache may lag behind.
    reported: Mutex<HashMap<String, BundleStatus>>,
    proofs: Mutex<Proofs>,
    refusals: Mutex<Refusals>,
    /// Registries whose nodes are asked, by UID.
    targets: Mutex<BTreeMap<String, Registry>>,
    asker: Asker,
    /// Tells that the first list of bundles has come.
    listed: Notify,
    /// Wakes the loop that plans.
    changed: Notify,
    /// Wakes the loop that asks nodes.
    asked_for: Notify,
}

// === impl Bundles ===

impl Bundles {
    pub(super) fn new() -> Result<Self, ClientError> {
        Ok(Self {
            observed: Arc::new(Cache::new()),
            names: Arc::new(Cache::new()),
            reported: Mutex::default(),
            proofs: Mutex::default(),
            refusals: Mutex::default(),
            targets: Mutex::default(),
            asker: Asker::new()?,
            listed: Notify::new(),
            changed: Notify::new(),
            asked_for: Notify::new(),
        })
    }

    /// Has all bundles planned again, for example since a `Quinistry` has changed or this operator leads now.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Watches, plans and asks until dropped. (Client required.)
    pub(super) async fn run(operator: Arc<Operator>) {
        let watches = [watch_bundles(operator.clone()).boxed(), watch_names(operator.clone()).boxed()];
        let loops = [pass::run(operator.clone()).boxed(), rounds::run(operator).boxed()];
        join_all(watches.into_iter().chain(loops)).await;
    }

    /// Returns true if the caches are complete and current. The operator works without them.
    fn is_synced(&self) -> bool {
        self.observed.is_synced() && self.names.is_synced()
    }
}

/// Returns the UIDs of the bundles that a `ConfigMap` of names with this data holds: of several resources
/// with stores, the one whose `ConfigMap` holds a bundle goes on serving it.
pub(crate) fn held_bundles(data: &BTreeMap<String, String>) -> BTreeSet<String> {
    let history = HistoryDocument::read(data.get(HISTORY_KEY).map(String::as_str));
    history.0.into_keys().into_set()
}

async fn watch_bundles(operator: Arc<Operator>) {
    let api = watches::api::<Guarded<WireBundle>>(operator.client.clone(), operator.namespace.as_deref());
    let (cache, config) = (operator.bundles.observed.clone(), watches::config());
    let on_change = || {
        operator.bundles.listed.notify_one();
        operator.bundles.wake();
    };
    watch::watch_into(api, config, cache, observed::bundle, on_change).await;
}

async fn watch_names(operator: Arc<Operator>) {
    // Without bundles no right to `ConfigMaps` is needed either.
    while !operator.bundles.observed.is_synced() {
        operator.bundles.listed.notified().await;
    }
    let api = watches::api::<Guarded<WireNames>>(operator.client.clone(), operator.namespace.as_deref());
    let (cache, config) = (operator.bundles.names.clone(), watches::config().labels(NAMES));
    let view = |map: Guarded<WireNames>| map.readable().and_then(observed::names);
    watch::watch_into(api, config, cache, view, || operator.bundles.wake()).await;
}
