//! Plan: from what is wanted and what is observed to what is to be done and said. Pure and total; the clock is a
//! parameter, and status is never read.
//!
//! The chain rule: a generation is applied only when its predecessor is *proven*, that is, when on every selected node
//! that is ready a pod of the current template is Ready and the operator's own look found nothing else than expected.
//! Generations that are too many go from the highest, one at a time. What runs is never taken away because its
//! predecessor wavers.
//!
//! Called by the driver before and after verification; `report` turns the words into status.

mod conditions;
mod diagnose;
mod generation;
mod ports;
mod validate;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::jiff::Timestamp;

use super::build::{self, Input};
use super::identity;
use super::observed::{Fetched, Observed, Pod, PodStart};
use crate::crd::{Deviation, GenerationState, GenerationStatus, NetworkMode, Quinistry, Reason};
use crate::oci::Digest;
use crate::quine::REPOSITORY;

pub(super) use conditions::Words;
use generation::View;

/// How many pods of a generation the operator fetches from.
const SAMPLE: usize = 8;

/// The same where the digest is learned.
const LEARNING_SAMPLE: usize = 64;

/// After how many seconds a pod that runs and is not Ready is asked directly, to tell why.
const SUSPICIOUS: i64 = 8;

/// One thing to do. Each is harmless to repeat.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Create or change a generation.
    Apply(Box<apps::DaemonSet>),
    /// Remove a generation.
    Delete {
        /// Its namespace.
        namespace: String,
        /// Its `DaemonSet`.
        name: String,
        /// The generation.
        generation: i32,
    },
    /// Replace a pod whose pulls are backing off although there is something to pull now.
    Replace {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID, so that no other is meant.
        uid: String,
    },
}

/// A pod to fetch every byte from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VerifyRequest {
    /// Which.
    pub start: PodStart,
    /// Where.
    pub ip: String,
}

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
    /// Generations some of whose pods are missing, so that Events should be asked why.
    pub missing: BTreeSet<i32>,
    /// Nothing is to be done or said: the resource is going away.
    pub gone: bool,
}

/// Plans.
#[must_use]
pub(super) fn plan(quinistry: &Quinistry, observed: &Observed, now: Timestamp) -> Plan {
    if quinistry.metadata.deletion_timestamp.is_some() {
        return Plan { gone: true, ..Plan::default() };
    }
    let digest = match validate::validate(quinistry) {
        Ok(digest) => digest,
        Err(message) => {
            return Plan { words: Words::refused(Reason::InvalidSpec, message), ..Plan::default() };
        }
    };
    let mut chain = Chain::new(quinistry, observed, now, digest);
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
    let deviations = diagnose::deviations(&chain);
    let words = conditions::words(
        &chain,
        &deviations,
        rival.as_ref(),
        observed.rejection.as_ref(),
        !actions.is_empty(),
    );
    // What waits for another resource or for a person changes only when they act.
    let waiting = rival.is_none() && !quinistry.spec.suspend && words.ready.status != "True";
    let verify = chain.requests();
    Plan {
        actions,
        generations: chain.statuses(),
        digest: chain.digest.as_ref().map(ToString::to_string),
        looking: verify.iter().any(|request| !observed.fetched.contains_key(&request.start)),
        verify,
        waiting,
        missing: chain
            .views
            .iter()
            .filter(|view| view.is_missing_pods(now))
            .map(|view| view.number)
            .collect(),
        words,
        deviations,
        gone: false,
    }
}

/// The generations in order, each seen against what it should be.
struct Chain<'a> {
    quinistry: &'a Quinistry,
    observed: &'a Observed,
    now: Timestamp,
    /// Given, or learned from generation 1.
    digest: Option<Digest>,
    /// Given.
    expected: Option<Digest>,
    views: Vec<View<'a>>,
}

// === impl Chain ===

impl<'a> Chain<'a> {
    fn new(
        quinistry: &'a Quinistry,
        observed: &'a Observed,
        now: Timestamp,
        expected: Option<Digest>,
    ) -> Self {
        Self { quinistry, observed, now, digest: expected.clone(), expected, views: Vec::new() }
    }

    /// Looks at every generation that is wanted, each after the one it depends on.
    fn raise(&mut self) {
        let max_unavailable = self.max_unavailable();
        let mut reachable = true;
        for number in 1..=self.quinistry.spec.generations {
            let image = self.image(number);
            let digest = if number == 1 { self.expected.as_ref() } else { self.digest.as_ref() };
            // Without a digest there is no child to build, but one from before may be there to look at.
            let wanted = image.map(|image| {
                let input = Input { generation: number, image: &image, digest, max_unavailable };
                self.at_rest(&input).unwrap_or_else(|| build::daemon_set(self.quinistry, &input))
            });
            let view = View::new(
                self.quinistry,
                self.observed,
                number,
                wanted,
                reachable,
                number == 1 && self.expected.is_none(),
            );
            if number == 1 && self.expected.is_none() {
                self.digest = view.learned();
            }
            reachable = view.is_proven(self.digest.as_ref());
            self.views.push(view);
        }
    }

    fn image(&self, number: i32) -> Option<String> {
        if number == 1 {
            return self.quinistry.spec.image.clone();
        }
        let port = identity::port(self.quinistry, number - 1);
        self.digest.as_ref().map(|digest| format!("localhost:{port}/{REPOSITORY}@{digest}"))
    }

    /// The controller counts nodes that are not ready against the limit, and would wait for them for ever.
    fn max_unavailable(&self) -> i32 {
        let (ready, selected) = generation::selected(self.quinistry, self.observed);
        let absent = selected.len() - ready.len();
        let allowed = validate::max_unavailable(&self.quinistry.spec.rollout.max_unavailable, selected.len());
        allowed.saturating_add(i32::try_from(absent).unwrap_or(i32::MAX))
    }

    /// What is there already, if it differs in the limit alone and has nothing to replace, as the limit means nothing
    /// then: nodes come and go, and each time all generations would be written twice, and Ready be lost meanwhile.
    fn at_rest(&self, input: &Input<'_>) -> Option<apps::DaemonSet> {
        let live = self.observed.daemon_set(input.generation)?;
        let max_unavailable = live.spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"].as_i64()?;
        let max_unavailable =
            i32::try_from(max_unavailable).ok().filter(|live| *live != input.max_unavailable)?;
        let same = build::daemon_set(self.quinistry, &Input { max_unavailable, ..input.clone() });
        let stale = |pod: &Pod| {
            !pod.deleting
                && self.node_is_ready(&pod.node)
                && pod.template.as_deref() != Some(build::template(&same))
        };
        let rests = !self.observed.pods_of(input.generation).any(stale);
        (rests && live.applied.as_deref() == Some(build::applied(&same))).then_some(same)
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for view in &self.views {
            if let Some(set) = view.to_apply() {
                actions.push(Action::Apply(Box::new(set.clone())));
            }
        }
        actions.extend(self.surplus());
        actions.extend(self.stuck().map(|pod| Action::Replace {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.start.uid.clone(),
        }));
        actions
    }

    /// The highest generation that is one too many, unless it is already on its way out: the next one down waits for
    /// its absence, pods included, so that nothing outlives what it was pulled from.
    fn surplus(&self) -> Option<Action> {
        let wanted = self.quinistry.spec.generations;
        let sets = self.observed.daemon_sets.iter().map(|set| set.generation);
        let pods =
            self.observed.pods.iter().filter(|pod| self.node_is_ready(&pod.node)).map(|pod| pod.generation);
        let highest = sets.chain(pods).filter(|number| *number > wanted).max()?;
        let set = self.observed.daemon_set(highest).filter(|set| !set.deleting)?;
        Some(Action::Delete { namespace: set.namespace.clone(), name: set.name.clone(), generation: highest })
    }

    /// Pods whose pulls back off, and that were made before their predecessor on the node became Ready: they never
    /// started, or their node has lost its images since. A pod that is younger had its chance, and replacing it again
    /// and again would hide what is wrong.
    fn stuck(&self) -> impl Iterator<Item = &'a Pod> {
        let observed = self.observed;
        self.views.iter().filter(|view| view.number > 1 && view.is_current()).flat_map(move |view| {
            view.pods.iter().copied().filter(move |pod| {
                // The kubelet tells of a back-off only when it next looks at the pod, and that is when it is over.
                let waits = pod.waiting.as_ref().is_some_and(|(reason, _)| {
                    matches!(reason.as_str(), "ErrImagePull" | "ImagePullBackOff")
                });
                let predecessor = observed
                    .pods_of(view.number - 1)
                    .find(|other| other.node == pod.node && !other.deleting)
                    .and_then(|other| other.ready);
                waits
                    && !pod.deleting
                    && view.is_of_current_template(pod)
                    && predecessor.is_some_and(|since| since >= pod.created)
            })
        })
    }

    fn node_is_ready(&self, name: &str) -> bool {
        self.observed.node(name).is_some_and(|node| node.ready)
    }

    fn is_learning(&self, view: &View<'_>) -> bool {
        view.number == 1 && self.expected.is_none()
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

    fn statuses(&self) -> Vec<GenerationStatus> {
        self.views.iter().map(|view| view.status(self)).collect()
    }

    fn proven(&self) -> usize {
        self.views.iter().filter(|view| view.is_proven(self.digest.as_ref())).count()
    }

    fn has_surplus(&self) -> bool {
        self.observed.daemon_sets.iter().any(|set| set.generation > self.quinistry.spec.generations)
    }
}

/// Whether a generation with these signs failed.
fn state(view: &View<'_>, proven: bool, failed: bool) -> GenerationState {
    match () {
        () if view.live.is_none() && !view.reachable => GenerationState::Waiting,
        () if failed => GenerationState::Failed,
        () if proven => GenerationState::Ready,
        () if view.is_rolled_out() => GenerationState::Verifying,
        () => GenerationState::Rolling,
    }
}
