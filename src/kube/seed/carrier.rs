//! Carriers: images that a node already has, and in which generation 0 can run. Pure.
//!
//! The pod replaces the image's command and uses none of its files. The sandbox image is the best carrier:
//! every node has it, and no kubelet deletes it. A node's status lists at most 50 images, the largest first,
//! so it often lacks the sandbox image; then images of running pods are taken, and last well-known names. An
//! image that was pulled with a secret is never taken: kubelets refuse it to pods without that secret.
//!
//! A node starts without the label [`CARRIER`] and gets the *main* carrier, which most nodes have: a new node
//! needs nothing but the API server. If a node lacks that image, its label names another carrier; without any
//! carrier the label is [`NONE`], until the candidates change.

use std::collections::{BTreeMap, BTreeSet};

use crate::sorted::Sorted as _;
use quinistry_oci::Digest;

pub use crate::api::names::labels::CARRIER;

/// Value of the label on a node without any carrier.
pub const NONE: &str = "none";

/// Prefix of the label on a node whose kubelet must drop altered seed parts from its cache, before the start
/// time in seconds since the epoch. Generation 0 has no pod on such a node.
const RESTING_PREFIX: &str = "resting-";

/// Seconds for which a kubelet has no pod of generation 0, so that it drops altered seed parts. It caches an
/// immutable `ConfigMap` while any pod refers to it, and a pod created at once would keep it there.
const REST_SECONDS: i64 = 5;

/// Sandbox images of common distributions: kubeadm, kind and Talos, k3s and RKE2, older ones. Tried in this
/// order on nodes whose images are unknown.
const WELL_KNOWN_SANDBOXES: [&str; 9] = [
    "registry.k8s.io/pause:3.10.1",
    "registry.k8s.io/pause:3.10",
    "registry.k8s.io/pause:3.9",
    "registry.k8s.io/pause:3.8",
    "registry.k8s.io/pause:3.7",
    "registry.k8s.io/pause:3.6",
    "docker.io/rancher/mirrored-pause:3.6",
    "index.docker.io/rancher/mirrored-pause:3.6",
    "k8s.gcr.io/pause:3.5",
];

/// Returns the key of an image in labels, whose values cannot hold an image's name.
#[must_use]
pub fn key(image: &str) -> String {
    Digest::sha256(image.as_bytes()).hex()[..10].into()
}

/// Returns a short hash of a node's candidates, to notice when they change.
#[must_use]
pub fn tried(known: &[String]) -> String {
    key(&known.join(" "))
}

/// Chooses one name of an image: by tag if it has one, since a digest is longer and less readable.
fn name<'a>(names: &[&'a str]) -> Option<&'a str> {
    names.iter().copied().find(|name| !name.contains('@')).or_else(|| names.first().copied())
}

/// Returns true if an image has the name of a sandbox image.
fn is_sandbox(image: &str) -> bool {
    let repository = image.split('@').next().unwrap_or_default();
    let last = repository.rsplit('/').next().unwrap_or_default();
    let name = last.split(':').next().unwrap_or_default();
    name == "pause" || name.ends_with("-pause") || name.starts_with("pause-")
}

/// Returns the sandbox images among a node's images, each given by all its names. Sorted by name, since
/// kubelets sort by size.
pub fn sandboxes<'a>(images: impl Iterator<Item = &'a [String]>) -> Vec<String> {
    let mut all: Vec<String> = images
        .filter_map(|names| {
            let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| is_sandbox(name)).collect();
            name(&names).map(Into::into)
        })
        .collect();
    all.sort_unstable();
    all
}

/// Image of a pod that runs on the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunningImage {
    /// Name of the image in the pod.
    pub image: String,
    /// True if the pod has secrets for pulling images.
    pub secret: bool,
}

/// Returns a node's candidates, the best first: images that the resource names, or observed images, or
/// well-known ones.
#[must_use]
pub fn candidates(named: &[String], sandboxes: &[String], running: &[RunningImage]) -> Vec<String> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let mut all = sandboxes.to_vec();
    let secret: BTreeSet<&str> =
        running.iter().filter(|one| one.secret).map(|one| one.image.as_str()).into_set();
    let mut open: Vec<&str> = running.iter().map(|one| one.image.as_str()).collect();
    open.retain(|image| !secret.contains(image) && !is_ours(image));
    open.sort_unstable();
    open.dedup();
    all.extend(open.into_iter().map(Into::into));
    if all.is_empty() {
        all.extend(WELL_KNOWN_SANDBOXES.map(Into::into));
    }
    all
}

/// Returns true if an image was pulled from a generation: it cannot carry generation 0, which the others
/// need.
fn is_ours(image: &str) -> bool {
    image.starts_with("localhost:")
}

/// Facts about a node that decide on its carrier.
#[derive(Clone, Debug)]
pub struct CarrierNode<'a> {
    /// Name of the node.
    pub node: &'a str,
    /// Label [`CARRIER`] of the node.
    pub label: Option<&'a str>,
    /// Annotation [`CARRIERS_TRIED`](crate::api::names::annotations::CARRIERS_TRIED) of the node.
    pub tried: Option<&'a str>,
    /// Images that the resource names, or that the node's status lists. Unlike images of running pods, these
    /// change rarely.
    pub known: &'a [String],
    /// Candidates, the best first.
    pub images: Vec<String>,
    /// True if the images were observed, and are not well-known names.
    pub seen: bool,
    /// Image in which the node's pod cannot be started.
    pub failed: Option<&'a str>,
    /// True if the node's pod refuses seed parts that are sound.
    pub refused: bool,
    /// True if the node has a pod of generation 0.
    pub busy: bool,
}

/// Assignment of carriers to nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Carrier of nodes without the label; `None` without nodes.
    pub main: Option<String>,
    /// Other carriers in use, by key.
    pub others: BTreeMap<String, String>,
    /// Nodes whose label must change, with the new value; `None` removes the label.
    pub labels: Vec<(String, Option<String>)>,
    /// Nodes without a carrier, with the hash of the candidates that were tried.
    pub without: BTreeMap<String, String>,
}

/// Assigns carriers. `main` and `others` are the carriers in use, which stay if possible: each change
/// restarts pods.
#[must_use]
pub fn assign(nodes: &[CarrierNode<'_>], main: Option<&str>, others: &[String], now: i64) -> Assignment {
    let main = main
        .filter(|main| nodes.is_empty() || nodes.iter().any(|node| fits(node, main)))
        .map(Into::into)
        .or_else(|| most_common(nodes))
        .or_else(|| main.map(Into::into));
    let Some(main) = main else { return Assignment::default() };
    let mut assignment = Assignment::default();
    for node in nodes {
        if let Some(since) = node.label.and_then(|label| label.strip_prefix(RESTING_PREFIX)) {
            let since = since.parse().unwrap_or(i64::MIN);
            if !node.busy && now.saturating_sub(since) >= REST_SECONDS {
                assignment.labels.push((node.node.into(), None));
            }
            continue;
        }
        if node.refused {
            assignment.labels.push((node.node.into(), Some(format!("{RESTING_PREFIX}{now}"))));
            continue;
        }
        let mut known = node.images.iter().chain(others).chain([&main]);
        let current = match node.label {
            None => Some(&main),
            Some(NONE) if node.tried == Some(&tried(node.known)) => {
                assignment.without.insert(node.node.into(), tried(node.known));
                continue;
            }
            Some(label) => known.find(|image| key(image) == label),
        };
        let next = match current {
            Some(current) if node.failed == Some(current.as_str()) => next_candidate(node, current),
            // With observed images only: a well-known name is no better a guess than the main carrier.
            Some(current) if node.label.is_none() && node.seen && !node.images.contains(current) => {
                node.images.first()
            }
            None => node.images.first(),
            current => current,
        };
        let label = match next {
            Some(image) if *image == main => None,
            Some(image) => {
                let key = key(image);
                assignment.others.insert(key.clone(), image.clone());
                Some(key)
            }
            None => {
                assignment.without.insert(node.node.into(), tried(node.known));
                Some(NONE.into())
            }
        };
        if label.as_deref() != node.label {
            assignment.labels.push((node.node.into(), label));
        }
    }
    assignment.main = Some(main);
    assignment
}

fn fits(node: &CarrierNode<'_>, image: &str) -> bool {
    node.failed != Some(image)
        && (node.images.iter().any(|one| one == image) || (node.label.is_none() && !node.seen))
}

/// Returns the candidate after the one that failed; the first if the failed one is not a candidate.
fn next_candidate<'a>(node: &'a CarrierNode<'_>, failed: &str) -> Option<&'a String> {
    let place = node.images.iter().position(|image| image == failed);
    node.images.iter().skip(place.map_or(0, |place| place + 1)).find(|image| *image != failed)
}

/// Returns the candidate that most nodes have; among equals the one with the better rank, then the first by
/// name.
fn most_common(nodes: &[CarrierNode<'_>]) -> Option<String> {
    let mut votes: BTreeMap<&String, (usize, std::cmp::Reverse<usize>)> = BTreeMap::new();
    for node in nodes {
        for (rank, image) in node.images.iter().enumerate().filter(|(_, image)| node.failed != Some(image)) {
            let vote = votes.entry(image).or_insert((0, std::cmp::Reverse(usize::MAX)));
            vote.0 += usize::from(rank == 0 || node.seen);
            vote.1 = vote.1.max(std::cmp::Reverse(rank));
        }
    }
    let best = votes.values().copied().max()?;
    votes.into_iter().find(|(_, vote)| *vote == best).map(|(image, _)| image.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node<'a>(name: &'a str, images: &[&str]) -> CarrierNode<'a> {
        let images = candidates(&[], &images.iter().map(ToString::to_string).collect::<Vec<_>>(), &[]);
        let seen = !images.iter().any(|image| image == WELL_KNOWN_SANDBOXES[0]);
        CarrierNode {
            node: name,
            label: None,
            tried: None,
            known: &[],
            images,
            seen,
            failed: None,
            refused: false,
            busy: true,
        }
    }

    #[test]
    fn sandbox_images_are_known_by_their_name() {
        for image in [
            "registry.k8s.io/pause:3.10",
            "localhost/pause:1",
            "docker.io/rancher/mirrored-pause:3.6",
            "registry.example.com:5000/k8s/pause@sha256:abc",
            "registry.k8s.io/pause-amd64:3.1",
        ] {
            assert!(is_sandbox(image), "{image}");
        }
        for image in
            ["registry.example.com/pause/app:1", "docker.io/library/redis", "unpause:1", "x/pauses:1"]
        {
            assert!(!is_sandbox(image), "{image}");
        }
    }

    #[test]
    fn a_tag_is_preferred_to_a_digest() {
        assert_eq!(name(&["a/pause@sha256:1", "a/pause:3"]), Some("a/pause:3"));
        assert_eq!(name(&["a/pause@sha256:1"]), Some("a/pause@sha256:1"));
        assert_eq!(name(&[]), None);
    }

    #[test]
    fn images_that_were_pulled_with_a_secret_or_from_us_are_no_candidates() {
        let running = |image: &str, secret| RunningImage { image: image.into(), secret };
        let seen = [
            running("b:1", false),
            running("private:1", true),
            running("private:1", false),
            running("localhost:5000/quinistry@sha256:1", false),
            running("a:1", false),
        ];
        assert_eq!(candidates(&[], &["p/pause:3".into()], &seen), ["p/pause:3", "a:1", "b:1"]);
        assert_eq!(candidates(&["mine:1".into()], &["p/pause:3".into()], &seen), ["mine:1"]);
        assert_eq!(candidates(&[], &[], &[]), WELL_KNOWN_SANDBOXES);
    }

    #[test]
    fn nodes_that_have_the_main_carrier_need_no_label() {
        let nodes = [node("n1", &["a/pause:3"]), node("n2", &["a/pause:3"]), node("n3", &["b/pause:2"])];
        let assignment = assign(&nodes, None, &[], 0);
        assert_eq!(assignment.main.as_deref(), Some("a/pause:3"));
        let other = key("b/pause:2");
        assert_eq!(assignment.labels, [("n3".to_owned(), Some(other.clone()))]);
        assert_eq!(assignment.others, BTreeMap::from([(other, "b/pause:2".to_owned())]));
        assert!(assignment.without.is_empty());
    }

    #[test]
    fn what_is_assigned_stays_assigned() {
        let other = key("b/pause:2");
        let mut nodes = [node("n1", &["a/pause:3"]), node("n2", &["b/pause:2", "a/pause:3"])];
        nodes[1].label = Some(&other);
        let assignment = assign(&nodes, Some("a/pause:3"), &["b/pause:2".into()], 0);
        assert_eq!((assignment.main.as_deref(), assignment.labels.len()), (Some("a/pause:3"), 0));
        assert!(assignment.others.contains_key(&other));
        // Even if the node's status no longer lists the image.
        nodes[1].images = vec!["c/pause:1".into()];
        let assignment = assign(&nodes, Some("a/pause:3"), &["b/pause:2".into()], 0);
        assert_eq!(assignment.labels, []);
        // A majority that comes later does not move the others.
        let late = [node("n1", &["a/pause:3"]), node("n2", &["c/pause:1"]), node("n3", &["c/pause:1"])];
        assert_eq!(assign(&late, Some("a/pause:3"), &[], 0).main.as_deref(), Some("a/pause:3"));
    }

    #[test]
    fn a_node_whose_carrier_fails_moves_on_until_there_is_none() {
        let images = ["a/pause:3", "b/pause:2"];
        let (second, nodes) = (key("b/pause:2"), |label, failed| {
            let failing = CarrierNode { label, failed, ..node("n2", &images) };
            vec![node("n1", &["a/pause:3"]), failing]
        });
        let first = assign(&nodes(None, Some("a/pause:3")), Some("a/pause:3"), &[], 0);
        assert_eq!(first.labels, [("n2".to_owned(), Some(second.clone()))]);
        let next =
            assign(&nodes(Some(&second), Some("b/pause:2")), Some("a/pause:3"), &["b/pause:2".into()], 0);
        let all = tried(&[]);
        assert_eq!(next.labels, [("n2".to_owned(), Some(NONE.to_owned()))]);
        assert_eq!(next.without, BTreeMap::from([("n2".to_owned(), all.clone())]));
        let mut rest = nodes(Some(NONE), None);
        rest[1].tried = Some(&all);
        let assignment = assign(&rest, Some("a/pause:3"), &[], 0);
        assert_eq!((assignment.labels.len(), assignment.without.len()), (0, 1));
        // The candidates have changed: all are tried again.
        let known = ["c/pause:1".to_owned()];
        rest[1].known = &known;
        let assignment = assign(&rest, Some("a/pause:3"), &[], 0);
        assert_eq!((assignment.labels.len(), assignment.without.len()), (1, 0));
    }

    #[test]
    fn where_nothing_is_seen_the_main_carrier_is_tried_first() {
        let nodes = [node("n1", &["a/pause:3"]), node("n2", &[])];
        let assignment = assign(&nodes, None, &[], 0);
        assert_eq!((assignment.main.as_deref(), assignment.labels.len()), (Some("a/pause:3"), 0));
        let failing =
            [node("n1", &["a/pause:3"]), CarrierNode { failed: Some("a/pause:3"), ..node("n2", &[]) }];
        let assignment = assign(&failing, Some("a/pause:3"), &[], 0);
        assert_eq!(assignment.labels, [("n2".to_owned(), Some(key(WELL_KNOWN_SANDBOXES[0])))]);
    }

    #[test]
    fn a_main_carrier_that_nobody_has_gives_way() {
        let nodes = [node("n1", &["b/pause:4"]), node("n2", &["b/pause:4"])];
        assert_eq!(assign(&nodes, Some("a/pause:3"), &[], 0).main.as_deref(), Some("b/pause:4"));
    }

    #[test]
    fn a_label_that_nobody_understands_is_replaced() {
        let nodes = [CarrierNode { label: Some("0123456789"), ..node("n1", &["a/pause:3"]) }];
        assert_eq!(assign(&nodes, Some("a/pause:3"), &[], 0).labels, [("n1".to_owned(), None)]);
    }

    #[test]
    fn a_node_whose_pod_refuses_sound_pieces_rests_until_they_are_forgotten() {
        let labels = |label, refused, busy, now| {
            let node = CarrierNode { label, refused, busy, ..node("n1", &["a/pause:3"]) };
            assign(&[node], Some("a/pause:3"), &[], now).labels
        };
        let rests = [("n1".to_owned(), Some("resting-100".to_owned()))];
        assert_eq!(labels(None, true, true, 100), rests);
        // The node's pod still exists, or ended a moment ago.
        assert_eq!(labels(Some("resting-100"), true, true, 200), []);
        assert_eq!(labels(Some("resting-100"), false, false, 102), []);
        assert_eq!(labels(Some("resting-100"), false, false, 105), [("n1".to_owned(), None)]);
        assert_eq!(labels(Some("resting-nonsense"), false, false, 105), [("n1".to_owned(), None)]);
    }

    #[test]
    fn no_nodes_keep_the_carrier_that_was() {
        assert_eq!(assign(&[], Some("a/pause:3"), &[], 0).main.as_deref(), Some("a/pause:3"));
        assert_eq!(assign(&[], None, &[], 0), Assignment::default());
    }
}
