//! Who is where: nodes by name and pods by node. A plan asks that for each node and each pod, and with thousands of both a
//! walk through all of them for each would be all that the operator does. Pure.

use std::collections::{HashMap, HashSet};

use crate::operator::observed::{Node, Observed, Pod};

/// Nodes by name.
pub(super) struct Nodes<'a> {
    all: HashMap<&'a str, &'a Node>,
    /// Of these, those that hold up the chain.
    standing: HashSet<&'a str>,
}

/// A generation's pods by node, each node's in the order in which they were given.
pub(super) struct Pods<'a>(HashMap<&'a str, Vec<&'a Pod>>);

// === impl Nodes ===

impl<'a> Nodes<'a> {
    pub(super) fn new(observed: &'a Observed, standing: &[&'a Node]) -> Self {
        Self {
            all: observed.nodes.iter().map(|node| (node.name.as_str(), &**node)).collect(),
            standing: standing.iter().map(|node| node.name.as_str()).collect(),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Node> {
        self.all.get(name).copied()
    }

    /// Returns the node that a pod is on.
    pub(super) fn of(&self, pod: &Pod) -> Option<&'a Node> {
        self.get(pod.node.as_deref()?)
    }

    /// Returns true if a pod is on a node that stands.
    pub(super) fn stands_under(&self, pod: &Pod) -> bool {
        pod.node.as_deref().is_some_and(|node| self.stands(node))
    }

    /// Whether it is selected, ready, and can have generations.
    pub(super) fn stands(&self, name: &str) -> bool {
        self.standing.contains(name)
    }
}

// === impl Pods ===

impl<'a> Pods<'a> {
    pub(super) fn new(all: impl Iterator<Item = &'a Pod>) -> Self {
        let mut pods = HashMap::<_, Vec<_>>::with_capacity(all.size_hint().0);
        for pod in all {
            if let Some(node) = pod.node.as_deref() {
                pods.entry(node).or_default().push(pod);
            }
        }
        Self(pods)
    }

    /// Returns the pods on the node of another pod.
    pub(super) fn beside(&self, pod: &Pod) -> &[&'a Pod] {
        pod.node.as_deref().map_or(&[], |node| self.on(node))
    }

    pub(super) fn on(&self, node: &str) -> &[&'a Pod] {
        self.0.get(node).map_or(&[], Vec::as_slice)
    }
}
