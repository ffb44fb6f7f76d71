//! Plan of the stores: compares what is wanted with what is observed. Pure; the clock is a parameter.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::live::{LiveObject, LiveObjects, Ownership, StorePod};
use super::nodes::{self, Choice, EarlierStores};
use super::objects::{self, StoreKind, WantedObject};
use super::outages::{self, Outages};
use super::replacement::{self, Replacement};
use super::set::{self, SetInput};
use crate::crd::{GenerationState, GenerationStatus, Reason, StoreSpec};
use crate::operator::naming;
use crate::operator::observed::ObservedNode;
use crate::operator::resource::ValidResource;

/// Problem that keeps the stores from being as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoreProblem {
    /// Reason in CamelCase.
    pub reason: Reason,
    /// Message for users.
    pub message: String,
}

/// Next step for one object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing is to be done.
    Keep,
    /// The object is created or changed, upon this version of it.
    Apply(Box<WantedObject>, Option<String>),
    /// The object with this UID and version is deleted.
    Delete(StoreKind, String, String),
    /// A pod of an earlier template is deleted, so that the `DaemonSet` creates another one.
    Replace(Replacement),
    /// Another owner's object is in the way.
    Refuse(StoreProblem),
}

/// State that a plan is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreInput<'a> {
    pub quinistry: &'a ValidResource,
    pub store: &'a StoreSpec,
    pub nodes: &'a [Arc<ObservedNode>],
    pub live: &'a LiveObjects,
    /// Pods that claim to be stores of the resource.
    pub pods: &'a [Arc<StorePod>],
    /// Nodes whose pods were replaced in vain: they keep coming without the hash of their template.
    pub contested: &'a BTreeSet<String>,
    /// URL of the Service, if it has an address.
    pub url: Option<&'a str>,
    /// Status of generation 1, if the chain has it.
    pub first: Option<&'a GenerationStatus>,
    /// Digest that all generations serve, if it is known.
    pub digest: Option<&'a str>,
    pub now: Timestamp,
}

/// Outcome of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct StorePlan {
    /// Steps in the order in which they are carried out.
    pub steps: Vec<Step>,
    /// Chosen nodes.
    pub choice: Choice,
    /// Outages of nodes with stores, which the Service is to remember.
    pub outages: Outages,
    /// True if the stores wait for generation 1.
    pub is_waiting: bool,
}

impl StorePlan {
    /// Returns the time of the next plan, if a node loses its store then.
    pub(super) const fn due(&self) -> Option<Duration> {
        self.choice.due
    }
}

/// Plans the Service, whose address the generations must know before they are built, and which remembers outages.
pub(super) fn service(quinistry: &ValidResource, live: &LiveObjects, outages: &Outages) -> Step {
    let present = live.get(&StoreKind::Service);
    // The address of a Service is immutable, and a headless one has none.
    if let Some(present) = present.filter(|live| live.is_own() && live.spec["clusterIP"] == "None") {
        return Step::Delete(StoreKind::Service, present.uid.clone(), present.version.clone());
    }
    let nodes: Vec<String> = remembered(live).into_iter().collect();
    let nodes = Some(nodes.join(",")).filter(|nodes| !nodes.is_empty());
    let outages = outages::annotation(outages);
    step(quinistry, objects::service(quinistry, nodes.as_deref(), outages.as_deref()), present)
}

/// Returns the outages that the Service remembers.
pub(super) fn outages(live: &LiveObjects) -> Outages {
    let service = live.get(&StoreKind::Service).filter(|service| service.is_own());
    outages::parse(service.and_then(|service| service.outages.as_deref()))
}

/// Returns the nodes with stores: those of the `DaemonSet`, or without one those that the Service remembers.
fn remembered(live: &LiveObjects) -> BTreeSet<String> {
    let written = written_nodes(live);
    if !written.is_empty() {
        return written;
    }
    let service = live.get(&StoreKind::Service).filter(|live| live.is_own());
    let listed = service.and_then(|service| service.nodes.as_deref()).unwrap_or_default();
    listed.split(',').filter(|node| !node.is_empty()).map(str::to_owned).collect()
}

/// Returns the nodes that the live `DaemonSet` names.
pub(super) fn written_nodes(live: &LiveObjects) -> BTreeSet<String> {
    let live = live.get(&StoreKind::DaemonSet).filter(|live| live.is_own());
    live.map(|live| nodes::chosen(&live.spec)).unwrap_or_default()
}

/// Plans the other objects.
pub(super) fn plan(input: &StoreInput<'_>) -> StorePlan {
    let live = input.live.get(&StoreKind::DaemonSet).filter(|live| live.is_own());
    let earlier = earlier(input);
    let outages = outages::follow(&outages(input.live), input.nodes, &earlier, input.now);
    let spec = &input.quinistry.spec;
    let choice = nodes::choose(spec, input.store, input.nodes, &earlier, &outages, input.now);
    let policy = objects::network_policy(input.quinistry);
    let policy = step(input.quinistry, policy, input.live.get(&StoreKind::NetworkPolicy));
    let image = image(input, live);
    let set = match (&image, input.url) {
        // Without nodes there is no valid affinity. A live DaemonSet stays: it remembers the choice.
        _ if choice.nodes.is_empty() => Step::Keep,
        (Some(image), Some(url)) => {
            let wanted =
                set::daemon_set(input.quinistry, input.store, SetInput { image, url, nodes: &choice.nodes });
            match live.filter(|live| keeps_template(input, live, &wanted)) {
                Some(live) => nodes_step(input.quinistry, wanted, live),
                None => step(input.quinistry, wanted, input.live.get(&StoreKind::DaemonSet)),
            }
        }
        _ => Step::Keep,
    };
    let mut steps = vec![policy, set];
    // Pods are made of the template that is there.
    if let (Step::Keep, Some(live)) = (&steps[1], live) {
        steps.extend(replacement::replacements(input, &live.spec, &choice).into_iter().map(Step::Replace));
    }
    StorePlan { steps, is_waiting: live.is_none() && image.is_none(), choice, outages }
}

/// Returns the nodes with stores, each with the time since which its store is Ready.
fn earlier(input: &StoreInput<'_>) -> EarlierStores {
    let ready = |node: &str| {
        own_pods(input).filter(|pod| pod.node.as_deref() == Some(node)).filter_map(|pod| pod.ready).min()
    };
    remembered(input.live).into_iter().map(|node| (node.clone(), ready(&node))).collect()
}

/// Returns the image of the stores: that of generation 1 once it serves somewhere. Live stores change to
/// another image only when generation 1 serves that on all nodes; until then their pods could not pull it.
fn image(input: &StoreInput<'_>, live: Option<&LiveObject>) -> Option<String> {
    let present = live.and_then(|live| set::image_of(&live.spec));
    let serves = |first: &GenerationStatus| match present {
        Some(_) => is_ready(first),
        None => first.available > 0,
    };
    let digest = input.digest.filter(|_| input.first.is_some_and(serves));
    digest.map(|digest| set::image(input.quinistry, digest)).or_else(|| present.map(str::to_owned))
}

/// Returns true if generation 1 serves on all nodes.
fn is_ready(first: &GenerationStatus) -> bool {
    first.state == GenerationState::Ready
}

/// Returns true if the live `DaemonSet` keeps its template, with the image that it has: its arguments were made for
/// that image by an operator of another version, and the executable in it may not know those of this one. They come
/// with the next image, or with another setting while generation 1 serves.
fn keeps_template(input: &StoreInput<'_>, live: &LiveObject, wanted: &WantedObject) -> bool {
    let spec = &wanted.object["spec"];
    // Another writer has replaced a template without its hash.
    let Some(template) = set::template(&live.spec) else { return false };
    if set::image_of(&live.spec) != set::image_of(spec) || Some(template) == set::template(spec) {
        return false;
    }
    let is_same_setting = live.settings.as_deref() == wanted.settings();
    is_same_setting || input.digest.is_none() || !input.first.is_some_and(is_ready)
}

/// Plans another choice of nodes for a `DaemonSet` that keeps its template.
fn nodes_step(quinistry: &ValidResource, wanted: WantedObject, live: &LiveObject) -> Step {
    if live.is_marked_as(&wanted) && nodes::chosen(&live.spec) == nodes::chosen(&wanted.object["spec"]) {
        return Step::Keep;
    }
    step(quinistry, set::with_live_template(wanted, live), Some(live))
}

/// Compares an object with the live one in its place.
fn step(quinistry: &ValidResource, wanted: WantedObject, live: Option<&LiveObject>) -> Step {
    match live {
        None => Step::Apply(Box::new(wanted), None),
        Some(live) => match &live.ownership {
            Ownership::Own if live.matches(&wanted) => Step::Keep,
            Ownership::Own => Step::Apply(Box::new(wanted), Some(live.version.clone())),
            Ownership::Leaving => Step::Keep,
            Ownership::Foreign(whose) => {
                let (kind, name) = (wanted.kind.as_str(), naming::store_name(quinistry.name()));
                let message = format!(
                    "{kind} {name} is there already and {whose}; delete it, or give the resource another name"
                );
                Step::Refuse(StoreProblem { reason: Reason::NameTaken, message })
            }
        },
    }
}

/// Returns the nodes with a ready store, of those that were chosen.
pub(super) fn ready_nodes<'a>(input: &StoreInput<'a>, choice: &Choice) -> BTreeSet<&'a str> {
    let pods = own_pods(input).filter(|pod| pod.ready.is_some()).filter_map(|pod| pod.node.as_deref());
    pods.filter(|node| choice.nodes.iter().any(|chosen| chosen == node)).collect()
}

/// Returns the pods of the live `DaemonSet`. Every user can copy a label, so the controller counts.
pub(super) fn own_pods<'a>(input: &StoreInput<'a>) -> impl Iterator<Item = &'a StorePod> {
    let set =
        input.live.get(&StoreKind::DaemonSet).filter(|live| live.is_own()).map(|live| live.uid.as_str());
    input.pods.iter().map(AsRef::as_ref).filter(move |pod| set.is_some() && pod.controller.as_deref() == set)
}

#[cfg(test)]
mod tests;
