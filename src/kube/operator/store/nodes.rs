//! Choice of the nodes that hold stores. Pure.
//!
//! A choice lasts: bytes are where they were written, and each move copies them. It is remembered in the node
//! affinity of the live `DaemonSet`, and in an annotation of the Service for the time without that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::outages::{Outage, Outages};
use crate::api::names::{labels, taints};
use crate::crd::{QuinistrySpec, StoreSpec};
use crate::operator::observed::ObservedNode;
use crate::operator::select;

/// Time in seconds after which a node that is not Ready loses its store to another one. Longer than a restart,
/// and than the five minutes after which Kubernetes evicts pods.
pub(super) const OUTAGE_SECONDS: i64 = 600;

/// Time in seconds for which a store must have been Ready before the outage of another node, to count as
/// complete. The API server learns of an outage after up to 50 seconds, and a store whose peers are silent is
/// Ready after 30 seconds with what it has.
const TRUST_SECONDS: i64 = 120;

/// Nodes that hold stores now, by name, each with the time since which its store is Ready. A store that
/// copies is not Ready.
pub(super) type EarlierStores = BTreeMap<String, Option<Timestamp>>;

/// Choice of nodes for the stores of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Names of the nodes, sorted.
    pub nodes: Vec<String>,
    /// Number of nodes that could hold a store.
    pub candidates: usize,
    /// Time until a node that is not Ready loses its store.
    pub due: Option<Duration>,
}

/// Place of a node in the order in which nodes are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Node with a store that is Ready.
    Complete,
    /// Ready node with a store that still copies, or is being restarted.
    Copying,
    /// Node with a store that is not Ready, and may be the only one with all bytes.
    Needed,
    /// Node with a store that has not been Ready for less than [`OUTAGE_SECONDS`].
    Away,
    /// Ready node without a store.
    Free,
    /// Node with a store that has not been Ready for longer.
    Lost,
}

/// Chooses nodes. `earlier` has the nodes that hold stores now, and `outages` those of them that are not Ready.
///
/// A node stays chosen while the resource selects it and it is Ready, or has not been so for less than
/// [`OUTAGE_SECONDS`]. A taint that evicts no pods takes no place away. Free places go to Ready nodes,
/// control planes first, and cordoned nodes last. A node that is not Ready for longer keeps its place while
/// no other node can have it, and while no other store is known to be complete: one that was Ready before the
/// outage began. While no store is Ready, all earlier nodes keep their places. While no earlier node is
/// Ready, no other node gets a place either: a new store would have none to copy from.
pub(super) fn choose(
    spec: &QuinistrySpec,
    store: &StoreSpec,
    nodes: &[Arc<ObservedNode>],
    earlier: &EarlierStores,
    outages: &Outages,
    now: Timestamp,
) -> Choice {
    let is_earlier = |node: &ObservedNode| earlier.contains_key(&node.name);
    let is_selected = |node: &&ObservedNode| {
        let is_allowed = if is_earlier(node) { select::keeps } else { select::selects };
        is_allowed(spec, node) && has_labels(store, node)
    };
    let mut selected: Vec<&ObservedNode> = nodes.iter().map(AsRef::as_ref).filter(is_selected).collect();
    let is_outage = selected.iter().any(|node| is_earlier(node))
        && !selected.iter().any(|node| is_earlier(node) && node.ready);
    // Times since which stores on nodes that stay are Ready.
    let up = selected.iter().filter(|node| node.ready);
    let complete: Vec<Timestamp> = up.filter_map(|node| *earlier.get(&node.name)?).collect();
    let class = |node: &ObservedNode| match (earlier.get(&node.name), node.ready) {
        (Some(Some(_)), true) => Some(Class::Complete),
        (Some(None), true) => Some(Class::Copying),
        (Some(_), false) if !complete.iter().any(|since| is_before(*since, outages.get(&node.name))) => {
            Some(Class::Needed)
        }
        (Some(_), false) if left(outages.get(&node.name), now).is_some() => Some(Class::Away),
        (Some(_), false) => Some(Class::Lost),
        (None, true) => Some(Class::Free),
        (None, false) => None,
    };
    let rank = |node: &ObservedNode| Some((class(node)?, is_cordoned(node), !is_control_plane(node)));
    selected.retain(|node| rank(node).is_some());
    selected.sort_by(|one, other| rank(one).cmp(&rank(other)).then_with(|| one.name.cmp(&other.name)));
    let candidates = selected.len();
    if is_outage {
        selected.retain(|node| is_earlier(node));
    }
    let copies = usize::try_from(store.copies).unwrap_or_default();
    let mut count = 0;
    selected.retain(|node| {
        count += 1;
        let keeps_place = match class(node) {
            Some(Class::Needed) => true,
            Some(Class::Copying) => complete.is_empty(),
            _ => false,
        };
        count <= copies || keeps_place
    });
    let waiting = selected.iter().filter(|node| class(node) == Some(Class::Away));
    let due = waiting.filter_map(|node| left(outages.get(&node.name), now)).min();
    let mut nodes: Vec<String> = selected.into_iter().map(|node| node.name.clone()).collect();
    nodes.sort_unstable();
    Choice { nodes, candidates, due }
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

/// Returns true if a store that is Ready since then was so well before an outage. Without a known begin of the
/// outage, no store was.
fn is_before(since: Timestamp, outage: Option<&Outage>) -> bool {
    outage.is_some_and(|outage| since.as_second() + TRUST_SECONDS <= outage.began)
}

/// Returns the time until a node that is not Ready loses its store; `None` if that time is over.
fn left(outage: Option<&Outage>, now: Timestamp) -> Option<Duration> {
    let left = OUTAGE_SECONDS - (now.as_second() - outage?.absent_since?);
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
