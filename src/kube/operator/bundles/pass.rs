//! A pass over all bundles: for each namespace it plans, writes the `ConfigMaps` of names, and reports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use super::Bundles;
use super::announce::announce;
use super::observed::{ObservedBundle, ObservedNames};
use super::plan::{NamespacePlan, Registry, Verdict, WantedNames, plan};
use super::status::{Known, status};
use super::write::{Written, foreign, read_names, write_names, write_status};
use crate::api::locks::lock;
use crate::one_line::one_line;
use crate::operator::build::hash;
use crate::operator::claims::{self, Claim};
use crate::operator::naming::names_map_name;
use crate::operator::{Operator, OperatorError, events};
use crate::sorted::Sorted as _;

/// Interval of the passes without a change: watches may lose events, and answers of nodes grow old.
const PASS_INTERVAL: Duration = Duration::from_mins(1);

/// Pause before a pass that failed is repeated.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// State of one registry after its `ConfigMap` was written.
#[derive(Debug, Default)]
struct RegistryState {
    rejection: Option<Verdict>,
    is_unreachable: bool,
    /// True if the write failed for a reason that passes: nothing is reported.
    has_failed: bool,
}

/// Registries of one namespace after a pass, by UID.
#[derive(Debug, Default)]
struct PassedRegistries {
    /// Registries whose nodes are to be asked.
    targets: BTreeMap<String, Registry>,
    /// Registries with a `ConfigMap` in the plan, with stores or without.
    planned: BTreeSet<String>,
}

/// Plans all bundles whenever one changes, until dropped. (Client required.)
pub(super) async fn run(operator: Arc<Operator>) {
    let mut logged = None;
    loop {
        let mut pause = PASS_INTERVAL;
        if operator.leadership.holds() && operator.is_synced() && operator.bundles.is_synced() {
            match pass(&operator).await {
                Ok(()) => logged = None,
                Err(error) => {
                    pause = error.category().pause(1).map_or(PASS_INTERVAL, |pause| pause.max(RETRY_PAUSE));
                    let error = one_line(&error);
                    if logged.as_ref() != Some(&error) {
                        tracing::warn!(retry = ?pause, error, "cannot carry out bundles");
                        logged = Some(error);
                    }
                }
            }
        }
        // A refused write is tried again when its time has come.
        let due = lock(&operator.bundles.refusals).due(Instant::now());
        pause = due.map_or(pause, |due| pause.min(due.max(RETRY_PAUSE)));
        let _ = tokio::time::timeout(pause, operator.bundles.changed.notified()).await;
        // Changes rarely come alone.
        tokio::time::sleep(operator.debounce.delay()).await;
    }
}

/// Plans and carries out the bundles of each namespace. Returns the last failure; it stops no other
/// namespace.
async fn pass(operator: &Arc<Operator>) -> Result<(), OperatorError> {
    let this = &operator.bundles;
    let mut result = Ok(());
    let (mut asked, mut planned) = (BTreeMap::new(), BTreeSet::new());
    for (namespace, registries) in namespaces(operator) {
        match pass_over(operator, &namespace, &registries).await {
            Ok(passed) => {
                asked.extend(passed.targets);
                planned.extend(passed.planned);
            }
            Err(error) => {
                // What was asked there goes on being asked.
                let targets = lock(&this.targets);
                let there = targets.iter().filter(|(_, target)| target.identity.namespace == namespace);
                asked.extend(there.map(|(uid, target)| (uid.clone(), target.clone())));
                planned.extend(registries.iter().map(|registry| registry.identity.uid.clone()));
                result = Err(error);
            }
        }
    }
    let registries = asked.keys().cloned().into_set();
    lock(&this.proofs).retain(&registries);
    lock(&this.refusals).retain(&planned);
    *lock(&this.targets) = asked;
    let alive = this.observed.select(|_| true).iter().map(|bundle| bundle.uid.clone()).into_set();
    lock(&this.reported).retain(|uid, _| alive.contains(uid));
    operator.metrics.keep_bundles(|uid| alive.contains(uid));
    result
}

/// Returns the registries of each namespace that has bundles or names.
fn namespaces(operator: &Operator) -> BTreeMap<String, Vec<Registry>> {
    let this = &operator.bundles;
    let mut all: BTreeMap<String, Vec<Registry>> = BTreeMap::new();
    for bundle in this.observed.select(|_| true) {
        all.entry(bundle.namespace.clone()).or_default();
    }
    for resource in operator.resources.state() {
        let identity = resource.identity();
        let has_names = this.names(&identity.namespace, &identity.name).is_some();
        if identity.is_leaving || !(has_names || all.contains_key(&identity.namespace)) {
            continue;
        }
        let spec = resource.rival().map(|rival| rival.spec.as_ref());
        all.entry(identity.namespace.clone()).or_default().push(Registry::new(identity, spec, has_names));
    }
    for registries in all.values_mut() {
        registries.sort_by(|one, other| one.identity.name.cmp(&other.identity.name));
    }
    all
}

/// Plans and carries out the bundles of one namespace.
async fn pass_over(
    operator: &Arc<Operator>,
    namespace: &str,
    registries: &[Registry],
) -> Result<PassedRegistries, OperatorError> {
    let this = &operator.bundles;
    // A namespace without a Quinistry has no claim: all that is done there is to report that.
    if !registries.is_empty() {
        let owners = claims::owners(operator).remove(namespace).unwrap_or_default();
        if matches!(operator.claims.holder(namespace, &owners).await?, Claim::Theirs(_)) {
            for bundle in this.observed.select(|bundle| bundle.namespace == namespace) {
                operator.metrics.bundle_unclaimed(&bundle.uid);
            }
            return Ok(PassedRegistries::default());
        }
    }
    let bundles = this.observed.select(|bundle| bundle.namespace == namespace);
    let mut former = BTreeMap::new();
    let mut states: BTreeMap<String, RegistryState> = BTreeMap::new();
    for registry in registries {
        let identity = &registry.identity;
        let mut present = this.names(namespace, &identity.name);
        if present.is_none() && registry.has_store && !bundles.is_empty() {
            present = read_names(&operator.client, registry).await?.map(|(_, names)| Arc::new(names));
        }
        let rejection = present.as_ref().and_then(|present| foreign(registry, present));
        // The content of a foreign ConfigMap is no history.
        if let Some(present) = present.filter(|_| rejection.is_none()) {
            former.insert(identity.name.clone(), present);
        }
        let state =
            RegistryState { rejection, is_unreachable: registry.is_unreachable, ..RegistryState::default() };
        states.insert(identity.uid.clone(), state);
    }
    let plan = plan(&bundles, registries, &former);
    let mut failure = None;
    let mut passed = PassedRegistries::default();
    for wanted in &plan.maps {
        let identity = &wanted.registry.identity;
        passed.planned.insert(identity.uid.clone());
        let state = states.entry(identity.uid.clone()).or_default();
        let present = former.get(&identity.name);
        if let Err(error) = carry_out(operator, wanted, present.map(AsRef::as_ref), state).await {
            state.has_failed = true;
            failure = Some(error);
        }
        if wanted.registry.has_store {
            passed.targets.insert(identity.uid.clone(), wanted.registry.clone());
        }
    }
    let reported = report(operator, &bundles, &plan, &states).await;
    failure.map_or(reported, Err).map(|()| passed)
}

/// Writes a `ConfigMap` if it differs, and has its images asked for.
async fn carry_out(
    operator: &Arc<Operator>,
    wanted: &WantedNames,
    present: Option<&ObservedNames>,
    state: &mut RegistryState,
) -> Result<(), OperatorError> {
    let this = &operator.bundles;
    let identity = &wanted.registry.identity;
    if state.rejection.is_some() {
        lock(&this.refusals).clear(&identity.uid);
        return Ok(());
    }
    if wanted.needs_write {
        let hash = hash(&wanted.data);
        state.rejection = lock(&this.refusals).holding(&identity.uid, &hash, Instant::now());
        if state.rejection.is_some() {
            return Ok(());
        }
        match write_names(&operator.client, wanted, present).await? {
            Written::Refused(verdict, passes) => {
                let (namespace, name) = (&identity.namespace, &identity.name);
                let mut refusals = lock(&this.refusals);
                if refusals.record(&identity.uid, &hash, verdict.clone(), passes, Instant::now()) {
                    tracing::warn!(
                        namespace,
                        name,
                        error = verdict.message,
                        "names refused by the API server"
                    );
                }
                state.rejection = Some(verdict);
                return Ok(());
            }
            Written::Done(map) => {
                let (namespace, name) = (&identity.namespace, names_map_name(&identity.name));
                tracing::info!(namespace, name, images = wanted.images.len(), "applied ConfigMap of names");
                if let Some((key, names)) = map {
                    this.names.put(key, names);
                }
                announce(&operator.client, wanted).await;
            }
        }
    }
    lock(&this.refusals).clear(&identity.uid);
    if !wanted.registry.has_store {
        return Ok(());
    }
    // Before the other loop is woken, which asks nothing of an unknown registry.
    lock(&this.targets).insert(identity.uid.clone(), wanted.registry.clone());
    let now = Instant::now();
    if lock(&this.proofs).of(&identity.uid).set_images(&wanted.images, wanted.needs_write, now) {
        this.asked_for.notify_one();
    }
    Ok(())
}

/// Writes the statuses that are news.
async fn report(
    operator: &Arc<Operator>,
    bundles: &[Arc<ObservedBundle>],
    plan: &NamespacePlan,
    states: &BTreeMap<String, RegistryState>,
) -> Result<(), OperatorError> {
    let this = &operator.bundles;
    let mut result = Ok(());
    for planned in &plan.bundles {
        let Some(bundle) = bundles.iter().find(|bundle| bundle.uid == planned.uid) else { continue };
        let state = planned.registry.as_ref().and_then(|uid| states.get(uid));
        if state.is_some_and(|state| state.has_failed) {
            continue;
        }
        let proof = planned
            .registry
            .as_ref()
            .map(|uid| lock(&this.proofs).of(uid).summary(&planned.names, Instant::now()))
            .unwrap_or_default();
        let known = Known {
            rejection: state.and_then(|state| state.rejection.clone()),
            is_unreachable: state.is_some_and(|state| state.is_unreachable),
            proof,
        };
        let reported = lock(&this.reported).get(&bundle.uid).cloned();
        let before = reported.as_ref().or(bundle.status.as_ref());
        let now = status(bundle.generation, planned, &known, before, Timestamp::now());
        operator.metrics.bundle_reported(&bundle.uid, &now);
        if before != Some(&now) {
            if let Err(error) = write_status(&operator.client, bundle, &now).await {
                result = Err(error);
                continue;
            }
            let events = events::of_bundle_change(before, &now);
            events::publish(&operator.recorder, &bundle.object(), events).await;
        }
        lock(&this.reported).insert(bundle.uid.clone(), now);
    }
    result
}

// === impl Bundles ===

impl Bundles {
    /// Returns the `ConfigMap` of names of a registry, as the watch shows it.
    fn names(&self, namespace: &str, registry: &str) -> Option<Arc<ObservedNames>> {
        self.names.get(&format!("{namespace}/{}", names_map_name(registry)))
    }
}
