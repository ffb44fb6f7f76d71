//! Diagnosis of a node that should have a Ready pod of a generation and has none: the message comes from the
//! pod, the scheduler, the kubelet or the API server. Pure.

use k8s_openapi::jiff::Timestamp;

use super::ChainView;
use super::generation::GenerationView;
use super::progress::RolloutProgress;
use crate::crd::Reason;
use crate::operator::observed::{ObservedNode, ObservedPod, Refusal};
use crate::sorted::Sorted as _;

/// Time in seconds that a pod may take to start before its node is reported.
const POD_START_GRACE_SECONDS: i64 = 30;

/// Time in seconds for which a refusal by the scheduler or the kubelet is ignored: the previous pod may still
/// be ending.
const REFUSAL_GRACE_SECONDS: i64 = 5;

/// Time in seconds that a pod may exist after the end of its grace period.
const TERMINATION_OVERDUE_SECONDS: i64 = 15;

/// Reasons of waiting containers that are part of a normal start.
const STARTING_REASONS: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Pods and generations whose Events are needed, as nothing else tells why the pods do not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::operator) struct Missing {
    /// Generations with missing pods.
    pub generations: std::collections::BTreeSet<i32>,
    /// Pods that wait without a reason: generation, name, UID.
    pub pods: std::collections::BTreeSet<(i32, String, String)>,
}

/// Highest number of pods whose Events are queried in one pass.
const MAX_PODS_QUERIED: usize = 4;

// === impl Missing ===

impl Missing {
    pub(super) fn of(chain: &ChainView<'_>) -> Self {
        let missing = chain.views.iter().filter(|view| view.is_missing_pods(chain.now));
        let silent = chain.views.iter().flat_map(|view| {
            let pods = view.nodes.iter().filter_map(|node| view.pod_on(node));
            let silent = pods.filter(|pod| {
                is_silent(pod) && seconds_since(chain, pod.created) >= REFUSAL_GRACE_SECONDS * 2
            });
            silent.map(|pod| (view.number, pod.name.clone(), pod.start.uid.clone()))
        });
        Self {
            generations: missing.map(|view| view.number).into_set(),
            pods: silent.take(MAX_PODS_QUERIED).into_set(),
        }
    }

    /// Returns true if no Events are needed.
    pub(in crate::operator) fn is_empty(&self) -> bool {
        self.generations.is_empty() && self.pods.is_empty()
    }
}

/// Returns true if the pod is on its node but has no container, as when volumes, sandbox or network fail.
fn is_silent(pod: &ObservedPod) -> bool {
    let waits = pod.waiting.as_ref().is_none_or(|(reason, _)| STARTING_REASONS.contains(&reason.as_str()));
    pod.ready.is_none()
        && pod.running.is_none()
        && pod.unschedulable.is_none()
        && pod.failed.is_none()
        && waits
}

/// Returns the reason why a node lacks a generation, unless its pod may still start by itself.
pub(super) fn problem(
    chain: &ChainView<'_>,
    view: &GenerationView<'_>,
    node: &ObservedNode,
    progress: &RolloutProgress,
) -> Option<(Reason, String)> {
    if !view.exists() || !view.lacks(node) {
        return None;
    }
    let overdue = progress.is_overdue(view.number, &node.name);
    let after = |since: Timestamp, limit| overdue || seconds_since(chain, since) >= limit;
    let pods = view.on(&node.name);
    if let Some(pod) = view.pod_on(node) {
        return start_problem(chain, pod, after);
    }
    if let Some(pod) = pods.iter().find(|pod| pod.deleting) {
        let end = pod.ends.unwrap_or(pod.created);
        return (seconds_since(chain, end) >= TERMINATION_OVERDUE_SECONDS).then(|| {
            let message = format!(
                "pod {} is being deleted, and should have been gone at {end}: a finalizer holds it, or its kubelet cannot end \
                 it",
                pod.name
            );
            (Reason::PodTerminating, message)
        });
    }
    if let Some(pod) = pods.first() {
        let failed = pod.failed.as_ref().map(|text| (Reason::PodFailed, text.clone()));
        let outdated = || {
            let message = format!("pod {} is of an earlier template, and is not replaced yet", pod.name);
            overdue.then_some((Reason::PodOutdated, message))
        };
        return failed.or_else(outdated);
    }
    if let Some(refusal) = chain.observed.refusals.iter().find(|one| one.is_of(view.number)) {
        return Some(refusal_problem(chain, refusal));
    }
    let made = view.created().map(|created| seconds_since(chain, created.max(node.since)))?;
    let message = "no pod of it is there: the DaemonSet controller has made none";
    let missing = overdue
        || made >= POD_START_GRACE_SECONDS && seen_missing(chain, view, node) >= POD_START_GRACE_SECONDS;
    missing.then(|| (Reason::PodMissing, message.into()))
}

fn start_problem(
    chain: &ChainView<'_>,
    pod: &ObservedPod,
    after: impl Fn(Timestamp, i64) -> bool,
) -> Option<(Reason, String)> {
    if let Some(text) = &pod.failed {
        return Some((Reason::PodFailed, text.clone()));
    }
    if let Some(text) = &pod.unschedulable {
        return after(pod.created, REFUSAL_GRACE_SECONDS).then(|| (Reason::Unschedulable, text.clone()));
    }
    if let Some(running) = pod.running {
        let text = pod.unready.clone().unwrap_or_else(|| "its readiness probe fails".into());
        // The node's clock may be wrong, that of the API server is not.
        let since = running.min(chain.now).max(pod.created);
        return after(since, POD_START_GRACE_SECONDS)
            .then(|| (Reason::PodNotReady, format!("it runs and is not Ready: {text}")));
    }
    let refuses = pod.waiting.as_ref().filter(|(reason, _)| !STARTING_REASONS.contains(&reason.as_str()));
    let text = match refuses.or(pod.waiting.as_ref()) {
        Some((reason, message)) if message.is_empty() => reason.clone(),
        Some((reason, message)) => format!("{reason}: {message}"),
        None => pod.ended.as_ref().map_or_else(
            || "its kubelet has said nothing of it".into(),
            |(code, text)| format!("it ended with exit code {code}: {}", text.trim()),
        ),
    };
    let mut asked = chain.observed.refusals.iter();
    let event = asked.find(|one| one.pod.as_deref() == Some(&pod.start.uid));
    let text = event.map_or(text.clone(), |event| format!("{text}; {}", event.message));
    let limit =
        if refuses.is_some() || event.is_some() { REFUSAL_GRACE_SECONDS } else { POD_START_GRACE_SECONDS };
    after(pod.created, limit)
        .then(|| (Reason::PodNotStarted, format!("not started since {}: {text}", pod.created)))
}

/// Derives reason and message from a refusal of the API server.
pub(super) fn refusal_problem(chain: &ChainView<'_>, refusal: &Refusal) -> (Reason, String) {
    if refusal.message.contains("PodSecurity") {
        let namespace = chain.quinistry.namespace();
        let message = format!(
            "Pod Security forbids host ports here; label the namespace: kubectl label namespace {namespace} \
             pod-security.kubernetes.io/enforce=privileged ({})",
            refusal.message
        );
        return (Reason::PodSecurityForbidden, message);
    }
    let message = format!("pods of generation {} are refused: {}", refusal.generation, refusal.message);
    (Reason::ApplyRejected, message)
}

/// Returns the time in seconds for which this operator has seen no steady pod on the node; `i64::MAX` if the
/// operator has just started.
fn seen_missing(chain: &ChainView<'_>, view: &GenerationView<'_>, node: &ObservedNode) -> i64 {
    let Some(known) = &chain.observed.missing_since else { return i64::MAX };
    known.get(&(view.number, node.name.clone())).map_or(0, |since| seconds_since(chain, *since))
}

fn seconds_since(chain: &ChainView<'_>, since: Timestamp) -> i64 {
    chain.now.as_second() - since.as_second()
}
