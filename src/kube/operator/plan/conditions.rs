//! The five conditions, from what the chain shows. Pure.

use std::collections::BTreeSet;

use super::diagnose::gravity;
use super::ports::Owner;
use super::progress::Progress;
use super::text::{counted, names, shorten};
use super::{Chain, Seed, View, missing};
use crate::api::conditions::{DEGRADED, FIXED_POINT, PORTS_AVAILABLE, PROGRESSING, READY};
use crate::crd::{Deviation, Reason};
use crate::operator::observed::{Fetched, Pod, Rejection};
use crate::operator::select;

/// One condition, without the times that only the API's form of it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operator) struct Said {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// Why.
    pub reason: Reason,
    /// In words.
    pub message: String,
}

/// All conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operator) struct Words {
    /// Every generation is proven.
    pub ready: Said,
    /// Something is on its way.
    pub progressing: Said,
    /// Nobody else uses the ports.
    pub ports_available: Said,
    /// Every generation serves one digest.
    pub fixed_point: Said,
    /// Something is wrong.
    pub degraded: Said,
}

impl Default for Words {
    fn default() -> Self {
        let unknown = said("Unknown", Reason::Unknown, "nothing has been observed yet");
        Self {
            ready: unknown.clone(),
            progressing: unknown.clone(),
            ports_available: unknown.clone(),
            fixed_point: unknown.clone(),
            degraded: unknown,
        }
    }
}

impl Words {
    /// Nothing can be done with the resource.
    pub(super) fn refused(reason: Reason, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            ready: said("False", reason, &message),
            progressing: said("False", reason, &message),
            degraded: said("True", reason, &message),
            ..Self::default()
        }
    }

    /// With their types, in the order in which they are shown.
    #[must_use]
    pub(in crate::operator) fn all(&self) -> [(&'static str, &Said); 5] {
        // Without `..`, so that a condition that is added is not forgotten here.
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

fn said(status: &'static str, reason: Reason, message: impl AsRef<str>) -> Said {
    Said { status, reason, message: shorten(message.as_ref()) }
}

/// Returns the conditions, and whether all is proven but on nodes that have just joined.
pub(super) fn words(
    chain: &Chain<'_>,
    deviations: &[Deviation],
    owner: Option<&Owner>,
    rejection: Option<&Rejection>,
    progress: &Progress,
) -> (Words, bool) {
    let ports_available = ports(deviations, owner);
    let done = is_done(chain, rejection);
    let joining = if done { Vec::new() } else { joining(chain) };
    let fixed_point = fixed_point(chain, deviations, &joining);
    let late = progress.late && !done && joining.is_empty() && !chain.quinistry.spec.suspend;
    let mut degraded = degraded(chain, deviations, &ports_available, &fixed_point, rejection, progress);
    let progressing = progressing(chain, deviations, &ports_available, &degraded, done, late);
    if degraded.status == "False" && progressing.reason == Reason::ProgressDeadlineExceeded {
        degraded = said("True", progressing.reason, &progressing.message);
    }
    let ready = ready(chain, &ports_available, &fixed_point, &degraded, &progressing, done, &joining);
    let joining = !joining.is_empty() && ready.status == "True";
    (Words { ready, progressing, ports_available, fixed_point, degraded }, joining)
}

/// Problems that stop the chain; the others are only told.
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

/// Problems that may pass by themselves: they make a resource Degraded once their node was waited for too
/// long.
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

fn is_done(chain: &Chain<'_>, rejection: Option<&Rejection>) -> bool {
    rejection.is_none() && chain.proven() == chain.views.len() && !chain.has_surplus()
}

fn ports(deviations: &[Deviation], owner: Option<&Owner>) -> Said {
    if let Some(Owner { name, ports }) = owner {
        let (first, last) = (ports.start(), ports.end());
        let message = format!("{name} has ports {first} to {last}; nothing is done until it gives them up");
        return said("False", Reason::PortConflict, message);
    }
    let about =
        |reason| matches!(reason, Reason::HostPortConflict | Reason::PortTaken | Reason::HostPortUnreachable);
    match told(deviations, about) {
        Some((reason, message)) => said("False", reason, message),
        None => said("True", Reason::PortsFree, "no other resource or pod is known to use the ports"),
    }
}

fn fixed_point(chain: &Chain<'_>, deviations: &[Deviation], joining: &[&str]) -> Said {
    let about = |reason| matches!(reason, Reason::DigestMismatch | Reason::BootstrapDigestDiffers);
    if let Some((reason, message)) = told(deviations, about) {
        return said("False", reason, message);
    }
    let all = chain.views.len();
    let proven = if joining.is_empty() { chain.proven() } else { all };
    match &chain.digest {
        Some(digest) if proven > 0 => said(
            "True",
            Reason::DigestsEqual,
            format!("{digest} is served by {proven} of {}", counted(all, "generation")),
        ),
        _ => said("Unknown", Reason::Unknown, "no generation is proven yet"),
    }
}

fn degraded(
    chain: &Chain<'_>,
    deviations: &[Deviation],
    ports: &Said,
    fixed_point: &Said,
    rejection: Option<&Rejection>,
    progress: &Progress,
) -> Said {
    if let Some(rejection) = rejection {
        return said("True", rejection.reason, &rejection.message);
    }
    for bad in [fixed_point, ports] {
        if bad.status == "False" {
            return said("True", bad.reason, &bad.message);
        }
    }
    if let Some(refusal) = chain.observed.refusals.iter().find(|refusal| refusal.pod.is_none()) {
        let (reason, message) = missing::refused(chain, refusal);
        return said("True", reason, message);
    }
    let (ready, all) = (&chain.ready, &chain.selected);
    if all.is_empty() {
        let message =
            "no node is selected: look at nodeSelector, at tolerations, and at the nodes' architecture";
        return said("True", Reason::NoNodes, message);
    }
    if let Some((reason, message)) = told(deviations, stops) {
        return said("True", reason, message);
    }
    if let Some((reason, message)) = chain.seed.as_ref().and_then(Seed::problem) {
        return said("True", reason, message);
    }
    if ready.len() < all.len()
        && let Some((reason, message)) = told(deviations, |reason| reason == Reason::NodesNotReady)
    {
        return said("True", reason, message);
    }
    let overdue: Vec<Deviation> = deviations
        .iter()
        .filter(|one| !may_pass(one.reason) || progress.is_overdue(one.generation, &one.node))
        .cloned()
        .collect();
    if let Some((reason, message)) = told(&overdue, |_| true) {
        return said("True", reason, message);
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
        return said("True", Reason::MixedArchitectures, message);
    }
    said("False", Reason::AsExpected, "nothing is wrong")
}

fn progressing(
    chain: &Chain<'_>,
    deviations: &[Deviation],
    ports: &Said,
    degraded: &Said,
    done: bool,
    late: bool,
) -> Said {
    if chain.quinistry.spec.suspend {
        return said("False", Reason::Suspended, "suspended: nothing is changed; what runs goes on running");
    }
    if done {
        return said("False", Reason::AllProven, "every generation is proven");
    }
    if ports.reason == Reason::PortConflict {
        return said("False", Reason::PortConflict, &ports.message);
    }
    if let Some((reason, message)) = told(deviations, |reason| reason == Reason::BootstrapImagePullFailed) {
        return said("False", reason, message);
    }
    let terminal =
        matches!(degraded.reason, Reason::ApplyRejected | Reason::NamespaceTerminating | Reason::NoNodes)
            || matches!(degraded.reason, Reason::DigestMismatch | Reason::BootstrapDigestDiffers);
    if degraded.status == "True" && terminal {
        return said("False", degraded.reason, &degraded.message);
    }
    let step = step(chain);
    let allowed = i64::from(chain.quinistry.spec.rollout.progress_deadline_seconds);
    if late {
        let message = format!("no progress for more than {allowed} seconds: {step}");
        return said("False", Reason::ProgressDeadlineExceeded, message);
    }
    let verifying =
        chain.views.iter().any(|view| view.is_rolled_out() && !view.is_proven(chain.digest.as_ref()));
    said("True", if verifying { Reason::Verifying } else { Reason::RollingOut }, step)
}

/// What the chain is at.
fn step(chain: &Chain<'_>) -> String {
    let digest = chain.digest.as_ref();
    match chain.views.iter().find(|view| !view.is_proven(digest)) {
        Some(view) if view.number > 0 && chain.seed.as_ref().is_some_and(|seed| seed.handed_over) => {
            "generation 0 is raised, and the others follow when the operator is the executable of the seed: run \
             'quinistry up' again if it has ended"
                .into()
        }
        None => "generations that are too many are being removed".into(),
        Some(view) => {
            let there = view.nodes.len() - view.lacking().count();
            let learning = if view.is_rolled_out() { ", and is being looked at" } else { "" };
            let nodes = counted(view.nodes.len(), "node");
            format!("generation {} is on {there} of {nodes}{learning}", view.number)
        }
    }
}

fn ready(
    chain: &Chain<'_>,
    ports: &Said,
    fixed_point: &Said,
    degraded: &Said,
    progressing: &Said,
    done: bool,
    joining: &[&str],
) -> Said {
    let all = chain.views.len();
    if ports.reason == Reason::PortConflict {
        return said("False", Reason::PortConflict, &ports.message);
    }
    if fixed_point.status == "False" {
        return said("False", fixed_point.reason, &fixed_point.message);
    }
    if done {
        let mut message = every_one_is_proven(all);
        let lacking = chain.views.iter().flat_map(View::lacking).map(|node| node.name.as_str());
        let lacking: Vec<&str> = lacking.collect();
        if !lacking.is_empty() {
            message.push_str(", but on nodes that may be behind: ");
            message.push_str(&names(lacking));
        }
        if let Some(unseen) = unseen(chain) {
            message.push_str(&unseen);
        }
        return said("True", Reason::AllProven, message);
    }
    if !joining.is_empty() {
        let joining = names(joining.to_vec());
        let message = format!("{}, but on nodes that have just joined: {joining}", every_one_is_proven(all));
        return said("True", Reason::AllProven, message);
    }
    if degraded.status == "True" && stops(degraded.reason) {
        return said("False", degraded.reason, &degraded.message);
    }
    let message =
        format!("proven: {} of {}; {}", chain.proven(), counted(all, "generation"), progressing.message);
    said("False", progressing.reason, message)
}

fn every_one_is_proven(all: usize) -> String {
    if all == 1 {
        "the only generation is proven".into()
    } else {
        format!("all {all} generations are proven")
    }
}

/// Where the operator's own look is missing from the proof.
fn unseen(chain: &Chain<'_>) -> Option<String> {
    let failed = |pod: &&Pod, view: &View<'_>| matches!(view.fetched(pod), Some(Fetched::Failed(_)));
    let pods = chain.views.iter().flat_map(|view| view.sample().into_iter().filter(|pod| failed(pod, view)));
    let nodes: Vec<&str> = pods.filter_map(|pod| pod.node.as_deref()).collect();
    (!nodes.is_empty()).then(|| {
        format!(
            "; the operator cannot reach pods on {}, for which their kubelet and they themselves vouch",
            names(nodes)
        )
    })
}

/// Nodes that became ready after the last generation had been made, and where something is still missing: pods, or the
/// operator's look at them. None while anything else is missing: a node that joins a chain that stands does not unmake
/// it, but a chain has to stand first.
fn joining<'a>(chain: &'a Chain<'_>) -> Vec<&'a str> {
    let stands = chain.views.iter().all(View::is_current) && !chain.has_surplus() && chain.digest.is_some();
    let Some(last) = chain.views.iter().filter_map(View::created).max().filter(|_| stands) else {
        return Vec::new();
    };
    let nodes = chain.views.first().map_or(&[][..], |view| view.nodes.as_slice());
    let allowed = i64::from(chain.quinistry.spec.rollout.progress_deadline_seconds);
    let unasked: BTreeSet<&str> = chain.views.iter().flat_map(View::unasked).collect();
    let mut joining = Vec::new();
    for node in nodes {
        let whole = !unasked.contains(node.name.as_str())
            && chain.views.iter().all(|view| view.pod_on(node).is_some_and(|pod| pod.ready.is_some()));
        if whole {
            continue;
        }
        let stale = |pod: &Pod, view: &View<'_>| !pod.deleting && !view.is_of_current_template(pod);
        let stale = chain.views.iter().any(|view| view.on(&node.name).iter().any(|pod| stale(pod, view)));
        let young = node.since > last && chain.now.as_second() - node.since.as_second() <= allowed;
        if stale || !young {
            return Vec::new();
        }
        joining.push(node.name.as_str());
    }
    if joining.len() == nodes.len() {
        // Nothing stands anywhere.
        joining.clear();
    }
    joining
}

/// The gravest deviation of a kind, in words, with the nodes that share it.
fn told(deviations: &[Deviation], about: impl Fn(Reason) -> bool) -> Option<(Reason, String)> {
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
