//! Plan: from what is wanted and what is observed to what is to be done and said. Pure and total; the clock is a
//! parameter. No status is ever read.
//!
//! The chain rule: a generation is applied only when its predecessor is *proven*, that is, when on every selected node
//! that is ready a pod of the current template is Ready and the operator's own look found nothing else than expected.
//! Generations that are too many go from the highest, one at a time. What runs is never taken away because its
//! predecessor wavers.
//!
//! Called by the driver until nothing more is to be asked (see [`Step`]); `report` turns the words into status.

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

use super::build::{self, Input};
use super::naming;
use super::observed::{DaemonSet, Fetched, Node, Observed, Pod};
use super::resource::Resource;
use crate::crd::{Deviation, GenerationState, GenerationStatus, NetworkMode, Reason};

pub(super) use action::{Action, DropPart, VerifyRequest};
pub(super) use conditions::Words;
use generation::{Set, View};
use index::Nodes;
use limit::limit;
pub(super) use missing::Missing;
pub(super) use need::{Step, plan};
pub(super) use progress::Lacking;
use progress::Progress;
use seed::Seed;
pub(super) use validate::{Share, Valid, validate};

/// How many pods of a generation the operator fetches from.
const SAMPLE: usize = 8;

/// The same where the digest is learned.
const LEARNING_SAMPLE: usize = 64;

/// After how many seconds a pod that runs and is not Ready is asked directly, to tell why.
const SUSPICIOUS: i64 = 8;

/// What is to be done, and what is to be said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// To do, in this order.
    pub actions: Vec<Action>,
    /// Conditions.
    pub words: Words,
    /// The lineage.
    pub generations: Vec<GenerationStatus>,
    /// The fixed point, if known.
    pub digest: Option<String>,
    /// All of them; status shows the first few.
    pub deviations: Vec<Deviation>,
    /// Pods to look at.
    pub verify: Vec<VerifyRequest>,
    /// Some of them were never asked, so that what is said here comes of not knowing yet.
    pub looking: bool,
    /// Whether something is expected to change by itself soon.
    pub waiting: bool,
    /// Time until a deadline passes, if one is awaited.
    pub due: Option<Duration>,
    /// The pods and generations that Events should be asked about.
    pub missing: Missing,
    /// Times since which nodes lack generations, for the next plan.
    pub lacking: Lacking,
    /// Nodes whose pods should be asked for images, as no carrier is known there.
    pub strangers: Vec<String>,
    /// Nothing is to be done or said: the resource is going away.
    pub gone: bool,
}

/// Plans with what is known, whatever more could be asked.
#[must_use]
pub(super) fn with_what_is_known(quinistry: &Resource, observed: &Observed, now: Timestamp) -> Plan {
    if quinistry.identity.is_leaving {
        return Plan { gone: true, ..Plan::default() };
    }
    let seed =
        quinistry.executable.as_ref().map(|executable| Seed::new(quinistry, observed, now, executable));
    let mut chain = Chain::new(quinistry, observed, now, seed);
    chain.raise();
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
    let progress = Progress::of(&chain, &actions);
    let deviations = diagnose::deviations(&chain, &progress);
    let (words, joining) =
        conditions::words(&chain, &deviations, rival.as_ref(), observed.rejection.as_ref(), &progress);
    // A resource that waits for its user changes only when the user acts.
    let waiting = !quinistry.spec.suspend && words.ready.status != "True" || !progress.lacking.is_empty();
    let verify = chain.requests();
    Plan {
        actions,
        generations: chain.statuses(joining),
        digest: chain.digest.as_ref().map(ToString::to_string),
        looking: verify.iter().any(|request| !observed.fetched.contains_key(&request.start)),
        verify,
        waiting,
        due: progress
            .due
            .and_then(|due| u64::try_from(due).ok())
            .map(Duration::from_secs)
            .filter(|_| waiting),
        missing: Missing::of(&chain),
        lacking: progress.lacking,
        strangers: seed::strangers(quinistry, observed),
        words,
        deviations,
        gone: false,
    }
}

// === impl Plan ===

impl Plan {
    /// Plans for a resource whose specification cannot be carried out: nothing is done, and that is said.
    pub(super) fn refused(message: String) -> Self {
        Self { words: Words::refused(Reason::InvalidSpec, message), ..Self::default() }
    }
}

/// The generations in order, each seen against what it should be.
struct Chain<'a> {
    quinistry: &'a Resource,
    observed: &'a Observed,
    now: Timestamp,
    /// Given, or learned from generation 1.
    digest: Option<Digest>,
    seed: Option<Seed<'a>>,
    /// Selected nodes that are ready and can have generations.
    ready: Vec<&'a Node>,
    selected: Vec<&'a Node>,
    nodes: Rc<Nodes<'a>>,
    views: Vec<View<'a>>,
}

// === impl Chain ===

impl<'a> Chain<'a> {
    fn new(quinistry: &'a Resource, observed: &'a Observed, now: Timestamp, seed: Option<Seed<'a>>) -> Self {
        let selected = generation::selected(quinistry, observed);
        // Without a carrier a node has nobody to pull from: that is told, and holds up no other node.
        let barren =
            |node: &Node| seed.as_ref().is_some_and(|seed| seed.assignment.without.contains_key(&node.name));
        let ready: Vec<_> = selected.iter().copied().filter(|node| node.ready && !barren(node)).collect();
        let nodes = Rc::new(Nodes::new(observed, &ready));
        let digest = quinistry.digest.clone();
        Self { quinistry, observed, now, digest, seed, ready, selected, nodes, views: Vec::new() }
    }

    /// Looks at every generation that is wanted, each after the one it depends on.
    fn raise(&mut self) {
        let mut reachable = self.seed.as_ref().is_none_or(Seed::is_whole);
        for number in naming::first(&self.quinistry.spec)..=self.quinistry.spec.generations {
            let learning = self.learns(number);
            let sets = if number == 0 { self.seed_sets() } else { vec![self.set(number)] };
            let view = View::new(self, number, sets, reachable, learning);
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

    /// Without a digest there is no child to build, but one from before may be there to look at.
    fn set(&self, number: i32) -> Set<'a> {
        let live = self.observed.daemon_set(number);
        let digest = if self.learns(number) { None } else { self.digest.as_ref() };
        let Some(image) = self.image(number) else { return Set::new(None, live) };
        let max_unavailable = self.max_unavailable(number);
        let input = Input { generation: number, image: &image, digest, max_unavailable, seed: None };
        self.wanted(&input, live)
    }

    /// One for each carrier. While nobody knows how many pieces there are, those that are there can be looked at alone.
    fn seed_sets(&self) -> Vec<Set<'a>> {
        let Some(seed) = &self.seed else { return Vec::new() };
        let Some(pieces) = seed.pieces else {
            return self.observed.sets_of(0).map(|live| Set::new(None, Some(live))).collect();
        };
        let max_unavailable = self.max_unavailable(0);
        let set = |(carrier, image): (&str, &str)| {
            let live = self.observed.sets_of(0).find(|set| set.carrier.as_deref() == Some(carrier));
            let seed = Some(build::Seed { carrier, executable: seed.executable, pieces });
            let digest = self.quinistry.digest.as_ref();
            let input = Input { generation: 0, image, digest, max_unavailable, seed };
            self.wanted(&input, live)
        };
        seed.carriers().map(set).collect()
    }

    fn wanted(&self, input: &Input<'_>, live: Option<&'a DaemonSet>) -> Set<'a> {
        let other = live.and_then(|live| Some((live, self.with_limit_of(input, live)?)));
        match other {
            Some((live, same)) if self.is_at_rest(input, &same) => Set::new(Some(same), Some(live)),
            Some((live, _)) => {
                let lowers = limit(live).is_some_and(|limit| limit > input.max_unavailable);
                Set::new(Some(build::daemon_set(self.quinistry, input)), Some(live)).lowering(lowers)
            }
            None => Set::new(Some(build::daemon_set(self.quinistry, input)), live),
        }
    }

    fn image(&self, number: i32) -> Option<String> {
        if number == 0 {
            let images: Vec<_> = self.seed.iter().flat_map(Seed::carriers).map(|(_, image)| image).collect();
            return Some(images.join(", "));
        }
        if build::bootstraps(self.quinistry, number) {
            return self.quinistry.spec.image.clone();
        }
        let port = naming::port(&self.quinistry.spec, number - 1);
        self.digest.as_ref().map(|digest| format!("localhost:{port}/{REPOSITORY}@{digest}"))
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions = self.seed.as_ref().map(Seed::actions).unwrap_or_default();
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
                Some(seed) => actions.extend(seed.old(self.now)),
                None => actions.extend(seed::leftovers(self.observed)),
            }
        }
        actions
    }

    /// Carriers that no node has any more; all of them, once generation 1 stands on a bootstrap image.
    fn surplus_seed(&self) -> impl Iterator<Item = Action> {
        let standing = self.seed.is_some() || self.proven() > 0;
        let wanted = |set: &DaemonSet| {
            let mut carriers = self.seed.iter().flat_map(Seed::carriers);
            carriers.any(|(key, _)| set.carrier.as_deref() == Some(key))
        };
        self.observed.sets_of(0).filter(move |set| standing && !set.deleting && !wanted(set)).map(|set| {
            Action::Delete { namespace: set.namespace.clone(), name: set.name.clone(), generation: 0 }
        })
    }

    /// The highest generation that is one too many, unless it is already on its way out: the next one down waits for
    /// its absence, pods included, so that nothing outlives what it was pulled from.
    fn surplus(&self) -> Option<Action> {
        let wanted = self.quinistry.spec.generations;
        let sets = self.observed.daemon_sets.iter().map(|set| set.generation);
        let orphans = self.observed.orphans(self.quinistry.name()).filter(|pod| self.is_on_a_ready_node(pod));
        let highest =
            sets.chain(orphans.map(|pod| pod.generation)).filter(|number| *number > wanted).max()?;
        let set = self.observed.daemon_set(highest).filter(|set| !set.deleting)?;
        Some(Action::Delete { namespace: set.namespace.clone(), name: set.name.clone(), generation: highest })
    }

    /// Pods whose pulls back off, and that were made before their predecessor on the node became Ready: they never
    /// started, or their node has lost its images since. A pod that is younger had its chance, and replacing it again
    /// and again would hide what is wrong.
    fn stuck(&self) -> impl Iterator<Item = &'a Pod> {
        let seed = self.seed.as_ref();
        self.views.iter().filter(|view| view.is_current()).flat_map(move |view| {
            view.pods.iter().copied().filter(move |pod| {
                if view.number == 0 {
                    return view.is_of_current_template(pod) && seed.is_some_and(|seed| seed.is_stale(pod));
                }
                // The kubelet tells of a back-off only when it next looks at the pod, and that is when it is over.
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

    /// The generation that one is pulled from.
    fn below(&self, view: &View<'_>) -> Option<&View<'a>> {
        self.views.iter().find(|below| below.number == view.number - 1)
    }

    fn is_on_a_ready_node(&self, pod: &Pod) -> bool {
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
                    Some(Fetched::Whole(_) | Fetched::Corrupt(_))
                )
            })
            .filter_map(|pod| Some(VerifyRequest { start: pod.start.clone(), ip: pod.ip.clone()? }))
            .collect();
        requests.sort();
        requests.dedup();
        requests
    }

    /// Returns the status of each generation. `joining`: all are proven but on nodes that have just joined.
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

/// Derives a generation's state from these signs.
fn state(view: &View<'_>, proven: bool, failure: Option<Reason>) -> GenerationState {
    let differs = matches!(failure, Some(Reason::DigestMismatch | Reason::BootstrapDigestDiffers));
    match () {
        () if !view.exists() && !view.reachable => GenerationState::Waiting,
        () if differs => GenerationState::Failed,
        // As in the condition: what is wrong where it is not waited for takes nothing away.
        () if proven => GenerationState::Ready,
        () if failure.is_some() => GenerationState::Failed,
        () if view.is_rolled_out() => GenerationState::Verifying,
        () => GenerationState::Rolling,
    }
}
