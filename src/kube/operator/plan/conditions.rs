//! The five conditions, derived from the chain. Pure.

use std::collections::BTreeSet;

use super::diagnose::gravity;
use super::ports::PortOwner;
use super::progress::RolloutProgress;
use super::text::{counted, names, shorten};
use super::{ChainView, GenerationView, SeedView, missing};
use crate::api::conditions::{DEGRADED, FIXED_POINT, PORTS_AVAILABLE, PROGRESSING, READY};
use crate::crd::{Deviation, Reason};
use crate::operator::observed::{FetchResult, ObservedPod, Rejection};
use crate::operator::select;
use crate::sorted::Sorted as _;

/// One condition, without the times of its API form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operator) struct PlannedCondition {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// Reason in CamelCase.
    pub reason: Reason,
    /// Message for users.
    pub message: String,
}

/// All conditions of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operator) struct Conditions {
    /// Every generation is proven.
    pub ready: PlannedCondition,
    /// The chain is changing.
    pub progressing: PlannedCondition,
    /// No other resource or pod uses the ports.
    pub ports_available: PlannedCondition,
    /// Every generation serves one digest.
    pub fixed_point: PlannedCondition,
    /// A problem needs attention.
    pub degraded: PlannedCondition,
}

impl Default for Conditions {
    fn default() -> Self {
        let unknown = condition("Unknown", Reason::Unknown, "nothing has been observed yet");
        Self {
            ready: unknown.clone(),
            progressing: unknown.clone(),
            ports_available: unknown.clone(),
            fixed_point: unknown.clone(),
            degraded: unknown,
        }
    }
}

impl Conditions {
    /// Returns the conditions of a resource that is refused as a whole.
    pub(super) fn refused(reason: Reason, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            ready: condition("False", reason, &message),
            progressing: condition("False", reason, &message),
            degraded: condition("True", reason, &message),
            ..Self::default()
        }
    }

    /// Returns the conditions with their types, in the order in which they are shown.
    #[must_use]
    pub(in crate::operator) fn all(&self) -> [(&'static str, &PlannedCondition); 5] {
        // Without `..`, so that a new condition cannot be forgotten here.
        let Self { ready, progressing, ports_available, fixed_point, degraded } = self;
        [
            (READY, ready),
            (PROGRESSING, progressing),
            (PORTS_AVAILABLE, ports_available),
            (FIXED_POINT, fixed_point),
            (DEGRADED, degraded),
        ]
    }
}

fn condition(status: &'static str, reason: Reason, message: impl AsRef<str>) -> PlannedCondition {
    PlannedCondition { status, reason, message: shorten(message.as_ref()) }
}

/// Returns the conditions, and true if the chain is proven on all nodes except those that have just joined.
pub(super) fn derive(
    chain: &ChainView<'_>,
    deviations: &[Deviation],
    owner: Option<&PortOwner>,
    rejection: Option<&Rejection>,
    progress: &RolloutProgress,
) -> (Conditions, bool) {
    let ports_available = ports(deviations, owner);
    let done = is_done(chain, rejection);
    let joining = if done { Vec::new() } else { joining(chain) };
    let fixed_point = fixed_point(chain, deviations, &joining);
    let late = progress.late && !done && joining.is_empty() && !chain.quinistry.spec.suspend;
    let mut degraded = degraded(chain, deviations, &ports_available, &fixed_point, rejection, progress);
    let progressing = progressing(chain, deviations, &ports_available, &degraded, done, late);
    if degraded.status == "False" && progressing.reason == Reason::ProgressDeadlineExceeded {
        degraded = condition("True", progressing.reason, &progressing.message);
    }
    let ready = ready(chain, &ports_available, &fixed_point, &degraded, &progressing, done, &joining);
    let joining = !joining.is_empty() && ready.status == "True";
    (Conditions { ready, progressing, ports_available, fixed_point, degraded }, joining)
}

/// Returns true for problems that stop the chain; the others are only reported.
const fn stops(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::NodesNotReady
            | Reason::MixedArchitectures
            | Reason::AlwaysPullImages
            | Reason::NoCarrierImage
            | Reason::SeedIncomplete
            | Reason::ProgressDeadlineExceeded
    ) && !may_pass(reason)
}

/// Returns true for problems that may pass by themselves: they make a resource Degraded once their node was
/// waited for too long.
const fn may_pass(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Unschedulable
            | Reason::PodFailed
            | Reason::PodNotStarted
            | Reason::PodNotReady
            | Reason::PodTerminating
            | Reason::PodMissing
            | Reason::PodOutdated
    )
}

fn is_done(chain: &ChainView<'_>, rejection: Option<&Rejection>) -> bool {
    rejection.is_none() && chain.proven() == chain.views.len() && !chain.has_surplus()
}

fn ports(deviations: &[Deviation], owner: Option<&PortOwner>) -> PlannedCondition {
    if let Some(PortOwner { name, ports }) = owner {
        let (first, last) = (ports.start(), ports.end());
        let message = format!("{name} has ports {first} to {last}; nothing is done until it gives them up");
        return condition("False", Reason::PortConflict, message);
    }
    let about =
        |reason| matches!(reason, Reason::HostPortConflict | Reason::PortTaken | Reason::HostPortUnreachable);
    match describe_worst(deviations, about) {
        Some((reason, message)) => condition("False", reason, message),
        None => condition("True", Reason::PortsFree, "no other resource or pod is known to use the ports"),
    }
}

fn fixed_point(chain: &ChainView<'_>, deviations: &[Deviation], joining: &[&str]) -> PlannedCondition {
    let about = |reason| matches!(reason, Reason::DigestMismatch | Reason::BootstrapDigestDiffers);
    if let Some((reason, message)) = describe_worst(deviations, about) {
        return condition("False", reason, message);
    }
    let all = chain.views.len();
    let proven = if joining.is_empty() { chain.proven() } else { all };
    match &chain.digest {
        Some(digest) if proven > 0 => condition(
            "True",
            Reason::DigestsEqual,
            format!("{digest} is served by {proven} of {}", counted(all, "generation")),
        ),
        _ => condition("Unknown", Reason::Unknown, "no generation is proven yet"),
    }
}

fn degraded(
    chain: &ChainView<'_>,
    deviations: &[Deviation],
    ports: &PlannedCondition,
    fixed_point: &PlannedCondition,
    rejection: Option<&Rejection>,
    progress: &RolloutProgress,
) -> PlannedCondition {
    if let Some(rejection) = rejection {
        return condition("True", rejection.reason, &rejection.message);
    }
    for bad in [fixed_point, ports] {
        if bad.status == "False" {
            return condition("True", bad.reason, &bad.message);
        }
    }
    if let Some(refusal) = chain.observed.refusals.iter().find(|refusal| refusal.pod.is_none()) {
        let (reason, message) = missing::refusal_problem(chain, refusal);
        return condition("True", reason, message);
    }
    let (ready, all) = (&chain.ready, &chain.selected);
    if all.is_empty() {
        let message =
            "no node is selected: look at nodeSelector, at tolerations, and at the nodes' architecture";
        return condition("True", Reason::NoNodes, message);
    }
    if let Some((reason, message)) = describe_worst(deviations, stops) {
        return condition("True", reason, message);
    }
    if let Some((reason, message)) = chain.seed.as_ref().and_then(SeedView::problem) {
        return condition("True", reason, message);
    }
    if ready.len() < all.len()
        && let Some((reason, message)) = describe_worst(deviations, |reason| reason == Reason::NodesNotReady)
    {
        return condition("True", reason, message);
    }
    let overdue: Vec<Deviation> = deviations
        .iter()
        .filter(|one| !may_pass(one.reason) || progress.is_overdue(one.generation, &one.node))
        .cloned()
        .collect();
    if let Some((reason, message)) = describe_worst(&overdue, |_| true) {
        return condition("True", reason, message);
    }
    let other = chain
        .observed
        .nodes
        .iter()
        .filter(|node| select::misses_by_architecture(&chain.quinistry.spec, node));
    let other: Vec<&str> = other.map(|node| node.name.as_str()).collect();
    if !other.is_empty() {
        let message = format!(
            "left out, since the architecture is another one there: {}; name one in nodeSelector if that is meant",
            names(other)
        );
        return condition("True", Reason::MixedArchitectures, message);
    }
    condition("False", Reason::AsExpected, "nothing is wrong")
}

fn progressing(
    chain: &ChainView<'_>,
    deviations: &[Deviation],
    ports: &PlannedCondition,
    degraded: &PlannedCondition,
    done: bool,
    late: bool,
) -> PlannedCondition {
    if chain.quinistry.spec.suspend {
        return condition(
            "False",
            Reason::Suspended,
            "suspended: nothing is changed; what runs goes on running",
        );
    }
    if done {
        return condition("False", Reason::AllProven, "every generation is proven");
    }
    if ports.reason == Reason::PortConflict {
        return condition("False", Reason::PortConflict, &ports.message);
    }
    if let Some((reason, message)) =
        describe_worst(deviations, |reason| reason == Reason::BootstrapImagePullFailed)
    {
        return condition("False", reason, message);
    }
    let terminal =
        matches!(degraded.reason, Reason::ApplyRejected | Reason::NamespaceTerminating | Reason::NoNodes)
            || matches!(degraded.reason, Reason::DigestMismatch | Reason::BootstrapDigestDiffers);
    if degraded.status == "True" && terminal {
        return condition("False", degraded.reason, &degraded.message);
    }
    let step = current_step(chain);
    let allowed = i64::from(chain.quinistry.spec.rollout.progress_deadline_seconds);
    if late {
        let message = format!("no progress for more than {allowed} seconds: {step}");
        return condition("False", Reason::ProgressDeadlineExceeded, message);
    }
    let verifying =
        chain.views.iter().any(|view| view.is_rolled_out() && !view.is_proven(chain.digest.as_ref()));
    condition("True", if verifying { Reason::Verifying } else { Reason::RollingOut }, step)
}

/// Describes the generation that the chain works on.
fn current_step(chain: &ChainView<'_>) -> String {
    let digest = chain.digest.as_ref();
    match chain.views.iter().find(|view| !view.is_proven(digest)) {
        Some(view) if view.number > 0 && chain.seed.as_ref().is_some_and(|seed| seed.handed_over) => {
            "generation 0 is raised, and the others follow when the operator is the executable of the seed: run \
             'quinistry up' again if it has ended"
                .into()
        }
        None => "generations that are too many are being removed".into(),
        Some(view) => {
            let there = view.nodes.len() - view.nodes_lacking().count();
            let learning = if view.is_rolled_out() { ", and is being looked at" } else { "" };
            let nodes = counted(view.nodes.len(), "node");
            format!("generation {} is on {there} of {nodes}{learning}", view.number)
        }
    }
}

fn ready(
    chain: &ChainView<'_>,
    ports: &PlannedCondition,
    fixed_point: &PlannedCondition,
    degraded: &PlannedCondition,
    progressing: &PlannedCondition,
    done: bool,
    joining: &[&str],
) -> PlannedCondition {
    let all = chain.views.len();
    if ports.reason == Reason::PortConflict {
        return condition("False", Reason::PortConflict, &ports.message);
    }
    if fixed_point.status == "False" {
        return condition("False", fixed_point.reason, &fixed_point.message);
    }
    if done {
        let mut message = all_proven(all);
        let lacking =
            chain.views.iter().flat_map(GenerationView::nodes_lacking).map(|node| node.name.as_str());
        let lacking: Vec<&str> = lacking.collect();
        if !lacking.is_empty() {
            message.push_str(", but on nodes that may be behind: ");
            message.push_str(&names(lacking));
        }
        if let Some(unreachable) = unreachable(chain) {
            message.push_str(&unreachable);
        }
        return condition("True", Reason::AllProven, message);
    }
    if !joining.is_empty() {
        let joining = names(joining.to_vec());
        let message = format!("{}, but on nodes that have just joined: {joining}", all_proven(all));
        return condition("True", Reason::AllProven, message);
    }
    if degraded.status == "True" && stops(degraded.reason) {
        return condition("False", degraded.reason, &degraded.message);
    }
    let message =
        format!("proven: {} of {}; {}", chain.proven(), counted(all, "generation"), progressing.message);
    condition("False", progressing.reason, message)
}

fn all_proven(all: usize) -> String {
    if all == 1 {
        "the only generation is proven".into()
    } else {
        format!("all {all} generations are proven")
    }
}

/// Describes the sampled pods that the operator cannot reach.
fn unreachable(chain: &ChainView<'_>) -> Option<String> {
    let failed = |pod: &&ObservedPod, view: &GenerationView<'_>| {
        matches!(view.fetched(pod), Some(FetchResult::Failed(_)))
    };
    let pods = chain.views.iter().flat_map(|view| view.sample().into_iter().filter(|pod| failed(pod, view)));
    let nodes: Vec<&str> = pods.filter_map(|pod| pod.node.as_deref()).collect();
    (!nodes.is_empty()).then(|| {
        format!(
            "; the operator cannot reach pods on {}, for which their kubelet and they themselves vouch",
            names(nodes)
        )
    })
}

/// Returns the nodes that became ready after the last generation was created, and that still lack pods or
/// results of the operator's verification. Returns none while anything else is missing: a joining node does
/// not take Ready from a proven chain, but the chain must be proven first.
fn joining<'a>(chain: &'a ChainView<'_>) -> Vec<&'a str> {
    let stands =
        chain.views.iter().all(GenerationView::is_current) && !chain.has_surplus() && chain.digest.is_some();
    let Some(last) = chain.views.iter().filter_map(GenerationView::created).max().filter(|_| stands) else {
        return Vec::new();
    };
    let nodes = chain.views.first().map_or(&[][..], |view| view.nodes.as_slice());
    let allowed = i64::from(chain.quinistry.spec.rollout.progress_deadline_seconds);
    let nodes_awaiting_fetch: BTreeSet<&str> =
        chain.views.iter().flat_map(GenerationView::nodes_awaiting_fetch).into_set();
    let mut joining = Vec::new();
    for node in nodes {
        let whole = !nodes_awaiting_fetch.contains(node.name.as_str())
            && chain.views.iter().all(|view| view.pod_on(node).is_some_and(|pod| pod.ready.is_some()));
        if whole {
            continue;
        }
        let stale =
            |pod: &ObservedPod, view: &GenerationView<'_>| !pod.deleting && !view.is_of_current_template(pod);
        let stale = chain.views.iter().any(|view| view.on(&node.name).iter().any(|pod| stale(pod, view)));
        let young = node.since > last && chain.now.as_second() - node.since.as_second() <= allowed;
        if stale || !young {
            return Vec::new();
        }
        joining.push(node.name.as_str());
    }
    if joining.len() == nodes.len() {
        // No node has all generations yet.
        joining.clear();
    }
    joining
}

/// Returns the gravest matching deviation, with the nodes that share it.
fn describe_worst(deviations: &[Deviation], about: impl Fn(Reason) -> bool) -> Option<(Reason, String)> {
    let worst = deviations
        .iter()
        .filter(|deviation| about(deviation.reason))
        .max_by_key(|deviation| (gravity(deviation.reason), std::cmp::Reverse(deviation.generation)))?;
    let same: Vec<&str> = deviations
        .iter()
        .filter(|other| other.reason == worst.reason && other.generation == worst.generation)
        .map(|other| other.node.as_str())
        .collect();
    let what = if worst.reason == Reason::NodesNotReady {
        String::new()
    } else {
        format!("generation {} on ", worst.generation)
    };
    Some((worst.reason, format!("{what}{}: {}", names(same), worst.message)))
}
