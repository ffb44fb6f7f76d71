//! Stores: pods on a few nodes that hold the content of applications, and from which generations stream it.
//!
//! A resource with `spec.store` has, beside its generations, a Service, a `NetworkPolicy` and a `DaemonSet`. The
//! Service comes first: its address is among the arguments of generations and stores. The `DaemonSet` follows
//! when generation 1 serves the digest, since the stores are pulled from it. No generation depends on a store.
//!
//! `plan`, `nodes`, `outages`, `objects`, `set`, `replacement` and `report` are pure; `live` and `apply` take a client.
//! Called by `reconcile`.

pub(super) mod access;
mod apply;
mod live;
mod memory;
mod nodes;
mod objects;
mod outages;
mod plan;
mod replacement;
mod report;
mod set;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::Api;

use super::cache::Cache;
use super::metrics::Write;
use super::observed::ObservedState;
use super::plan::ReconcilePlan;
use super::resource::ValidResource;
use super::{Operator, OperatorError, events, naming, watches};
use crate::api::names::STORE_ROLE;
use crate::api::names::labels::{RESOURCE, ROLE};
use crate::api::types;
use crate::crd::Reason;
use crate::lenient::Guarded;
use crate::one_line::one_line;

use live::{LiveObjects, Ownership, StorePod, StoreSet};
use memory::Memory;
pub(super) use objects::StoreKind;
use plan::{Step, StoreInput, StoreProblem};
use replacement::Replacement;
pub(super) use report::StoreReport;

/// Interval at which a resource with stores is planned: no watch shows its Service and its `NetworkPolicy`, for
/// which the operator would need rights to all of them. Also the time for which a refusal holds.
pub(super) const RECHECK_PERIOD: Duration = Duration::from_mins(1);

/// State that is kept for the stores of all resources.
#[derive(Debug)]
pub(super) struct Stores {
    pods: Arc<Cache<StorePod>>,
    sets: Arc<Cache<StoreSet>>,
    /// Set once the watches run: with the first resource that has stores.
    watches: OnceLock<()>,
    memory: Memory,
}

/// Observed stores of one resource.
#[derive(Debug, Default)]
pub(super) struct ObservedStores {
    /// URL of the stores for generations; `None` without stores.
    pub url: Option<String>,
    live: LiveObjects,
    problem: Option<StoreProblem>,
}

/// Outcome of handling the stores of one resource.
#[derive(Debug)]
pub(super) struct StoreOutcome {
    /// Report; `None` without stores.
    pub report: Option<StoreReport>,
    /// Time of the next plan; `None` without stores.
    pub due: Option<Duration>,
    /// Failure that is tried again.
    pub result: Result<(), OperatorError>,
}

// === impl Stores ===

impl Default for Stores {
    fn default() -> Self {
        let (pods, sets) = (Arc::new(Cache::new()), Arc::new(Cache::new()));
        Self { pods, sets, watches: OnceLock::new(), memory: Memory::default() }
    }
}

impl Stores {
    /// Removes the state of all resources but these.
    pub(super) fn retain(&self, alive: &BTreeSet<&str>) {
        self.memory.retain(alive);
    }

    /// Starts the watches of stores, once.
    fn watch(&self, operator: &Arc<Operator>) {
        self.watches.get_or_init(|| {
            let namespace = operator.namespace.as_deref();
            let config = watches::config().labels(&format!("{RESOURCE},{ROLE}={STORE_ROLE}"));
            watches::supervise(
                operator,
                "pods",
                watches::watch_into(
                    operator.clone(),
                    watches::api::<Guarded<types::Pod>>(operator.client.clone(), namespace),
                    config.clone(),
                    operator.requests.clone(),
                    self.pods.clone(),
                    |pod| live::pod(&pod),
                    |operator, pod| operator.resource(&pod.resource).into_iter().collect(),
                ),
            );
            let sets: Api<Guarded<types::DaemonSet>> = watches::api(operator.client.clone(), namespace);
            watches::supervise(
                operator,
                "daemonsets",
                watches::watch_into(
                    operator.clone(),
                    sets,
                    config,
                    operator.requests.clone(),
                    self.sets.clone(),
                    live::set,
                    |operator, set| operator.resource(&set.resource).into_iter().collect(),
                ),
            );
        });
    }
}

// === impl Operator ===

impl Operator {
    /// Observes the stores of a resource, and makes sure of their Service, whose address the generations need.
    /// `None` while the pods are being listed, or if the resource has changed: it is planned again.
    pub(super) async fn observe_stores(
        self: &Arc<Self>,
        quinistry: &ValidResource,
    ) -> Result<Option<ObservedStores>, OperatorError> {
        if quinistry.identity.is_leaving {
            return Ok(Some(ObservedStores::default()));
        }
        if quinistry.spec.store.is_none() {
            self.remove_stores(quinistry).await;
            return Ok(Some(ObservedStores::default()));
        }
        self.stores.watch(self);
        if !self.stores.pods.is_synced() || !self.stores.sets.is_synced() {
            return Ok(None);
        }
        let mut stores = ObservedStores::default();
        match live::observe(&self.client, quinistry, &self.living()).await {
            Ok(live) => stores.live = live,
            Err(failure) => stores.problem = Some(apply::denial(&failure).ok_or(failure)?),
        }
        self.stores.memory.mark_accepted(&quinistry.identity, &mut stores.live);
        // Two steps: a headless Service is deleted and created again.
        for _ in 0..2 {
            let outages = plan::outages(&stores.live);
            let step = plan::service(quinistry, &stores.live, &outages);
            if stores.problem.is_some() || quinistry.spec.suspend || step == Step::Keep {
                break;
            }
            if matches!(step, Step::Apply(_, None)) && !super::apply::exists(&self.client, quinistry).await? {
                return Ok(None);
            }
            stores.problem = self.take_step(quinistry, &mut stores.live, step).await?;
        }
        let service = stores.live.get(&StoreKind::Service).filter(|service| service.is_own());
        let address = service.and_then(|service| access::url(service.spec["clusterIP"].as_str()?));
        // Without a readable Service, generations stay as they are.
        let known = || {
            let sets = self.daemon_sets.select(|set| set.generation > 0 && set.is_of(&quinistry.identity));
            sets.iter().find_map(|set| access::url_in(&set.spec))
        };
        stores.url = address.or_else(known);
        Ok(Some(stores))
    }

    /// Carries out the plan of the stores behind that of the generations, unless that has failed, and reports.
    pub(super) async fn carry_out_stores(
        &self,
        quinistry: &ValidResource,
        stores: ObservedStores,
        observed: &ObservedState,
        chain: &ReconcilePlan,
        may_write: bool,
    ) -> StoreOutcome {
        let Some(store) = &quinistry.spec.store else {
            return StoreOutcome { report: None, due: None, result: Ok(()) };
        };
        let ObservedStores { url, mut live, mut problem } = stores;
        let identity = &quinistry.identity;
        let pods = self
            .stores
            .pods
            .select(|pod| pod.resource == identity.uid && pod.namespace == identity.namespace);
        let before = live.clone();
        let contested = self.stores.memory.contested(identity, Instant::now());
        let input = StoreInput {
            quinistry,
            store,
            nodes: &observed.nodes,
            live: &before,
            pods: &pods,
            contested: &contested,
            url: url.as_deref(),
            first: chain.generations.iter().find(|one| one.generation == 1),
            digest: chain.digest.as_deref(),
            now: Timestamp::now(),
        };
        let plan = plan::plan(&input);
        let mut result = Ok(());
        // With an outdated watch of resources, objects would be created again that the cluster collects.
        let creates = plan.steps.iter().any(|step| matches!(step, Step::Apply(_, None)));
        let mut may_write = may_write && !quinistry.spec.suspend;
        if may_write && creates {
            match super::apply::exists(&self.client, quinistry).await {
                Ok(exists) => may_write = exists,
                Err(failure) => (may_write, result) = (false, Err(failure)),
            }
        }
        if may_write {
            for step in plan.steps.clone() {
                if problem.is_some() {
                    break;
                }
                match self.take_step(quinistry, &mut live, step).await {
                    Ok(found) => problem = found,
                    Err(failure) => {
                        result = Err(failure);
                        break;
                    }
                }
            }
        }
        // The Service remembers the nodes that the DaemonSet has now, and their outages. Another object that is refused
        // must not make it forget an outage.
        let step = plan::service(quinistry, &live, &plan.outages);
        if may_write && result.is_ok() && matches!(step, Step::Apply(_, Some(_))) {
            match self.take_step(quinistry, &mut live, step).await {
                Ok(found) => problem = problem.or(found),
                Err(failure) => result = Err(failure),
            }
        }
        let due = plan.due().map_or(RECHECK_PERIOD, |due| due.min(RECHECK_PERIOD));
        let report = report::report(&StoreInput { live: &live, ..input }, &plan, problem);
        StoreOutcome { report: Some(report), due: Some(due), result }
    }

    /// Takes one step, and records its outcome. Returns the problem if it cannot be taken for long.
    async fn take_step(
        &self,
        quinistry: &ValidResource,
        live: &mut LiveObjects,
        step: Step,
    ) -> Result<Option<StoreProblem>, OperatorError> {
        let identity = &quinistry.identity;
        let memory = &self.stores.memory;
        match step {
            Step::Keep => Ok(None),
            Step::Refuse(problem) => Ok(Some(problem)),
            Step::Delete(kind, uid, version) => {
                match apply::delete(&self.client, quinistry, kind, &uid, &version).await {
                    Ok(()) => {
                        live.remove(&kind);
                        self.metrics.wrote(Write::Delete);
                        self.announce(quinistry, kind, true).await;
                        Ok(None)
                    }
                    Err(failure) => apply::problem(&failure).ok_or(failure).map(Some),
                }
            }
            Step::Replace(pod) => self.replace_store(quinistry, &pod).await.map(|()| None),
            Step::Apply(wanted, version) => {
                let (kind, hash) = (wanted.kind, wanted.hash());
                let key = format!("{} {}", kind.as_str(), naming::store_name(quinistry.name()));
                if let Some(problem) = memory.refused(identity, kind, hash, RECHECK_PERIOD) {
                    return Ok(Some(problem));
                }
                if let Some((times, _)) = self.histories.contested(identity, &key, hash) {
                    let message = format!(
                        "{key} was applied {times} times, and each time another writer has changed it; is there a second \
                         operator? It is tried less and less often"
                    );
                    return Ok(Some(StoreProblem { reason: Reason::Contested, message }));
                }
                // Notes of outages alone are no event.
                let is_note = live.get(&kind).is_some_and(|present| present.works_as(&wanted));
                match apply::apply(&self.client, quinistry, &wanted, version.as_deref()).await {
                    Ok(object) => {
                        self.histories.record_apply(identity, &key, hash);
                        memory.record_accepted(identity, kind, &object);
                        live.insert(kind, object);
                        self.metrics.wrote(Write::Apply);
                        if !is_note {
                            self.announce(quinistry, kind, false).await;
                        }
                        Ok(None)
                    }
                    Err(failure) => {
                        let Some(problem) = apply::problem(&failure) else { return Err(failure) };
                        let (namespace, name) = (&identity.namespace, &identity.name);
                        tracing::warn!(namespace, name, reason = %problem.reason, error = one_line(&failure),
                            "apply for stores refused by the API server");
                        memory.record_refused(identity, kind, hash, problem.clone());
                        Ok(Some(problem))
                    }
                }
            }
        }
    }

    /// Replaces a pod of an earlier template.
    async fn replace_store(&self, quinistry: &ValidResource, pod: &Replacement) -> Result<(), OperatorError> {
        let identity = &quinistry.identity;
        let (namespace, name) = (&identity.namespace, &identity.name);
        apply::replace(&self.client, quinistry, pod).await?;
        self.stores.memory.record_replaced(identity, pod, Instant::now());
        self.metrics.wrote(Write::Replace);
        let event = events::of_replaced_store(&pod.name, &pod.node);
        tracing::info!(namespace, name, "{}", event.note.as_deref().unwrap_or_default());
        events::publish(&self.recorder, &identity.object(), vec![event]).await;
        Ok(())
    }

    /// Deletes the objects of stores that a resource no longer has. Looks for them once for each specification:
    /// an operator may have been replaced since they were created.
    async fn remove_stores(&self, quinistry: &ValidResource) {
        let identity = &quinistry.identity;
        if quinistry.spec.suspend || self.stores.memory.is_clean(identity) {
            return;
        }
        for kind in StoreKind::ALL {
            let result = async {
                let found = live::read(&self.client, quinistry, kind, &self.living()).await?;
                let Some(object) = found.filter(|object| object.ownership == Ownership::Own) else {
                    return Ok(());
                };
                apply::delete(&self.client, quinistry, kind, &object.uid, &object.version).await?;
                self.metrics.wrote(Write::Delete);
                self.announce(quinistry, kind, true).await;
                Ok(())
            };
            match result.await {
                Ok(()) => {}
                // An operator without these rights has created none of these objects.
                Err(OperatorError::Apply { ref source, .. }) if apply::is_denied(source) => {}
                Err(failure) => {
                    let (namespace, name) = (&identity.namespace, &identity.name);
                    tracing::warn!(
                        namespace,
                        name,
                        error = one_line(&failure),
                        "cannot remove stores, trying again"
                    );
                    return;
                }
            }
        }
        self.stores.memory.record_clean(identity);
    }

    async fn announce(&self, quinistry: &ValidResource, kind: StoreKind, is_deleted: bool) {
        let identity = &quinistry.identity;
        let event = events::of_store(kind, &naming::store_name(quinistry.name()), is_deleted);
        let (namespace, name) = (&identity.namespace, &identity.name);
        tracing::info!(namespace, name, "{}", event.note.as_deref().unwrap_or_default());
        events::publish(&self.recorder, &identity.object(), vec![event]).await;
    }
}
