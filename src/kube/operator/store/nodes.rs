//! Choice of the nodes that hold stores. Pure.
//!
//! A choice lasts: bytes are where they were written, and each move copies them. It is remembered in the node
//! affinity of the live `DaemonSet`, and nowhere else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::api::names::{labels, taints};
use crate::crd::{QuinistrySpec, StoreSpec};
use crate::operator::observed::ObservedNode;
use crate::operator::select;

/// Time in seconds after which a node that is not Ready loses its store to another one. Longer than a restart,
/// and than the five minutes after which Kubernetes evicts pods.
pub(super) const OUTAGE_SECONDS: i64 = 600;

/// Choice of nodes for the stores of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Names of the nodes, sorted.
    pub nodes: Vec<String>,
    /// Number of nodes that could hold a store.
    pub candidates: usize,
    /// Number of chosen nodes that are not Ready.
    pub unready: usize,
    /// Time until a node that is not Ready loses its store.
    pub due: Option<Duration>,
}

/// Chooses nodes. `earlier` has the nodes that hold stores now.
///
/// A node stays chosen while the resource selects it and it is Ready, or has not been so for less than
/// [`OUTAGE_SECONDS`]. A taint that evicts no pods takes no place away. Free places go to Ready nodes, control
/// planes first, and cordoned nodes last. A node that is not Ready for longer keeps its place only while no other
/// node can have it. While no earlier node is Ready, all of them keep their places and no other node gets one: a
/// new store would have none to copy from, and the bytes of the earlier ones would be served by none when they
/// are back.
pub(super) fn choose(
    spec: &QuinistrySpec,
    store: &StoreSpec,
    nodes: &[Arc<ObservedNode>],
    earlier: &BTreeSet<String>,
    now: Timestamp,
) -> Choice {
    let is_earlier = |node: &ObservedNode| earlier.contains(&node.name);
    let is_selected = |node: &&ObservedNode| {
        let is_allowed = if is_earlier(node) { select::keeps } else { select::selects };
        is_allowed(spec, node) && has_labels(store, node)
    };
    let mut selected: Vec<&ObservedNode> = nodes.iter().map(AsRef::as_ref).filter(is_selected).collect();
    let has_source = selected.iter().any(|node| is_earlier(node) && node.ready);
    let is_outage = !has_source && selected.iter().any(|node| is_earlier(node));
    let rank = |node: &ObservedNode| {
        let class = match (is_earlier(node), node.ready) {
            (true, true) => 0,
            (true, false) if left(node, now).is_some() => 1,
            (false, true) => 2,
            (true, false) => 3,
            (false, false) => return None,
        };
        Some((class, is_cordoned(node), !is_control_plane(node)))
    };
    selected.retain(|node| rank(node).is_some());
    selected.sort_by(|one, other| rank(one).cmp(&rank(other)).then_with(|| one.name.cmp(&other.name)));
    let candidates = selected.len();
    if is_outage {
        selected.retain(|node| is_earlier(node));
    }
    selected.truncate(usize::try_from(store.copies).unwrap_or_default());
    let waiting = selected.iter().filter(|node| !node.ready && !is_outage);
    let due = waiting.filter_map(|node| left(node, now)).min();
    let unready = selected.iter().filter(|node| !node.ready).count();
    let mut nodes: Vec<String> = selected.into_iter().map(|node| node.name.clone()).collect();
    nodes.sort_unstable();
    Choice { nodes, candidates, unready, due }
}

/// Returns the nodes that the specification of a live `DaemonSet` of stores names.
pub(super) fn chosen(set: &Value) -> BTreeSet<String> {
    let affinity = &set["template"]["spec"]["affinity"]["nodeAffinity"];
    let terms = &affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let terms = terms.as_array().into_iter().flatten();
    let fields = terms.flat_map(|term| term["matchFields"].as_array().into_iter().flatten());
    let named = fields.filter(|field| field["key"] == super::set::NODE_NAME_FIELD);
    let values = named.flat_map(|field| field["values"].as_array().into_iter().flatten());
    values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// Returns true if a node has the labels of the nodes for stores. Those of the resource count as well, since
/// stores are pulled from generation 1 on the node's own localhost.
fn has_labels(store: &StoreSpec, node: &ObservedNode) -> bool {
    store.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}

/// Returns the time until a node that is not Ready loses its store; `None` if that time is over. Counted from
/// the later of two clocks, since the node's own may be wrong.
fn left(node: &ObservedNode, now: Timestamp) -> Option<Duration> {
    let outage = now.as_second() - node.since.max(node.seen).as_second();
    let left = OUTAGE_SECONDS - outage;
    u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_secs)
}

fn is_control_plane(node: &ObservedNode) -> bool {
    node.labels.contains_key(labels::NODE_CONTROL_PLANE)
}

/// Returns true for a node that is about to be drained, or otherwise closed to new pods.
fn is_cordoned(node: &ObservedNode) -> bool {
    node.taints.iter().any(|(key, ..)| key == taints::UNSCHEDULABLE)
}

#[cfg(test)]
mod tests;
