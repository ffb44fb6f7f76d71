//! Reconcile: the order of the steps for one resource, the state that is kept between them, and the reaction
//! to failures. Called by the driver for each resource that may have changed.

mod carry_out;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action as Next;
use kube::runtime::reflector::ObjectRef;

use super::claims::{self, Claim};
use super::metrics::{VerificationResult, Write};
use super::observed::{FetchResult, ObservedState, QueryStage, Refusal};
use super::plan::{self, Missing, MissingSince, PlanNeed, ReconcilePlan, Requeue, VerifyRequest};
use super::resource::{ResourceIdentity, ValidResource, WatchedResource};
use super::rival::Rival;
use super::{Category, Operator, OperatorError, events, observe, report, seed_parts};
use crate::crd::QuinistryStatus;
use crate::one_line::one_line;
use crate::sorted::Sorted as _;

use carry_out::ApplyOutcome;

/// Interval at which every resource is planned without a change: watches may lose events.
pub(super) const RESYNC_PERIOD: Duration = Duration::from_mins(5);

/// Interval at which a resource is planned while a change is awaited that no watch may show.
const RECHECK_DELAY: Duration = Duration::from_secs(5);

/// Shortest interval between writes of status that show nothing but progress.
const PROGRESS_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Delay of the next plan after the API server was ahead of the watch: by then the watch has usually caught
/// up.
const STALE_WATCH_DELAY: Duration = Duration::from_secs(1);

impl Operator {
    /// Plans a resource and carries the plan out; returns the time of the next reconcile.
    pub(super) async fn reconcile(
        self: &Arc<Self>,
        resource: &WatchedResource,
    ) -> Result<Next, OperatorError> {
        // Becoming leader and completing all lists both request every resource again. Acting on incomplete
        // caches would create what exists already, and acting on outdated ones would act too early.
        if !self.leadership.holds() || !self.is_synced() {
            return Ok(Next::await_change());
        }
        let started = Instant::now();
        match self.claim(resource).await {
            Ok(Claim::Ours) => self.metrics.claimed(&resource.identity().uid),
            Ok(Claim::Theirs(holder)) => {
                self.report_holder(resource.identity(), &holder).await;
                return Ok(Next::requeue(claims::RENEW_PERIOD));
            }
            Err(error) => {
                self.metrics.reconciled(started.elapsed(), Some(error.category()));
                return Err(error);
            }
        }
        let result = match resource.resource() {
            Ok(quinistry) => self.run_steps(resource, quinistry).await,
            Err(unfit) => self.report_invalid(resource, &unfit.plan()).await,
        };
        self.metrics.reconciled(started.elapsed(), result.as_ref().err().map(OperatorError::category));
        if result.is_ok() {
            self.histories.reset_failures(resource.identity());
        }
        result
    }

    async fn claim(&self, resource: &WatchedResource) -> Result<Claim, OperatorError> {
        let namespace = &resource.identity().namespace;
        let owners = claims::owners(self).remove(namespace).unwrap_or_default();
        self.claims.holder(namespace, &owners).await
    }

    /// Reports once that another operator looks after a resource. The status belongs to that operator.
    async fn report_holder(&self, resource: &ResourceIdentity, holder: &str) {
        self.metrics.unclaimed(&resource.uid);
        if self.histories.record_holder(resource, holder) {
            let ResourceIdentity { namespace, name, .. } = resource;
            tracing::warn!(namespace, name, holder, "resource claimed by another operator, doing nothing");
            events::publish(&self.recorder, &resource.object(), vec![events::claimed_by_another(holder)])
                .await;
        }
    }

    /// Reports an invalid resource. Running pods keep running.
    async fn report_invalid(
        &self,
        resource: &WatchedResource,
        plan: &ReconcilePlan,
    ) -> Result<Next, OperatorError> {
        // An invalid resource is not observed, so earlier times of missing pods mean nothing later.
        self.histories.record_missing_since(resource.identity(), MissingSince::default());
        if !resource.identity().is_leaving {
            self.report(resource, plan, false).await?;
        }
        self.prune();
        Ok(Next::requeue(jittered(RESYNC_PERIOD, resource.identity())))
    }

    async fn run_steps(
        self: &Arc<Self>,
        watched: &WatchedResource,
        quinistry: &ValidResource,
    ) -> Result<Next, OperatorError> {
        let identity = &quinistry.identity;
        // observe, and apply the Service of stores (client required)
        let Some(stores) = self.observe_stores(quinistry).await? else {
            return Ok(Next::requeue(STALE_WATCH_DELAY));
        };
        // observe (client required only for seeds), plan and build (pure)
        let (mut parts, mut altered) = (Vec::new(), BTreeSet::new());
        if quinistry.spec.seed.is_some() || self.observe(quinistry).daemon_set(0).is_some() {
            // The end of the first list requests this resource again.
            let Some(found) = self.seed_parts.list(self, quinistry)? else {
                return Ok(Next::requeue(seed_parts::FIRST_LIST_TIMEOUT));
            };
            altered = self.seed_parts.altered(&self.client, quinistry, &found).await?;
            parts = found;
        }
        let mut observed =
            ObservedState { parts, altered, stores: stores.url.clone(), ..self.observe(quinistry) };
        let mut requery = None;
        let mut plan = loop {
            let stage = match self.plan(quinistry, &observed) {
                // observe (client required)
                PlanNeed::Carriers(nodes) => {
                    observed.running.extend(observe::carriers(&self.client, nodes).await?);
                    QueryStage::Carriers
                }
                PlanNeed::Events(missing) => {
                    (observed.refusals, requery) = self.refusals(quinistry, &missing, &observed).await?;
                    QueryStage::Events
                }
                // verify (client required)
                PlanNeed::Fetch(plan) => {
                    if !self.verify(quinistry, &plan.verify).await {
                        break plan;
                    }
                    QueryStage::Pods
                }
                PlanNeed::Ready(plan) => break plan,
            };
            observed = self.observe_again(quinistry, observed, stage);
        };
        if plan.requeue == Requeue::Never {
            return Ok(Next::await_change());
        }
        self.histories.record_missing_since(identity, plan.missing_since.clone());
        // apply (client required)
        let failure = match self.carry_out(quinistry, &plan, &observed).await {
            Ok(ApplyOutcome::Outdated) => return Ok(Next::requeue(STALE_WATCH_DELAY)),
            Ok(ApplyOutcome::Contested(rejection)) => {
                observed.rejection = Some(rejection);
                plan = self.replan(quinistry, &observed);
                Ok(())
            }
            result => result.map(drop),
        };
        if let Some(rejection) = self.histories.rejection(identity) {
            observed.rejection = Some(rejection);
            plan = self.replan(quinistry, &observed);
        }
        // Right after its start the operator has not verified pods that may have been Ready for long: that is
        // no reason to take Ready away. A late result or the next try runs this again.
        if plan.is_unverified && !self.histories.has_reported(identity) {
            failure?;
            return Ok(Next::requeue(RECHECK_DELAY));
        }
        let outcome = self.carry_out_stores(quinistry, stores, &observed, &plan, failure.is_ok()).await;
        plan.store = outcome.report;
        let failure = failure.and(outcome.result);
        // report (client required), also after a failure, so that the user sees what is known
        let later = self.report(watched, &plan, failure.is_ok()).await?;
        failure?;
        self.prune();
        let again = match plan.requeue {
            Requeue::Soon { .. } => RECHECK_DELAY,
            Requeue::Idle | Requeue::Never => jittered(RESYNC_PERIOD, identity),
        };
        let again = [later, requery, plan.requeue.deadline(), outcome.due]
            .into_iter()
            .flatten()
            .fold(again, Duration::min);
        Ok(Next::requeue(again.min(self.verifier.next_due(&plan.verify).unwrap_or(again))))
    }

    fn plan(&self, quinistry: &ValidResource, observed: &ObservedState) -> PlanNeed {
        self.timed(|| plan::plan(quinistry, observed, Timestamp::now()))
    }

    fn replan(&self, quinistry: &ValidResource, observed: &ObservedState) -> Box<ReconcilePlan> {
        self.timed(|| Box::new(plan::plan_as_observed(quinistry, observed, Timestamp::now())))
    }

    fn timed<T>(&self, plan: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let planned = plan();
        self.debounce.record_plan(begun.elapsed());
        planned
    }

    /// Observes the state of the watches again after a query, and keeps the results of queries.
    fn observe_again(
        &self,
        quinistry: &ValidResource,
        before: ObservedState,
        queried: QueryStage,
    ) -> ObservedState {
        let ObservedState { refusals, parts, altered, running, stores, .. } = before;
        ObservedState { refusals, parts, altered, running, stores, queried, ..self.observe(quinistry) }
    }

    fn observe(&self, quinistry: &ValidResource) -> ObservedState {
        let identity = &quinistry.identity;
        let pods = self.pods.select(|pod| pod.claims(identity));
        let rivals = self.rivals();
        // A single resource has no competitors.
        let holdings = if rivals.len() > 1 {
            observe::holdings(&rivals, &self.daemon_sets.select(|_| true), &self.pods.select(|_| true))
        } else {
            BTreeMap::new()
        };
        ObservedState {
            nodes: self.nodes.select(|_| true),
            daemon_sets: self.daemon_sets.select(|set| set.is_of(identity)),
            fetched: self.verifier.results(pods.iter().map(|pod| &pod.start)),
            pods,
            rivals,
            living: self.living(),
            holdings,
            refusals: Vec::new(),
            missing_since: self.histories.missing_since(identity),
            rejection: self.histories.rejection(identity),
            own: self.seed_parts.own_executable(),
            ..ObservedState::default()
        }
    }

    /// Returns all resources whose specification can be decoded, as rivals.
    fn rivals(&self) -> Vec<Arc<Rival>> {
        self.resources.state().iter().filter_map(|resource| resource.rival().cloned()).collect()
    }

    /// Returns the UIDs of all resources that are not being deleted, also of those that cannot be decoded.
    pub(super) fn living(&self) -> BTreeSet<String> {
        let resources = self.resources.state();
        let living = resources.iter().map(|resource| resource.identity()).filter(|one| !one.is_leaving);
        living.map(|one| one.uid.clone()).collect()
    }

    /// Returns the reasons for missing pods, and the time until the next query if the last one was a moment
    /// ago: with thousands of nodes the controller creates pods for minutes, and each of them causes a plan.
    async fn refusals(
        &self,
        quinistry: &ValidResource,
        missing: &Missing,
        observed: &ObservedState,
    ) -> Result<(Vec<Refusal>, Option<Duration>), OperatorError> {
        if let Some((known, left)) =
            self.histories.recent_refusals(&quinistry.identity, missing, RECHECK_DELAY)
        {
            return Ok((known, Some(left)));
        }
        let found = observe::refusals(&self.client, quinistry, missing, observed).await?;
        self.histories.record_refusals(&quinistry.identity, missing.clone(), found.clone());
        Ok((found, None))
    }

    /// Verifies pods; returns false if none of them was due.
    async fn verify(&self, quinistry: &ValidResource, requests: &[VerifyRequest]) -> bool {
        let (metrics, queue) = (self.metrics.clone(), self.requests.clone());
        let resource = ObjectRef::new(quinistry.name()).within(quinistry.namespace());
        let on_verified = move |fetched: &FetchResult, late| {
            metrics.verified(match fetched {
                FetchResult::Whole(_) => VerificationResult::Whole,
                FetchResult::Corrupt(_) => VerificationResult::Corrupt,
                FetchResult::Failed(_) => VerificationResult::Failed,
            });
            if late {
                let _ = queue.send(resource.clone());
            }
        };
        self.verifier.verify(requests, Arc::new(on_verified)).await
    }

    /// Writes status if anything is new, or returns the time until a write that can wait.
    async fn report(
        &self,
        watched: &WatchedResource,
        plan: &ReconcilePlan,
        may_wait: bool,
    ) -> Result<Option<Duration>, OperatorError> {
        let (resource, generations) = (watched.identity(), watched.generations());
        let ready = QuinistryStatus::proven(&plan.generations);
        let desired = usize::try_from(generations).unwrap_or_default();
        let store = plan.store.as_ref().map(|report| report.condition.status);
        self.metrics.reported(&resource.uid, desired, ready, &plan.conditions, store);
        let reported = self.histories.reported(resource);
        let before = reported.as_ref().or(watched.status());
        let status = report::status(resource, generations, plan, before, Timestamp::now());
        if before == Some(&status) {
            self.histories.record_report(resource, status);
            return Ok(None);
        }
        if may_wait
            && before.is_some_and(|before| report::differs_only_in_counts(before, &status))
            && let Some(pause) = self
                .histories
                .since_last_write(resource)
                .and_then(|ago| PROGRESS_REPORT_INTERVAL.checked_sub(ago))
        {
            return Ok(Some(pause));
        }
        let version = self.histories.version(resource);
        let written = match report::write(&self.client, resource, &status, version).await {
            // The resource was deleted since the plan.
            Err(error) if error.category() == Category::NotFound => return Ok(None),
            written => written?,
        };
        self.metrics.wrote(Write::Status);
        self.histories.record_write(resource, written);
        let news = events::of_change(before, &status);
        self.histories.record_report(resource, status);
        events::publish(&self.recorder, &resource.object(), news).await;
        Ok(None)
    }

    /// Returns the time of the next try after a failure.
    pub(super) fn retry_after(&self, resource: &ResourceIdentity, error: &OperatorError) -> Next {
        let failures = self.histories.record_failure(resource);
        // The object was changed since the plan, which the precondition of the write detects.
        let is_usual = error.category() == Category::Conflict && failures == 1;
        let Some(pause) = error.category().pause(failures) else {
            // Becoming leader requests every resource.
            return Next::await_change();
        };
        let ResourceIdentity { namespace, name, .. } = resource;
        let error = one_line(error);
        if is_usual {
            tracing::info!(namespace, name, retry = ?pause, error, "write conflicted, planning again");
        } else {
            tracing::warn!(namespace, name, retry = ?pause, error, "reconcile failed");
        }
        Next::requeue(pause)
    }

    /// Removes the state of resources and pods that no longer exist.
    fn prune(&self) {
        let resources = self.resources.state();
        let alive: BTreeSet<&str> =
            resources.iter().map(|resource| resource.identity().uid.as_str()).into_set();
        self.histories.retain(&alive);
        self.stores.retain(&alive);
        self.metrics.keep(|uid| alive.contains(uid));
        self.seed_parts.prune();
        let pods = self.pods.select(|_| true);
        if self.verifier.len() > pods.len() {
            self.verifier.retain(&pods.iter().map(|pod| pod.start.uid.as_str()).into_set());
        }
    }
}

/// Adds up to a tenth, derived from the resource's UID, so that not all resources are planned at the same
/// moment.
fn jittered(duration: Duration, resource: &ResourceIdentity) -> Duration {
    let spread =
        resource.uid.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 100;
    duration + duration / 1000 * spread
}
