//! Plan: compares what is wanted with what is observed, and returns actions, conditions and queries. Pure and
//! total; the clock is a parameter. The status of the planned resource is never read.
//!
//! The chain rule: a generation is applied only when its predecessor is *proven*, that is, when on every
//! selected node that is ready a pod of the current template is Ready and the operator's own verification
//! found nothing else than expected. Surplus generations are deleted from the highest, one at a time. A
//! running generation is never taken away because its predecessor wavers.
//!
//! Called by the driver until no more information is needed (see [`PlanNeed`]); `report` turns the conditions
//! into status.

mod action;
mod conditions;
mod diagnose;
mod generation;
mod index;
mod limit;
mod missing;
mod need;
mod ports;
mod progress;
mod requeue;
mod seed;
mod text;
mod validate;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::time::Duration;

use quinistry_oci::Digest;
use quinistry_quine::REPOSITORY;

use k8s_openapi::jiff::Timestamp;

use super::build::{self, BuildInput};
use super::naming;
use super::observed::{FetchResult, ObservedDaemonSet, ObservedNode, ObservedPod, ObservedState};
use super::resource::ValidResource;
use super::store::StoreReport;
use crate::crd::{Deviation, GenerationState, GenerationStatus, NetworkMode, Reason};

pub(super) use action::{Action, DropPart, VerifyRequest};
pub(super) use conditions::{Conditions, PlannedCondition};
use generation::{DaemonSetDiff, GenerationView};
use index::NodeIndex;
use limit::limit;
pub(super) use missing::Missing;
pub(super) use need::{PlanNeed, plan};
pub(super) use progress::MissingSince;
use progress::RolloutProgress;
pub(super) use requeue::Requeue;
use seed::SeedView;
pub(super) use text::{counted, names, shorten};
pub(super) use validate::{Share, ValidSpec, validate};

/// Number of pods of a generation that the operator verifies.
const SAMPLE_PODS: usize = 8;

/// Number of pods that the operator verifies where the digest is learned: a moving tag gives nodes different
/// images.
const LEARNING_SAMPLE_PODS: usize = 64;

/// Time in seconds after which a running pod that is not Ready is verified, to tell the reason.
const SUSPECT_AFTER_SECONDS: i64 = 8;

/// Outcome of a plan: actions, and what to report.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ReconcilePlan {
    /// Actions in the order in which they are carried out.
    pub actions: Vec<Action>,
    /// Conditions of the resource.
    pub conditions: Conditions,
    /// Status of each generation.
    pub generations: Vec<GenerationStatus>,
    /// Digest of the fixed point, if known.
    pub digest: Option<String>,
    /// All deviations; status shows the first few.
    pub deviations: Vec<Deviation>,
    /// Pods to verify.
    pub verify: Vec<VerifyRequest>,
    /// True if some of these pods were never fetched from: conditions then show what is not known yet.
    pub is_unverified: bool,
    /// When to plan again.
    pub requeue: Requeue,
    /// Pods and generations whose Events are needed.
    pub missing: Missing,
    /// Times since which nodes lack generations, for the next plan.
    pub missing_since: MissingSince,
    /// Nodes without a known carrier, whose running images are needed.
    pub nodes_without_carrier: Vec<String>,
    /// Report about the stores, which are planned apart; `None` without stores.
    pub store: Option<StoreReport>,
}

/// Plans from what is observed, even if more information could be queried.
#[must_use]
pub(super) fn plan_as_observed(
    quinistry: &ValidResource,
    observed: &ObservedState,
    now: Timestamp,
) -> ReconcilePlan {
    if quinistry.identity.is_leaving {
        return ReconcilePlan { requeue: Requeue::Never, ..ReconcilePlan::default() };
    }
    let seed =
        quinistry.executable.as_ref().map(|executable| SeedView::new(quinistry, observed, now, executable));
    let mut chain = ChainView::new(quinistry, observed, now, seed);
    chain.add_views();
    let rival = ports::owner(quinistry, observed);
    let mut actions = chain.actions();
    if rival.is_some() || quinistry.spec.suspend {
        actions.clear();
    }
    if let Some(rejection) = &observed.rejection {
        actions.retain(
            |action| !matches!(action, Action::Apply(set) if build::applied(set) == rejection.applied),
        );
    }
    let progress = RolloutProgress::of(&chain, &actions);
    let deviations = diagnose::deviations(&chain, &progress);
    let (conditions, joining) =
        conditions::derive(&chain, &deviations, rival.as_ref(), observed.rejection.as_ref(), &progress);
    // A suspended resource changes only when its user acts.
    let is_awaited =
        !quinistry.spec.suspend && conditions.ready.status != "True" || !progress.missing_since.is_empty();
    let deadline = progress.due.and_then(|due| u64::try_from(due).ok()).map(Duration::from_secs);
    let requeue = if is_awaited { Requeue::Soon { deadline } } else { Requeue::Idle };
    let verify = chain.requests();
    ReconcilePlan {
        actions,
        generations: chain.statuses(joining),
        digest: chain.digest.as_ref().map(ToString::to_string),
        is_unverified: verify.iter().any(|request| !observed.fetched.contains_key(&request.start)),
        verify,
        requeue,
        missing: Missing::of(&chain),
        missing_since: progress.missing_since,
        nodes_without_carrier: seed::nodes_without_carrier(quinistry, observed),
        store: None,
        conditions,
        deviations,
    }
}

// === impl ReconcilePlan ===

impl ReconcilePlan {
    /// Plans for a resource with an invalid specification: no action, and conditions that tell why.
    pub(super) fn refused(message: String) -> Self {
        Self { conditions: Conditions::refused(Reason::InvalidSpec, message), ..Self::default() }
    }
}

/// The generations in order, each seen against what it should be.
struct ChainView<'a> {
    quinistry: &'a ValidResource,
    observed: &'a ObservedState,
    now: Timestamp,
    /// Digest from the specification, or learned from generation 1.
    digest: Option<Digest>,
    seed: Option<SeedView<'a>>,
    /// Selected nodes that the chain waits for.
    ready: Vec<&'a ObservedNode>,
    selected: Vec<&'a ObservedNode>,
    nodes: Rc<NodeIndex<'a>>,
    views: Vec<GenerationView<'a>>,
}

// === impl ChainView ===

impl<'a> ChainView<'a> {
    fn new(
        quinistry: &'a ValidResource,
        observed: &'a ObservedState,
        now: Timestamp,
        seed: Option<SeedView<'a>>,
    ) -> Self {
        let selected = generation::selected(quinistry, observed);
        // A node without a carrier is reported, and the chain does not wait for it.
        let lacks_carrier = |node: &ObservedNode| {
            seed.as_ref().is_some_and(|seed| seed.assignment.without.contains_key(&node.name))
        };
        let ready: Vec<_> =
            selected.iter().copied().filter(|node| node.ready && !lacks_carrier(node)).collect();
        let nodes = Rc::new(NodeIndex::new(observed, &ready));
        let digest = quinistry.digest.clone();
        Self { quinistry, observed, now, digest, seed, ready, selected, nodes, views: Vec::new() }
    }

    /// Adds the view of every wanted generation, each after its predecessor.
    fn add_views(&mut self) {
        let mut reachable = self.seed.as_ref().is_none_or(SeedView::is_whole);
        for number in naming::first_generation(&self.quinistry.spec)..=self.quinistry.spec.generations {
            let learning = self.learns(number);
            let sets = if number == 0 { self.seed_sets() } else { vec![self.set(number)] };
            let view = GenerationView::new(self, number, sets, reachable, learning);
            if learning {
                self.digest = view.learned();
            }
            let handed_over = self.seed.as_ref().is_some_and(|seed| seed.handed_over);
            reachable = view.is_proven(self.digest.as_ref()) && !handed_over;
            self.views.push(view);
        }
    }

    fn learns(&self, number: i32) -> bool {
        number == 1 && self.quinistry.digest.is_none()
    }

    /// Returns the set of a generation. Without a digest no child can be built, but an earlier set may exist.
    fn set(&self, number: i32) -> DaemonSetDiff<'a> {
        let live = self.observed.daemon_set(number);
        let digest = if self.learns(number) { None } else { self.digest.as_ref() };
        let Some(image) = self.image(number) else { return DaemonSetDiff::new(None, live) };
        let max_unavailable = self.max_unavailable(number);
        let stores = self.observed.stores.as_deref();
        let input =
            BuildInput { generation: number, image: &image, digest, max_unavailable, stores, seed: None };
        self.wanted(&input, live)
    }

    /// Returns the sets of generation 0, one for each carrier. While the number of parts is unknown, only
    /// existing sets are returned.
    fn seed_sets(&self) -> Vec<DaemonSetDiff<'a>> {
        let Some(seed) = &self.seed else { return Vec::new() };
        let Some(part_count) = seed.part_count else {
            return self.observed.sets_of(0).map(|live| DaemonSetDiff::new(None, Some(live))).collect();
        };
        let max_unavailable = self.max_unavailable(0);
        let set = |(carrier, image): (&str, &str)| {
            let live = self.observed.sets_of(0).find(|set| set.carrier.as_deref() == Some(carrier));
            let seed = Some(build::SeedInput { carrier, executable: seed.executable, part_count });
            let digest = self.quinistry.digest.as_ref();
            let input = BuildInput { generation: 0, image, digest, max_unavailable, stores: None, seed };
            self.wanted(&input, live)
        };
        seed.carriers().map(set).collect()
    }

    fn wanted(&self, input: &BuildInput<'_>, live: Option<&'a ObservedDaemonSet>) -> DaemonSetDiff<'a> {
        let other = live.and_then(|live| Some((live, self.with_limit_of(input, live)?)));
        match other {
            Some((live, same)) if self.is_at_rest(input, &same) => DaemonSetDiff::new(Some(same), Some(live)),
            Some((live, _)) => {
                let lowers = limit(live).is_some_and(|limit| limit > input.max_unavailable);
                DaemonSetDiff::new(Some(build::daemon_set(self.quinistry, input)), Some(live))
                    .with_lowered_limit(lowers)
            }
            None => DaemonSetDiff::new(Some(build::daemon_set(self.quinistry, input)), live),
        }
    }

    fn image(&self, number: i32) -> Option<String> {
        if number == 0 {
            let images: Vec<_> =
                self.seed.iter().flat_map(SeedView::carriers).map(|(_, image)| image).collect();
            return Some(images.join(", "));
        }
        if build::starts_from_bootstrap_image(self.quinistry, number) {
            return self.quinistry.spec.image.clone();
        }
        let port = naming::port(&self.quinistry.spec, number - 1);
        self.digest.as_ref().map(|digest| format!("localhost:{port}/{REPOSITORY}@{digest}"))
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions = self.seed.as_ref().map(SeedView::actions).unwrap_or_default();
        for view in &self.views {
            actions.extend(view.to_apply().into_iter().map(|set| Action::Apply(Box::new(set.clone()))));
        }
        actions.extend(self.surplus());
        actions.extend(self.surplus_seed());
        actions.extend(self.stuck().map(|pod| Action::Replace {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.start.uid.clone(),
        }));
        if self.proven() == self.views.len() && !self.views.is_empty() {
            match &self.seed {
                Some(seed) => actions.extend(seed.unneeded_parts(self.now)),
                None => actions.extend(seed::all_parts(self.observed)),
            }
        }
        actions
    }

    /// Returns the deletion of sets whose carrier no node has any more, and of all sets of generation 0 once
    /// generation 1 is proven on a bootstrap image.
    fn surplus_seed(&self) -> impl Iterator<Item = Action> {
        let standing = self.seed.is_some() || self.proven() > 0;
        let wanted = |set: &ObservedDaemonSet| {
            let mut carriers = self.seed.iter().flat_map(SeedView::carriers);
            carriers.any(|(key, _)| set.carrier.as_deref() == Some(key))
        };
        self.observed.sets_of(0).filter(move |set| standing && !set.deleting && !wanted(set)).map(|set| {
            Action::Delete { namespace: set.namespace.clone(), name: set.name.clone(), generation: 0 }
        })
    }

    /// Returns the deletion of the highest surplus generation, unless it is being deleted already. The next
    /// one down waits until set and pods are gone, so that no generation outlives the one it was pulled from.
    fn surplus(&self) -> Option<Action> {
        let wanted = self.quinistry.spec.generations;
        let sets = self.observed.daemon_sets.iter().map(|set| set.generation);
        let orphans = self.observed.orphans(self.quinistry.name()).filter(|pod| self.is_on_a_ready_node(pod));
        let highest =
            sets.chain(orphans.map(|pod| pod.generation)).filter(|number| *number > wanted).max()?;
        let set = self.observed.daemon_set(highest).filter(|set| !set.deleting)?;
        Some(Action::Delete { namespace: set.namespace.clone(), name: set.name.clone(), generation: highest })
    }

    /// Returns the pods whose pulls back off and that were created before their predecessor on the node
    /// became Ready: they never started, or their node has lost its images since. A younger pod had its
    /// chance, and replacing it again and again would hide the problem.
    fn stuck(&self) -> impl Iterator<Item = &'a ObservedPod> {
        let seed = self.seed.as_ref();
        self.views.iter().filter(|view| view.is_current()).flat_map(move |view| {
            view.pods.iter().copied().filter(move |pod| {
                if view.number == 0 {
                    return view.is_of_current_template(pod) && seed.is_some_and(|seed| seed.is_stale(pod));
                }
                // The kubelet reports a back-off only at its next sync of the pod, when the back-off is over.
                let waits = pod.waiting.as_ref().is_some_and(|(reason, _)| {
                    matches!(reason.as_str(), "ErrImagePull" | "ImagePullBackOff")
                });
                let came_later = || {
                    let on_it = self.below(view).map_or(&[][..], |below| below.beside(pod));
                    let predecessor = on_it.iter().find(|other| !other.deleting);
                    let since = predecessor.and_then(|other| Some(other.ready?.min(other.seen)));
                    since.is_some_and(|since| since >= pod.created)
                };
                waits && !pod.deleting && view.is_of_current_template(pod) && came_later()
            })
        })
    }

    /// Returns the generation that another one is pulled from.
    fn below(&self, view: &GenerationView<'_>) -> Option<&GenerationView<'a>> {
        self.views.iter().find(|below| below.number == view.number - 1)
    }

    fn is_on_a_ready_node(&self, pod: &ObservedPod) -> bool {
        self.nodes.of(pod).is_some_and(|node| node.ready)
    }

    fn requests(&self) -> Vec<VerifyRequest> {
        if self.quinistry.spec.network.mode == NetworkMode::HostNetwork {
            return Vec::new();
        }
        let mut requests: Vec<_> = self
            .views
            .iter()
            .flat_map(|view| view.sample().into_iter().chain(view.suspects(self.now)))
            .filter(|pod| {
                !matches!(
                    self.observed.fetched.get(&pod.start),
                    Some(FetchResult::Whole(_) | FetchResult::Corrupt(_))
                )
            })
            .filter_map(|pod| Some(VerifyRequest { start: pod.start.clone(), ip: pod.ip.clone()? }))
            .collect();
        requests.sort_unstable();
        requests.dedup();
        requests
    }

    /// Returns the status of each generation. `joining`: all are proven except on nodes that have just
    /// joined.
    fn statuses(&self, joining: bool) -> Vec<GenerationStatus> {
        self.views.iter().map(|view| view.status(self, joining)).collect()
    }

    fn proven(&self) -> usize {
        self.views.iter().filter(|view| view.is_proven(self.digest.as_ref())).count()
    }

    fn has_surplus(&self) -> bool {
        self.observed.daemon_sets.iter().any(|set| set.generation > self.quinistry.spec.generations)
    }
}

/// Derives a generation's state from its pods.
fn state(view: &GenerationView<'_>, proven: bool, failure: Option<Reason>) -> GenerationState {
    let differs = matches!(failure, Some(Reason::DigestMismatch | Reason::BootstrapDigestDiffers));
    match () {
        () if !view.exists() && !view.reachable => GenerationState::Waiting,
        () if differs => GenerationState::Failed,
        // As in the condition: a problem on a node that the chain does not wait for changes nothing.
        () if proven => GenerationState::Ready,
        () if failure.is_some() => GenerationState::Failed,
        () if view.is_rolled_out() => GenerationState::Verifying,
        () => GenerationState::Rolling,
    }
}
