//! Prerequisites of generation 0: the `ConfigMaps` of the executable, and a carrier for each node. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use quinistry_oci::Digest;

use k8s_openapi::jiff::Timestamp;

use super::index::PodIndex;
use super::ports::by_age;
use super::{Action, DropPart};
use crate::api::names::{MAIN_CARRIER, labels};
use crate::crd::Reason;
use crate::operator::observed::{ObservedNode, ObservedPart, ObservedPod, ObservedState};
use crate::operator::resource::ValidResource;
use crate::operator::{build, select};
use crate::seed::carrier::{self, Assignment, CarrierNode};
use crate::seed::{SeedNames, SeedPart, exit};
use crate::sorted::Sorted as _;

/// Reasons of the kubelet for an image that cannot be used as a carrier on its node.
const UNUSABLE_IMAGE_REASONS: [&str; 2] = ["ErrImageNeverPull", "InvalidImageName"];

/// Time in seconds after which the `ConfigMaps` of an executable that no resource names are deleted.
const ABANDONED_AFTER_SECONDS: i64 = 3600;

/// Highest number of nodes whose running images are queried in one pass.
const MAX_NODES_QUERIED: usize = 8;

/// Prerequisites of generation 0: what exists, compared with what is wanted.
pub(super) struct SeedView<'a> {
    pub(super) executable: &'a Digest,
    /// Number of parts of the executable; `None` while neither the operator nor a `ConfigMap` tells it.
    pub(super) part_count: Option<usize>,
    names: SeedNames,
    /// True if this operator runs the same executable, so that it can restore every part.
    own: bool,
    /// True if another operator raises the generations above generation 0.
    pub(super) handed_over: bool,
    pub(super) assignment: Assignment,
    /// Parts that are missing or altered, each with the `ConfigMap` in its place.
    broken: Vec<(SeedPart, Option<&'a ObservedPart>)>,
    observed: &'a ObservedState,
    quinistry: &'a ValidResource,
}

// === impl SeedView ===

impl<'a> SeedView<'a> {
    pub(super) fn new(
        quinistry: &'a ValidResource,
        observed: &'a ObservedState,
        now: Timestamp,
        executable: &'a Digest,
    ) -> Self {
        let names = SeedNames::new(quinistry.name(), executable);
        let ours = observed.own.executable.as_ref().filter(|(digest, _)| digest == executable);
        let found: BTreeMap<&str, &ObservedPart> = observed
            .parts
            .iter()
            .filter(|part| part.seed == names.seed() && !part.deleting)
            .map(|part| (part.name.as_str(), part.as_ref()))
            .into_map();
        let part_count = ours
            .map(|(_, part_count)| *part_count)
            // The stub's `ConfigMap` counts, without which no pod starts: another `ConfigMap` with such a
            // name must not change the number of parts.
            .or_else(|| found.get(names.of(SeedPart::Stub).as_str()).map(|stub| stub.part_count))
            .filter(|part_count| *part_count > 0)
            .or_else(|| {
                found.values().map(|part| part.part_count).filter(|part_count| *part_count > 0).max()
            });
        let broken = part_count.into_iter().flat_map(SeedNames::parts).filter_map(|part| {
            let there = found.get(names.of(part).as_str()).copied();
            let sound = there.is_some_and(|there| !observed.altered.contains(&there.uid));
            (!sound).then_some((part, there))
        });
        let broken: Vec<_> = broken.collect();
        // Only an operator with the same executable can tell that the parts hold the right content.
        let sound = ours.is_some() && broken.is_empty();
        Self {
            part_count,
            own: ours.is_some(),
            handed_over: observed.own.hands_over && ours.is_none(),
            assignment: assign_carriers(quinistry, observed, sound, now),
            names,
            executable,
            broken,
            observed,
            quinistry,
        }
    }

    /// Returns true if every part exists, so that pods can start.
    pub(super) fn is_whole(&self) -> bool {
        self.part_count.is_some() && self.broken.is_empty()
    }

    /// Returns the carriers in use, key and image, the main one first.
    pub(super) fn carriers(&self) -> impl Iterator<Item = (&str, &str)> {
        let others = self.assignment.others.iter().map(|(key, image)| (key.as_str(), image.as_str()));
        self.assignment.main.iter().map(|image| (MAIN_CARRIER, image.as_str())).chain(others)
    }

    /// Returns the actions that precede the creation of pods.
    pub(super) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.own {
            actions.extend(self.broken.iter().map(|(part, there)| Action::Restore {
                part: *part,
                altered: there.map(|there| there.uid.clone()),
            }));
        }
        let uid = self.quinistry.uid();
        let orphans = self.current().filter(|part| !part.owners.iter().any(|owner| owner == uid));
        actions.extend(orphans.map(|part| Action::Adopt { part: part.name.clone() }));
        if self.is_whole() && !self.leaves_labels_to_another() {
            actions.extend(self.assignment.labels.iter().map(|(node, label)| Action::Label {
                node: node.clone(),
                label: label.clone(),
                tried: self.assignment.without.get(node).cloned(),
            }));
        }
        actions
    }

    /// Returns true if another resource labels the nodes. A node has one carrier label, which the oldest
    /// resource with a running generation 0 sets.
    fn leaves_labels_to_another(&self) -> bool {
        let runs = self.observed.pods_of(0).any(|pod| pod.ready.is_some());
        self.observed.rivals.iter().any(|rival| {
            let holding = self.observed.holdings.get(&rival.identity.uid);
            rival.identity.uid != self.quinistry.uid()
                && rival.spec.seed.is_some()
                && holding.is_some_and(|holding| holding.serves_seed)
                && (!runs || by_age(&rival.identity, &self.quinistry.identity) == Ordering::Less)
                && !select::disjoint(&rival.spec, &self.quinistry.spec)
        })
    }

    /// Returns the deletion of parts that no generation needs. Older parts are of an earlier executable.
    /// Younger parts belong to an upgrade whose resource is not applied yet; they are deleted if that does
    /// not happen for long.
    pub(super) fn unneeded_parts(&self, now: Timestamp) -> impl Iterator<Item = Action> {
        let first = self.current().map(|part| part.created).min();
        let others = self.observed.parts.iter().filter(|part| part.seed != self.names.seed());
        others
            .filter(move |part| {
                let earlier = first.is_some_and(|first| part.created < first);
                earlier || now.as_second() - part.created.as_second() > ABANDONED_AFTER_SECONDS
            })
            .filter_map(|part| drop_part(part))
    }

    fn current(&self) -> impl Iterator<Item = &'a ObservedPart> {
        let all = self.observed.parts.iter().map(AsRef::as_ref);
        all.filter(|part| part.seed == self.names.seed() && !part.deleting)
    }

    /// Returns true for a pod that was created before a part that it waits for was restored: the kubelet's
    /// next try may be minutes away. A pod that got altered content is not replaced, since its successor
    /// would get the same; see [`carrier`].
    pub(super) fn is_stale(&self, pod: &ObservedPod) -> bool {
        let newest = self.current().map(|part| part.created).max();
        let earlier = newest.is_some_and(|newest| pod.created < newest);
        self.is_whole() && !pod.deleting && pod.ready.is_none() && earlier && !found_wrong_content(pod)
    }

    /// Returns the reason why generation 0 cannot be raised or restored, if this operator cannot repair it.
    pub(super) fn problem(&self) -> Option<(Reason, String)> {
        if self.own || self.is_whole() {
            return None;
        }
        let missing = match self.part_count {
            None => "none of its ConfigMaps is there".into(),
            Some(part_count) => {
                format!("{} of its {} ConfigMaps are missing", self.broken.len(), part_count + 1)
            }
        };
        let message = format!(
            "executable {} cannot be put together: {missing}, and this operator is another executable; run 'quinistry up' \
             again with that one",
            self.executable
        );
        Some((Reason::SeedIncomplete, message))
    }
}

/// Returns the deletion of all parts, for a resource without a seed.
pub(super) fn all_parts(observed: &ObservedState) -> impl Iterator<Item = Action> {
    observed.parts.iter().filter_map(|part| drop_part(part))
}

fn drop_part(part: &ObservedPart) -> Option<Action> {
    let ObservedPart { namespace, name, uid, deleting, .. } = part;
    let part = DropPart { namespace: namespace.clone(), name: name.clone(), uid: uid.clone() };
    (!deleting).then_some(Action::Drop(part))
}

/// Returns the nodes whose running images are needed, since no known image can carry generation 0 there.
pub(super) fn nodes_without_carrier(quinistry: &ValidResource, observed: &ObservedState) -> Vec<String> {
    let Some(seed) = &quinistry.spec.seed else { return Vec::new() };
    if !seed.carriers.is_empty() {
        return Vec::new();
    }
    let pods = seed_pods(observed);
    let unknown = observed.nodes.iter().all(|node| node.sandboxes.is_empty());
    let nodes = observed.nodes.iter().filter(|node| node.ready && select::selects(&quinistry.spec, node));
    nodes
        .filter(|node| unknown || failed_carrier(&pods, node).is_some())
        .filter(|node| !observed.running.contains_key(&node.name))
        .map(|node| node.name.clone())
        .take(MAX_NODES_QUERIED)
        .collect()
}

fn assign_carriers(
    quinistry: &ValidResource,
    observed: &ObservedState,
    sound: bool,
    now: Timestamp,
) -> Assignment {
    let named = quinistry.spec.seed.as_ref().map_or(&[][..], |seed| &seed.carriers);
    let image_of = |key: &str| {
        let set = observed.sets_of(0).find(|set| set.carrier.as_deref() == Some(key))?;
        set.spec["template"]["spec"]["containers"][0]["image"].as_str()
    };
    let keys =
        observed.sets_of(0).filter_map(|set| set.carrier.as_deref()).filter(|key| *key != MAIN_CARRIER);
    let others: Vec<String> = keys.filter_map(image_of).map(Into::into).collect();
    let pods = seed_pods(observed);
    let nodes: Vec<CarrierNode<'_>> = observed
        .nodes
        .iter()
        .filter(|node| select::selects(&quinistry.spec, node))
        .map(|node| {
            let here = pods.on(&node.name);
            let running = observed.running.get(&node.name).map_or(&[][..], Vec::as_slice);
            CarrierNode {
                node: &node.name,
                known: if named.is_empty() { &node.sandboxes } else { named },
                label: node.labels.get(labels::CARRIER).map(String::as_str),
                tried: node.tried.as_deref(),
                images: carrier::candidates(named, &node.sandboxes, running),
                seen: !named.is_empty() || !node.sandboxes.is_empty() || !running.is_empty(),
                failed: failed_carrier(&pods, node),
                refused: sound && here.iter().any(|pod| pod.ready.is_none() && found_wrong_content(pod)),
                busy: !here.is_empty(),
            }
        })
        .collect();
    // Images that the resource names take precedence over those that exist.
    let main =
        image_of(MAIN_CARRIER).filter(|image| named.is_empty() || named.iter().any(|one| one == image));
    carrier::assign(&nodes, named.first().map(String::as_str).or(main), &others, now.as_second())
}

fn seed_pods(observed: &ObservedState) -> PodIndex<'_> {
    PodIndex::new(observed.pods_of(0))
}

/// Returns true if the stub of the pod found other content than its digest says.
fn found_wrong_content(pod: &ObservedPod) -> bool {
    pod.ended.as_ref().is_some_and(|(code, _)| *code == exit::WRONG_DIGEST)
}

/// Returns an image without the digest that admission plugins add to a tag.
fn unpinned(image: &str) -> &str {
    let has_tag = |named: &str| named.rsplit('/').next().is_some_and(|last| last.contains(':'));
    image.split_once('@').map(|(named, _)| named).filter(|named| has_tag(named)).unwrap_or(image)
}

/// Returns the carrier in which a pod on the node cannot start. A pod whose pull policy was changed by an
/// admission plugin does not count: no other carrier would work.
fn failed_carrier<'a>(pods: &PodIndex<'a>, node: &ObservedNode) -> Option<&'a str> {
    let mut staying = pods.on(&node.name).iter().filter(|pod| !pod.deleting);
    let failed = staying.find(|pod| {
        let waiting =
            pod.waiting.as_ref().is_some_and(|(reason, _)| UNUSABLE_IMAGE_REASONS.contains(&reason.as_str()));
        waiting && pod.pull_policy == build::PULL_NEVER
    });
    failed.map(|pod| unpinned(&pod.image))
}
