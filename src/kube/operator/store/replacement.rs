//! Replacement of pods whose template has changed. Pure.
//!
//! One store at a time, so that the others have what it holds. A pod on a node that is not Ready could not be
//! replaced, and holds up no other one.

use std::collections::BTreeSet;

use serde_json::Value;

use super::live::StorePod;
use super::nodes::Choice;
use super::objects::StoreKind;
use super::plan::{StoreInput, own_pods, ready_nodes};
use super::set;

/// A pod that is to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replacement {
    /// Name of the pod.
    pub name: String,
    /// UID of the pod.
    pub uid: String,
    /// Node of the pod.
    pub node: String,
    /// Hash of the present template, without the nodes.
    pub template: String,
}

/// Returns the pods to replace now, of those that were made of another template than that of the live
/// `DaemonSet`: all that are not Ready, or else one, if each chosen node that is Ready has a Ready store. Pods of
/// contested nodes are left alone.
pub(super) fn replacements(input: &StoreInput<'_>, set: &Value, choice: &Choice) -> Vec<Replacement> {
    // A DaemonSet of an earlier version has no hash, and is about to be applied.
    let Some(template) = set::template(set) else { return Vec::new() };
    let is_chosen = |name: &str| choice.nodes.iter().any(|node| node == name);
    let up: BTreeSet<&str> = input
        .nodes
        .iter()
        .filter(|node| node.ready && is_chosen(&node.name))
        .map(|node| node.name.as_str())
        .collect();
    let mut outdated: Vec<(&str, &StorePod)> = outdated(input, template)
        .filter(|(node, _)| up.contains(node) && !input.contested.contains(*node))
        .collect();
    // The same pod comes first until the watch shows that it leaves.
    outdated.sort_by(|(one, pod), (other, next)| (one, &pod.uid).cmp(&(other, &next.uid)));
    let (ready, unready): (Vec<_>, Vec<_>) = outdated.into_iter().partition(|(_, pod)| pod.ready.is_some());
    let served = ready_nodes(input, choice);
    let next = if unready.is_empty() && up.iter().all(|node| served.contains(node)) {
        ready.into_iter().take(1).collect()
    } else {
        unready
    };
    let replace = |(node, pod): (&str, &StorePod)| Replacement {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        node: node.to_owned(),
        template: template.to_owned(),
    };
    next.into_iter().map(replace).collect()
}

/// Returns the contested nodes whose pods have another template than that of the live `DaemonSet`.
pub(super) fn contested<'a>(input: &StoreInput<'a>) -> BTreeSet<&'a str> {
    let set = input.live.get(&StoreKind::DaemonSet).filter(|live| live.is_own());
    let Some(template) = set.and_then(|live| set::template(&live.spec)) else { return BTreeSet::new() };
    outdated(input, template).map(|(node, _)| node).filter(|node| input.contested.contains(*node)).collect()
}

/// Returns the pods that were made of another template than this one, with their nodes.
fn outdated<'a>(input: &StoreInput<'a>, template: &str) -> impl Iterator<Item = (&'a str, &'a StorePod)> {
    own_pods(input)
        .filter(move |pod| !pod.is_leaving && pod.template.as_deref() != Some(template))
        .filter_map(|pod| Some((pod.node.as_deref()?, pod)))
}
