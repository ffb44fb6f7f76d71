//! Bundles: names of images for the stores and generations of a `Quinistry`, and the proof that nodes can
//! serve them.
//!
//! Two loops run beside the reconciler, since bundles concern no `DaemonSet`, and must not hold up one. The
//! first plans the bundles of each namespace whenever one changes, and writes the `ConfigMap` of names and
//! the statuses; the second asks a few nodes in each round. `plan`, `proof` and `status` are pure; `watch`,
//! `write` and `ask` take clients. Status is no input here either: the history of images is in the
//! `ConfigMap`.

mod ask;
mod documents;
mod observed;
mod parse;
mod pass;
mod plan;
mod proof;
mod rounds;
mod status;
mod watch;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use kube::{Api, Client};
use quinistry_client::ClientError;
use tokio::sync::Notify;

use super::cache::Cache;
use super::{Operator, watches};
use crate::api::names::labels::NAMES;
use crate::crd::BundleStatus;
use crate::lenient::Guarded;
use ask::Asker;
use observed::{ObservedBundle, ObservedNames, WireBundle, WireNames};
use plan::Registry;
use proof::Proofs;

/// Bundles of all namespaces, and what is known about them.
pub(super) struct Bundles {
    bundles: Cache<ObservedBundle>,
    names: Cache<ObservedNames>,
    /// Statuses that were written last, by UID of the bundle: the cache may lag behind.
    reported: Mutex<HashMap<String, BundleStatus>>,
    proofs: Mutex<Proofs>,
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
            bundles: Cache::new(),
            names: Cache::new(),
            reported: Mutex::default(),
            proofs: Mutex::default(),
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
        let client = operator.client.clone();
        let namespace = operator.namespace.as_deref();
        let this = &operator.bundles;
        let bundles = watch::watch_into(
            api::<WireBundle>(client.clone(), namespace),
            watches::config(),
            &this.bundles,
            observed::bundle,
            || {
                this.listed.notify_one();
                this.wake();
            },
        );
        let names = async {
            // Without bundles no right to `ConfigMaps` is needed either.
            while !this.bundles.is_synced() {
                this.listed.notified().await;
            }
            watch::watch_into(
                api::<WireNames>(client, namespace),
                watches::config().labels(NAMES),
                &this.names,
                |map| map.readable().and_then(observed::names),
                || this.wake(),
            )
            .await;
        };
        tokio::join!(bundles, names, pass::run(&operator), rounds::run(&operator));
    }

    /// Returns true if the caches are complete and current. The operator works without them.
    fn is_synced(&self) -> bool {
        self.bundles.is_synced() && self.names.is_synced()
    }
}

/// Returns the name of the `ConfigMap` of names for a `Quinistry`.
pub(super) fn map_name(registry: &str) -> String {
    format!("{registry}-names")
}

fn api<K>(client: Client, namespace: Option<&str>) -> Api<Guarded<K>>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}
