//! Diagnosis: the problem of each pod on each node. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use super::generation::GenerationView;
use super::progress::RolloutProgress;
use super::text::{counted, names, shorten};
use super::{ChainView, missing};
use crate::crd::{Deviation, Reason};
use crate::operator::naming::CONTAINER_PORT;
use crate::operator::observed::{FetchResult, ObservedPod};
use crate::operator::{build, select};
use crate::sorted::Sorted as _;

/// Exit code of `serve` for an image other than the expected one.
pub(super) const DIGEST_DEVIATES_EXIT_CODE: i32 = 3;

/// Part of the message of `serve` when its port is taken.
const CANNOT_LISTEN_MESSAGE: &str = "failed to listen on";

/// Number of restarts after which a container that is not Ready is in a crash loop, even while it runs for a
/// moment.
const CRASH_LOOP_RESTARTS: i32 = 3;

/// Reasons of the kubelet for an image that cannot be pulled.
const PULL_REASONS: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// Advice for a node without an image that can carry generation 0.
const NO_CARRIER_MESSAGE: &str = "no image that is there can carry generation 0: put the pause image there, or name an image that is \
                          there in seed.carriers";

/// Part of the scheduler's message about a host port conflict.
const NO_FREE_PORTS_MESSAGE: &str = "free ports";

/// Returns all deviations, sorted by generation, node and reason.
pub(super) fn deviations(chain: &ChainView<'_>, progress: &RolloutProgress) -> Vec<Deviation> {
    let mut all = Vec::new();
    for node in
        chain.observed.nodes.iter().filter(|node| !node.ready && select::selects(&chain.quinistry.spec, node))
    {
        all.push(deviation(
            &node.name,
            0,
            Reason::NodesNotReady,
            "the node is not ready; it does not hold up the chain",
        ));
    }
    for node in chain.seed.iter().flat_map(|seed| seed.assignment.without.keys()) {
        all.push(deviation(node, 0, Reason::NoCarrierImage, NO_CARRIER_MESSAGE));
    }
    for view in &chain.views {
        for pod in &view.pods {
            if let Some((reason, message)) = pod_problem(chain, view, pod) {
                // The schema requires a text, even for a pod that is meant for no node.
                let node = pod.node.as_deref().unwrap_or_default();
                all.push(deviation(node, view.number, reason, &message));
            }
        }
        let named: BTreeSet<String> =
            all.iter().filter(|one| one.generation == view.number).map(|one| one.node.clone()).into_set();
        for node in view.nodes_lacking().filter(|node| !named.contains(&node.name)) {
            if let Some((reason, message)) = missing::problem(chain, view, node, progress) {
                all.push(deviation(&node.name, view.number, reason, &message));
            }
        }
    }
    all.sort_by(|one, other| {
        (one.generation, &one.node, one.reason).cmp(&(other.generation, &other.node, other.reason))
    });
    all.dedup_by(|one, other| {
        one.generation == other.generation && one.node == other.node && one.reason == other.reason
    });
    all
}

/// Returns the gravest problem of a generation's pods.
pub(super) fn failure(chain: &ChainView<'_>, view: &GenerationView<'_>) -> Option<Reason> {
    let problems = view.pods.iter().filter_map(|pod| pod_problem(chain, view, pod));
    problems.map(|(reason, _)| reason).max_by_key(|reason| gravity(*reason))
}

/// Rank of a reason: of several problems, the one with the highest rank is shown.
pub(super) const fn gravity(reason: Reason) -> u8 {
    match reason {
        Reason::BootstrapDigestDiffers => 10,
        Reason::DigestMismatch => 9,
        Reason::PodSecurityForbidden => 8,
        Reason::BootstrapImagePullFailed => 7,
        Reason::PortTaken | Reason::HostPortConflict => 6,
        Reason::ImagePullFailed => 5,
        Reason::HostPortUnreachable => 4,
        Reason::CrashLoop | Reason::ImageRewritten => 3,
        Reason::PodsUnreachable => 2,
        Reason::AlwaysPullImages | Reason::NoCarrierImage => 1,
        _ => 0,
    }
}

fn pod_problem(
    chain: &ChainView<'_>,
    view: &GenerationView<'_>,
    pod: &ObservedPod,
) -> Option<(Reason, String)> {
    if pod.deleting {
        return None;
    }
    if let Some(message) = &pod.unschedulable {
        return message.contains(NO_FREE_PORTS_MESSAGE).then(|| (Reason::HostPortConflict, message.clone()));
    }
    if !chain.is_on_a_ready_node(pod) {
        return None;
    }
    if let Some(wanted) = view.rewritten(pod) {
        let message = format!("an admission plugin made {} of the image {wanted}", pod.image);
        return Some((Reason::ImageRewritten, message));
    }
    if let Some(problem) = digest_problem(chain, view, pod) {
        return Some(problem);
    }
    if let Some((reason, message)) = &pod.waiting
        && PULL_REASONS.contains(&reason.as_str())
    {
        return pull_problem(chain, view, pod, reason, message);
    }
    if pod.ready.is_none() {
        let loops = pod.waiting.as_ref().is_some_and(|(reason, _)| reason == "CrashLoopBackOff");
        if let Some((code, text)) = &pod.ended {
            if text.contains(CANNOT_LISTEN_MESSAGE) {
                return Some((Reason::PortTaken, text.trim().into()));
            }
            if loops || pod.start.restarts >= CRASH_LOOP_RESTARTS {
                let text = if text.is_empty() { "it said nothing" } else { text.trim() };
                let message = format!("{}; it ended with exit code {code}: {text}", restarts(pod));
                return Some((Reason::CrashLoop, message));
            }
        } else if loops {
            return Some((Reason::CrashLoop, restarts(pod)));
        }
        if is_reachable_by_pod_address_only(view, pod, chain.now) {
            let message = "it answers on its own address, but not on its node's localhost: the network plugin does not \
                           serve host ports there, or something stands in the way";
            return Some((Reason::HostPortUnreachable, message.into()));
        }
    }
    let wants = build::pull_policy(chain.quinistry, view.number);
    (pod.pull_policy == "Always" && wants != "Always").then(|| {
        let message =
            "an admission plugin changed the pull policy to Always: each restart now needs the predecessor";
        (Reason::AlwaysPullImages, message.into())
    })
}

fn digest_problem(
    chain: &ChainView<'_>,
    view: &GenerationView<'_>,
    pod: &ObservedPod,
) -> Option<(Reason, String)> {
    if !view.is_of_current_template(pod) {
        return None;
    }
    if let Some((DIGEST_DEVIATES_EXIT_CODE, text)) = &pod.ended
        && pod.ready.is_none()
    {
        return Some((Reason::DigestMismatch, text.trim().into()));
    }
    match view.fetched(pod)? {
        FetchResult::Corrupt(message) => Some((Reason::DigestMismatch, message.clone())),
        FetchResult::Whole(served) if chain.learns(view.number) => {
            let differs = view.served().iter().any(|(_, other)| *other != served);
            differs.then(|| (Reason::BootstrapDigestDiffers, describe_digests(chain, view)))
        }
        FetchResult::Whole(served) => {
            let expected = chain.digest.as_ref()?;
            (served != expected)
                .then(|| (Reason::DigestMismatch, format!("expected {expected}, and it serves {served}")))
        }
        // With a known digest the kubelet and the pod itself vouch for the content. Here the digest is
        // unknown.
        FetchResult::Failed(why) => (chain.learns(view.number) && !view.is_known_by_image(pod)).then(|| {
            let message = format!(
                "the operator cannot ask it what it serves: let it reach port {CONTAINER_PORT} of the pods, or set \
                 spec.digest ({why})"
            );
            (Reason::PodsUnreachable, message)
        }),
    }
}

/// Lists the nodes of each digest, so that the user sees which nodes have the older image.
fn describe_digests(chain: &ChainView<'_>, view: &GenerationView<'_>) -> String {
    let mut nodes = BTreeMap::<&str, Vec<&str>>::new();
    for (pod, served) in view.served() {
        nodes.entry(served.as_str()).or_default().extend(pod.node.as_deref());
    }
    let each: Vec<_> =
        nodes.into_iter().map(|(digest, nodes)| format!("{digest} on {}", names(nodes))).collect();
    let image = chain.quinistry.spec.image.as_deref().unwrap_or_default();
    format!("{image} is not the same everywhere: it gave {}", each.join(", and "))
}

fn restarts(pod: &ObservedPod) -> String {
    counted(usize::try_from(pod.start.restarts).unwrap_or_default(), "restart")
}

fn pull_problem(
    chain: &ChainView<'_>,
    view: &GenerationView<'_>,
    pod: &ObservedPod,
    reason: &str,
    message: &str,
) -> Option<(Reason, String)> {
    let mut text = if message.is_empty() { reason.to_owned() } else { format!("{reason}: {message}") };
    if view.number == 0 {
        let message = "an admission plugin changed the pull policy to Always, so that the kubelet asks a registry for an \
                       image that is there: except the namespace from it, or set image in place of seed";
        // Otherwise the next carrier is tried.
        return (pod.pull_policy == "Always").then(|| (Reason::AlwaysPullImages, message.into()));
    }
    if build::starts_from_bootstrap_image(chain.quinistry, view.number) {
        if reason == "ErrImageNeverPull" || chain.observed.daemon_set(2).is_some() {
            text.push_str(
                "; if the image was loaded onto the node, load one made by 'quinistry image save --bootstrap': the \
                 kubelet refuses a loaded image once another pod has pulled the same content",
            );
        }
        return Some((Reason::BootstrapImagePullFailed, text));
    }
    // Without the predecessor on the node there is nothing to pull from, which the predecessor's own
    // deviation tells.
    let mut below = chain.below(view).into_iter().flat_map(|below| below.beside(pod));
    below.any(|other| other.ready.is_some()).then_some((Reason::ImagePullFailed, text))
}

fn is_reachable_by_pod_address_only(view: &GenerationView<'_>, pod: &ObservedPod, now: Timestamp) -> bool {
    view.had_time_to_report(pod, now) && matches!(view.fetched(pod), Some(FetchResult::Whole(_)))
}

fn deviation(node: &str, generation: i32, reason: Reason, message: &str) -> Deviation {
    Deviation { node: node.into(), generation, reason, message: shorten(message) }
}
