//! Nodes by name and pods by node. A plan looks these up for each node and each pod; with thousands of both,
//! a linear search for each would dominate the operator's work. Pure.

use std::collections::{HashMap, HashSet};

use crate::operator::observed::{ObservedNode, ObservedPod, ObservedState};

pub(super) struct NodeIndex<'a> {
    all: HashMap<&'a str, &'a ObservedNode>,
    /// Names of the nodes that the chain waits for.
    counted: HashSet<&'a str>,
}

/// A generation's pods by node, in their given order.
pub(super) struct PodIndex<'a>(HashMap<&'a str, Vec<&'a ObservedPod>>);

// === impl NodeIndex ===

impl<'a> NodeIndex<'a> {
    pub(super) fn new(observed: &'a ObservedState, counted: &[&'a ObservedNode]) -> Self {
        Self {
            all: observed.nodes.iter().map(|node| (node.name.as_str(), &**node)).collect(),
            counted: counted.iter().map(|node| node.name.as_str()).collect(),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a ObservedNode> {
        self.all.get(name).copied()
    }

    /// Returns the node that a pod is on.
    pub(super) fn of(&self, pod: &ObservedPod) -> Option<&'a ObservedNode> {
        self.get(pod.node.as_deref()?)
    }

    /// Returns true if a pod is on a node that the chain waits for.
    pub(super) fn is_on_counted_node(&self, pod: &ObservedPod) -> bool {
        pod.node.as_deref().is_some_and(|node| self.counts(node))
    }

    /// Returns true if the chain waits for a node: it is selected, ready, and has a carrier if it needs one.
    pub(super) fn counts(&self, name: &str) -> bool {
        self.counted.contains(name)
    }
}

// === impl PodIndex ===

impl<'a> PodIndex<'a> {
    pub(super) fn new(all: impl Iterator<Item = &'a ObservedPod>) -> Self {
        let mut pods = HashMap::<_, Vec<_>>::with_capacity(all.size_hint().0);
        for pod in all {
            if let Some(node) = pod.node.as_deref() {
                pods.entry(node).or_default().push(pod);
            }
        }
        Self(pods)
    }

    /// Returns the pods on the node of another pod.
    pub(super) fn beside(&self, pod: &ObservedPod) -> &[&'a ObservedPod] {
        pod.node.as_deref().map_or(&[], |node| self.on(node))
    }

    pub(super) fn on(&self, node: &str) -> &[&'a ObservedPod] {
        self.0.get(node).map_or(&[], Vec::as_slice)
    }
}
