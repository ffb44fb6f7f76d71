//! One look at one resource: the order of the steps, what is remembered between them, and what to do when one fails.
//! Called by the driver, for each resource about which something may have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::DaemonSet as DaemonSetToApply;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action as Next;
use kube::runtime::reflector::ObjectRef;

use super::apply::{Applied, apply, exists};
use super::claims::{self, Claim};
use super::metrics::{Look, Write};
use super::observed::{Asked, DaemonSet, Fetched, Observed, Refusal, Rejection};
use super::plan::{self, Action, Lacking, Missing, Plan, Step, VerifyRequest};
use super::resource::{Identity, Resource, Watched};
use super::rival::Rival;
use super::{Category, Operator, OperatorError, build, error, events, observe, report, seed_parts};
use crate::crd::{QuinistryStatus, Reason};
use crate::one_line::one_line;

/// When to look again although nothing changed: watches may lose something.
pub(super) const SAFETY_NET: Duration = Duration::from_mins(5);

/// When to look again while something is awaited that no watch tells of.
const WAITING: Duration = Duration::from_secs(5);

/// How often status tells that a generation has got further, when nothing else is new.
const PROGRESS: Duration = Duration::from_secs(1);

/// Stands for the hash of what was applied where a seed's `ConfigMap` was refused.
const PIECE: &str = "piece";

/// Delay before the next look after the API server knew better than the watch: by then the watch has mostly
/// caught up.
const LAGGING: Duration = Duration::from_secs(1);

impl Operator {
    /// Looks, and does what is to be done; when to look again.
    pub(super) async fn reconcile(self: &Arc<Self>, resource: &Watched) -> Result<Next, OperatorError> {
        // Whoever comes to lead is asked to look at all of them, and so is whoever sees all again: acting on half of the
        // picture would create what is there already, and on an old one what is not its turn.
        if !self.leadership.holds() || !self.is_synced() {
            return Ok(Next::await_change());
        }
        let started = Instant::now();
        match self.claim(resource).await {
            Ok(Claim::Ours) => self.metrics.claimed(&resource.identity().uid),
            Ok(Claim::Theirs(holder)) => {
                self.stand_by(resource.identity(), &holder).await;
                return Ok(Next::requeue(claims::PERIOD));
            }
            Err(error) => {
                self.metrics.reconciled(started.elapsed(), Some(error.category()));
                return Err(error);
            }
        }
        let result = match resource.resource() {
            Ok(quinistry) => self.steps(resource, quinistry).await,
            Err(unfit) => self.refuse(resource, &unfit.plan()).await,
        };
        self.metrics.reconciled(started.elapsed(), result.as_ref().err().map(OperatorError::category));
        if result.is_ok() {
            self.memories.succeeded(resource.identity());
        }
        result
    }

    async fn claim(&self, resource: &Watched) -> Result<Claim, OperatorError> {
        let namespace = &resource.identity().namespace;
        let owners = claims::owners(self).remove(namespace).unwrap_or_default();
        self.claims.of(namespace, &owners).await
    }

    /// Says that another operator looks after a resource, once. Status is that operator's.
    async fn stand_by(&self, resource: &Identity, holder: &str) {
        self.metrics.unclaimed(&resource.uid);
        if self.memories.stands_by(resource, holder) {
            let Identity { namespace, name, .. } = resource;
            tracing::warn!(namespace, name, holder, "resource claimed by another operator, doing nothing");
            events::publish(&self.recorder, resource, vec![events::claimed(holder)]).await;
        }
    }

    /// Returns the set as rejected, while another writer undoes it again and again.
    fn contested(&self, quinistry: &Resource, set: &DaemonSetToApply) -> Option<Rejection> {
        let (name, applied) = (set.name_any(), build::applied(set));
        let (times, _) = self.memories.contested(&quinistry.identity, &name, applied)?;
        let message = format!(
            "DaemonSet {name} was applied {times} times, and each time another writer has changed it; is there a second \
             operator? It is tried less and less often"
        );
        Some(Rejection { applied: applied.into(), reason: Reason::Contested, message })
    }

    /// Says that nothing can be made of a resource. What runs goes on running.
    async fn refuse(&self, resource: &Watched, plan: &Plan) -> Result<Next, OperatorError> {
        // A refused resource is not observed, so what a node lacked before says nothing about the time after.
        self.memories.lack(resource.identity(), Lacking::default());
        if !resource.identity().is_leaving {
            self.report(resource, plan, false).await?;
        }
        self.forget();
        Ok(Next::requeue(jittered(SAFETY_NET, resource.identity())))
    }

    async fn steps(self: &Arc<Self>, watched: &Watched, quinistry: &Resource) -> Result<Next, OperatorError> {
        let identity = &quinistry.identity;
        // observe (client required for seeds alone), plan and build (pure)
        let (mut parts, mut altered) = (Vec::new(), BTreeSet::new());
        if quinistry.spec.seed.is_some() || self.observe(quinistry).daemon_set(0).is_some() {
            // Their first list makes this run again.
            let Some(found) = self.pieces.of(self, quinistry)? else {
                return Ok(Next::requeue(seed_parts::PATIENCE));
            };
            altered = self.pieces.altered(&self.client, quinistry, &found).await?;
            parts = found;
        }
        let mut observed = Observed { parts, altered, ..self.observe(quinistry) };
        let mut asked_again = None;
        let mut plan = loop {
            let asked = match self.plan(quinistry, &observed) {
                // observe (client required)
                Step::Carriers(nodes) => {
                    observed.running.extend(observe::carriers(&self.client, nodes).await?);
                    Asked::Carriers
                }
                Step::Events(missing) => {
                    (observed.refusals, asked_again) = self.refusals(quinistry, &missing, &observed).await?;
                    Asked::Events
                }
                // verify (client required)
                Step::Fetch(plan) => {
                    if !self.verify(quinistry, &plan.verify).await {
                        break plan;
                    }
                    Asked::Pods
                }
                Step::Ready(plan) => break plan,
            };
            observed = self.observe_again(quinistry, observed, asked);
        };
        if plan.gone {
            return Ok(Next::await_change());
        }
        self.memories.lack(identity, plan.lacking.clone());
        // apply (client required)
        let failure = match self.apply(quinistry, &plan, &observed).await {
            Ok(Planned::Anew) => return Ok(Next::requeue(LAGGING)),
            Ok(Planned::Contested(rejection)) => {
                observed.rejection = Some(rejection);
                plan = self.plan_with_what_is_known(quinistry, &observed);
                Ok(())
            }
            result => result.map(drop),
        };
        if let Some(rejection) = self.memories.rejection(identity) {
            observed.rejection = Some(rejection);
            plan = self.plan_with_what_is_known(quinistry, &observed);
        }
        // Just started, it has yet to look at what may stand there for long: that is no reason to take Ready away.
        // Whoever answers late, or not at all, makes this run again.
        if plan.looking && !self.memories.has_reported(identity) {
            failure?;
            return Ok(Next::requeue(WAITING));
        }
        // report (client required): also after a failure, so that what is known is known to people
        let later = self.report(watched, &plan, failure.is_ok()).await?;
        failure?;
        self.forget();
        let again = if plan.waiting { WAITING } else { jittered(SAFETY_NET, identity) };
        let again = [later, asked_again, plan.due].into_iter().flatten().fold(again, Duration::min);
        Ok(Next::requeue(again.min(self.eyes.next(&plan.verify).unwrap_or(again))))
    }

    fn plan(&self, quinistry: &Resource, observed: &Observed) -> Step {
        self.timed(|| plan::plan(quinistry, observed, Timestamp::now()))
    }

    fn plan_with_what_is_known(&self, quinistry: &Resource, observed: &Observed) -> Box<Plan> {
        self.timed(|| Box::new(plan::with_what_is_known(quinistry, observed, Timestamp::now())))
    }

    fn timed<T>(&self, plan: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let planned = plan();
        self.pace.planned(begun.elapsed());
        planned
    }

    /// Observes what the watches have brought while something was waited for, beside what was asked.
    fn observe_again(&self, quinistry: &Resource, before: Observed, asked: Asked) -> Observed {
        let Observed { refusals, parts, altered, running, .. } = before;
        Observed { refusals, parts, altered, running, asked, ..self.observe(quinistry) }
    }

    fn observe(&self, quinistry: &Resource) -> Observed {
        let identity = &quinistry.identity;
        let pods = self.pods.select(|pod| pod.claims(identity));
        let rivals = self.rivals();
        // Alone it competes with no other.
        let holdings = if rivals.len() > 1 {
            observe::holdings(&rivals, &self.daemon_sets.select(|_| true), &self.pods.select(|_| true))
        } else {
            BTreeMap::new()
        };
        Observed {
            nodes: self.nodes.select(|_| true),
            daemon_sets: self.daemon_sets.select(|set| set.is_of(identity)),
            fetched: self.eyes.found(pods.iter().map(|pod| &pod.start)),
            pods,
            rivals,
            holdings,
            refusals: Vec::new(),
            lacking: self.memories.lacking(identity),
            rejection: self.memories.rejection(identity),
            own: self.pieces.own(),
            ..Observed::default()
        }
    }

    /// Returns all resources whose specification can be decoded, as others see them.
    fn rivals(&self) -> Vec<Arc<Rival>> {
        self.resources.state().iter().filter_map(|resource| resource.rival().cloned()).collect()
    }

    /// Why pods are missing; and when to ask again, if that was asked a moment ago: for thousands of nodes the controller
    /// makes pods for minutes, and each of them is a reason to plan anew.
    async fn refusals(
        &self,
        quinistry: &Resource,
        missing: &Missing,
        observed: &Observed,
    ) -> Result<(Vec<Refusal>, Option<Duration>), OperatorError> {
        if let Some((known, left)) = self.memories.refused(&quinistry.identity, missing, WAITING) {
            return Ok((known, Some(left)));
        }
        let found = observe::refusals(&self.client, quinistry, missing, observed).await?;
        self.memories.refuse(&quinistry.identity, missing.clone(), found.clone());
        Ok((found, None))
    }

    /// Fetches from pods; returns false if none of them was due.
    async fn verify(&self, quinistry: &Resource, requests: &[VerifyRequest]) -> bool {
        let (metrics, queue) = (self.metrics.clone(), self.requests.clone());
        let resource = ObjectRef::new(quinistry.name()).within(quinistry.namespace());
        let tell = move |fetched: &Fetched, late| {
            metrics.looked(match fetched {
                Fetched::Whole(_) => Look::Whole,
                Fetched::Corrupt(_) => Look::Corrupt,
                Fetched::Failed(_) => Look::Failed,
            });
            if late {
                let _ = queue.send(resource.clone());
            }
        };
        self.eyes.look(requests, Arc::new(tell)).await
    }

    async fn apply(
        &self,
        quinistry: &Resource,
        plan: &Plan,
        observed: &Observed,
    ) -> Result<Planned, OperatorError> {
        let identity = &quinistry.identity;
        let Identity { namespace, name, .. } = identity;
        let own = self.pieces.cut(quinistry);
        let mut is_asked = false;
        let rejected = observed.rejection.as_ref().map(|rejection| rejection.applied.as_str());
        for action in &plan.actions {
            if let Action::Apply(set) = action
                && let Some(rejection) = self.contested(quinistry, set)
            {
                // Later actions of the plan depend on this one.
                return Ok(Planned::Contested(rejection));
            }
            if matches!(action, Action::Restore { .. }) && rejected == Some(PIECE) {
                // Refused a moment ago, and what follows stands on it.
                return Ok(Planned::Done);
            }
            // A watch of resources that lags behind, or has lost a deletion, would have what the cluster
            // collects made again and again.
            if !is_asked && creates(action, observed) {
                is_asked = true;
                if !exists(&self.client, quinistry).await? {
                    tracing::info!(namespace, name, "resource has changed or is gone, planning again");
                    return Ok(Planned::Anew);
                }
            }
            match apply(&self.client, quinistry, own.as_ref(), observed, action).await {
                Ok(applied) => {
                    if let Action::Apply(set) = action {
                        self.memories.apply(identity, &set.name_any(), build::applied(set));
                    }
                    self.applied(identity, applied).await;
                }
                // One node without its carrier is no reason to leave the others.
                Err(error) if matches!(action, Action::Label { .. }) => {
                    tracing::warn!(namespace, name, "{}", one_line(&error));
                }
                Err(error) => {
                    let applied = match action {
                        Action::Apply(set) => Some(build::applied(set)),
                        // No set: nothing of the plan is left out but this.
                        Action::Restore { .. } => Some(PIECE),
                        _ => None,
                    };
                    let refused = match (&error, applied) {
                        (OperatorError::Apply { source, .. }, Some(applied)) => {
                            error::rejection(source).map(|refused| (applied, refused))
                        }
                        // It may be deleted at any moment, which no watch tells.
                        (OperatorError::Taken { .. }, Some(applied)) => {
                            Some((applied, (Reason::ApplyRejected, one_line(&error), true)))
                        }
                        _ => None,
                    };
                    let Some((applied, (reason, message, passes))) = refused else { return Err(error) };
                    let rejection = Rejection { applied: applied.into(), reason, message };
                    tracing::warn!(
                        namespace, name,
                        reason = %rejection.reason, "refused by the API server: {}", rejection.message
                    );
                    self.memories.reject(identity, rejection, passes, SAFETY_NET);
                    // What follows in the plan stands on this.
                    return Ok(Planned::Done);
                }
            }
        }
        Ok(Planned::Done)
    }

    async fn applied(&self, resource: &Identity, applied: Applied) {
        match &applied {
            Applied::Set(_, set) => {
                self.metrics.wrote(Write::Apply);
                self.memories.accept(resource);
                let set = set.as_ref().and_then(|set| observe::daemon_set((**set).clone()));
                if let Some((key, view)) = set {
                    self.daemon_sets.put(key, DaemonSet { accepted: true, ..view });
                }
            }
            Applied::Deleted(_) => self.metrics.wrote(Write::Delete),
            Applied::Replaced(_) => self.metrics.wrote(Write::Replace),
            Applied::Restored(_) => {
                self.metrics.wrote(Write::Piece);
                self.memories.accept(resource);
            }
            Applied::Dropped(_) => self.metrics.wrote(Write::Piece),
            Applied::Labelled(..) => self.metrics.wrote(Write::Label),
            Applied::Nothing => return,
        }
        if let Some(event) = events::of_action(&applied) {
            let Identity { namespace, name, .. } = resource;
            tracing::info!(namespace, name, "{}", event.note.as_deref().unwrap_or_default());
            events::publish(&self.recorder, resource, vec![event]).await;
        }
    }

    /// Says what is new; or when, if that can wait, and may.
    async fn report(
        &self,
        watched: &Watched,
        plan: &Plan,
        may_wait: bool,
    ) -> Result<Option<Duration>, OperatorError> {
        let (resource, generations) = (watched.identity(), watched.generations());
        let ready = QuinistryStatus::proven(&plan.generations);
        let desired = usize::try_from(generations).unwrap_or_default();
        self.metrics.reported(&resource.uid, desired, ready, &plan.words);
        let reported = self.memories.reported(resource);
        let before = reported.as_ref().or(watched.status());
        let status = report::status(resource, generations, plan, before, Timestamp::now());
        if before == Some(&status) {
            self.memories.report(resource, status);
            return Ok(None);
        }
        if may_wait
            && before.is_some_and(|before| report::is_mere_progress(before, &status))
            && let Some(pause) = self.memories.written(resource).and_then(|ago| PROGRESS.checked_sub(ago))
        {
            return Ok(Some(pause));
        }
        let version = self.memories.version(resource);
        let written = match report::write(&self.client, resource, &status, version).await {
            // Deleted in the meantime.
            Err(error) if error.category() == Category::NotFound => return Ok(None),
            written => written?,
        };
        self.metrics.wrote(Write::Status);
        self.memories.wrote(resource, written);
        let news = events::of_change(before, &status);
        self.memories.report(resource, status);
        events::publish(&self.recorder, resource, news).await;
        Ok(None)
    }

    /// After a failure: when to try again.
    pub(super) fn after(&self, resource: &Identity, error: &OperatorError) -> Next {
        let failures = self.memories.failed(resource);
        // The object that the plan rests on has changed since; the precondition is there for that.
        let is_usual = error.category() == Category::Conflict && failures == 1;
        let Some(pause) = error.category().pause(failures) else {
            // Whoever comes to lead looks at it.
            return Next::await_change();
        };
        let Identity { namespace, name, .. } = resource;
        let error = one_line(error);
        if is_usual {
            tracing::info!(namespace, name, retry = ?pause, "planning again: {error}");
        } else {
            tracing::warn!(namespace, name, retry = ?pause, "reconcile failed: {error}");
        }
        Next::requeue(pause)
    }

    /// Drops what is remembered of resources and pods that are no more.
    fn forget(&self) {
        let resources = self.resources.state();
        let alive: BTreeSet<&str> =
            resources.iter().map(|resource| resource.identity().uid.as_str()).collect();
        self.memories.keep(&alive);
        self.metrics.keep(|uid| alive.contains(uid));
        self.pieces.forget();
        let pods = self.pods.select(|_| true);
        if self.eyes.remembered() > pods.len() {
            self.eyes.keep(&pods.iter().map(|pod| pod.start.uid.as_str()).collect());
        }
    }
}

/// Outcome of a plan.
enum Planned {
    /// The plan was carried out, as far as it could be.
    Done,
    /// The plan was made for a resource that no longer exists, or has changed.
    Anew,
    /// Another writer undoes it again and again, so it waits.
    Contested(Rejection),
}

/// Returns true if an action makes something that is not there.
fn creates(action: &Action, observed: &Observed) -> bool {
    match action {
        Action::Apply(set) => !observed.daemon_sets.iter().any(|live| live.name == set.name_any()),
        Action::Restore { .. } => true,
        _ => false,
    }
}

/// Up to a tenth more, by the resource's UID, so that not all are looked at in the same moment.
fn jittered(duration: Duration, resource: &Identity) -> Duration {
    let spread =
        resource.uid.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 100;
    duration + duration / 1000 * spread
}
