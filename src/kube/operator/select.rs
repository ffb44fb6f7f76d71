//! Selection of nodes by a resource, as the `DaemonSet` controller decides it. Pure; used by `plan`.

use std::collections::BTreeMap;

use super::build;
use super::observed::ObservedNode;
use crate::api::names::labels::{EXCLUDE, NODE_ARCHITECTURE};
use crate::api::names::taints;
use crate::crd::{QuinistrySpec, TaintEffect, Toleration, TolerationOperator};

/// Taints that every `DaemonSet` pod tolerates; the last one with host networking only, but a node that has
/// it is not ready either.
const TOLERATED: [&str; 7] = [
    taints::NOT_READY,
    taints::UNREACHABLE,
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    taints::UNSCHEDULABLE,
    "node.kubernetes.io/network-unavailable",
];

/// Effects of taints that keep new pods away for certain.
const HARD_EFFECTS: [&str; 2] = ["NoSchedule", "NoExecute"];

/// Labels of nodes that are left out: the one by which a node is excluded, and those of virtual nodes, where
/// a pod has no host port, no localhost and no runtime to pull with. Virtual kubelets, those of AKS, Alibaba
/// and others, carry a label by convention; AWS names Fargate, and Liqo its own.
pub(super) const LEFT_OUT: [(&str, &str); 4] = [
    (EXCLUDE, "true"),
    ("eks.amazonaws.com/compute-type", "fargate"),
    ("liqo.io/type", "virtual-node"),
    ("type", "virtual-kubelet"),
];

/// Returns true if the resource selects the node.
#[must_use]
pub(super) fn selects(spec: &QuinistrySpec, node: &ObservedNode) -> bool {
    has_labels(&node.labels, &build::node_selector(spec))
        && !is_left_out(node)
        && tolerates(&spec.tolerations, node, &HARD_EFFECTS)
}

/// Returns true if the resource would select the node, were it not for the node's architecture.
#[must_use]
pub(super) fn misses_by_architecture(spec: &QuinistrySpec, node: &ObservedNode) -> bool {
    let mut selector = build::node_selector(spec);
    if spec.node_selector.contains_key(NODE_ARCHITECTURE) {
        return false;
    }
    let ours = selector.remove(NODE_ARCHITECTURE);
    has_labels(&node.labels, &selector)
        && !is_left_out(node)
        && tolerates(&spec.tolerations, node, &HARD_EFFECTS)
        && node.labels.get(NODE_ARCHITECTURE) != ours.as_ref()
}

/// Returns true if no node can be selected by both: they want a label with two values.
#[must_use]
pub(super) fn disjoint(one: &QuinistrySpec, other: &QuinistrySpec) -> bool {
    let (one, other) = (build::node_selector(one), build::node_selector(other));
    one.iter().any(|(key, value)| other.get(key).is_some_and(|other| other != value))
}

/// Returns true if pods that run on the node may stay there: other than for [`selects`], taints that only keep
/// new pods away do not count.
#[must_use]
pub(super) fn keeps(spec: &QuinistrySpec, node: &ObservedNode) -> bool {
    has_labels(&node.labels, &build::node_selector(spec))
        && !is_left_out(node)
        && tolerates(&spec.tolerations, node, &["NoExecute"])
}

fn is_left_out(node: &ObservedNode) -> bool {
    LEFT_OUT.iter().any(|(key, value)| node.labels.get(*key).is_some_and(|label| label == value))
}

fn has_labels(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Returns true if each taint of the node with one of these effects is tolerated.
fn tolerates(tolerations: &[Toleration], node: &ObservedNode, effects: &[&str]) -> bool {
    node.taints.iter().filter(|(_, _, effect)| effects.contains(&effect.as_str())).all(
        |(key, value, effect)| {
            TOLERATED.contains(&key.as_str())
                || tolerations.iter().any(|toleration| {
                    let effect_fits = match toleration.effect {
                        TaintEffect::Any => true,
                        TaintEffect::NoSchedule => effect == "NoSchedule",
                        TaintEffect::NoExecute => effect == "NoExecute",
                        TaintEffect::PreferNoSchedule => false,
                    };
                    let key_fits = if toleration.key.is_empty() {
                        toleration.operator == TolerationOperator::Exists
                    } else {
                        toleration.key == *key
                    };
                    let value_fits =
                        toleration.operator == TolerationOperator::Exists || toleration.value == *value;
                    effect_fits && key_fits && value_fits
                })
        },
    )
}
