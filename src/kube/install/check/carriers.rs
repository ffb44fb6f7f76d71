//! Check of the carriers: images of each node in which generation 0 can run. Pure. The operator chooses among
//! them.

use std::collections::{BTreeMap, BTreeSet};

use super::observe::ObservedCluster;
use super::{InstallRequest, PreflightFinding, nodes::names};
use crate::api::types::{Metadata as _, Node, Pod};
use crate::crd::Quinistry;
use crate::seed::carrier::{self, RunningImage};

/// Number of images in a node's status at most; the kubelet leaves out the smallest. A full list proves
/// nothing about an image that is not in it.
const MAX_LISTED_IMAGES: usize = 50;

pub(super) fn findings(
    observed: &ObservedCluster,
    request: &InstallRequest<'_>,
    before: Option<&Quinistry>,
) -> Vec<PreflightFinding> {
    let named = request.options.carriers(before);
    let architecture = request.payload.architecture;
    let ours: Vec<&Node> =
        observed.nodes.iter().filter(|node| node.status.node_info.architecture == architecture).collect();
    if ours.is_empty() {
        return Vec::new();
    }
    if !named.is_empty() {
        return of_named(&ours, &named);
    }
    let mut running: BTreeMap<&str, Vec<RunningImage>> = BTreeMap::new();
    for pod in observed.pods.iter().filter(|pod| !pod.has_ended()) {
        if let Some(node) = pod.spec.node_name.as_deref() {
            running.entry(node).or_default().extend(images(pod));
        }
    }
    let mut used: BTreeSet<String> = BTreeSet::new();
    let mut unseen = Vec::new();
    for node in ours {
        let seen = running.get(node.metadata.name()).map(Vec::as_slice).unwrap_or_default();
        let sandboxes = carrier::sandboxes(node.status.images.iter().map(|image| &*image.names));
        // Without an observed image, `candidates` returns well-known names.
        let open = seen.iter().any(|one| !one.secret && !one.image.starts_with("localhost:"));
        match carrier::candidates(&[], &sandboxes, seen).into_iter().next() {
            Some(image) if !sandboxes.is_empty() || open => drop(used.insert(image)),
            _ => unseen.push(node),
        }
    }
    let mut all = Vec::new();
    if !used.is_empty() {
        let used: Vec<String> = used.into_iter().collect();
        all.push(PreflightFinding::ok("carriers", used.join(", ")));
    }
    if !unseen.is_empty() {
        let text = format!(
            "{} name no image in which generation 0 could run; well-known sandbox images are tried there. If none is \
             there, name one with --carrier",
            names(&unseen)
        );
        all.push(PreflightFinding::note("carriers", text));
    }
    all
}

fn of_named(nodes: &[&Node], named: &[String]) -> Vec<PreflightFinding> {
    let has = |node: &Node| {
        let mut there = node.status.images.iter().flat_map(|image| &image.names);
        node.status.images.len() >= MAX_LISTED_IMAGES || there.any(|name| named.contains(name))
    };
    let without: Vec<&Node> = nodes.iter().copied().filter(|node| !has(node)).collect();
    if without.is_empty() {
        return vec![PreflightFinding::ok("carriers", named.join(", "))];
    }
    let text = format!("{} do not name {} among their images", names(&without), named.join(" or "));
    let all = without.len() == nodes.len();
    vec![if all {
        PreflightFinding::fail(
            "carriers",
            format!("{text}; give its full name as the nodes have it, or leave --carrier out"),
        )
    } else {
        PreflightFinding::note("carriers", text)
    }]
}

fn images(pod: &Pod) -> impl Iterator<Item = RunningImage> {
    let secret = !pod.spec.image_pull_secrets.is_empty();
    pod.spec.containers.iter().map(move |container| RunningImage { image: container.image.clone(), secret })
}
