//! What generation 0 stands on: the `ConfigMaps` of the executable, and a carrier for each node. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use quinistry_oci::Digest;

use k8s_openapi::jiff::Timestamp;

use super::places::Pods;
use super::ports::by_age;
use super::{Action, DropPart};
use crate::api::names::{MAIN_CARRIER, labels};
use crate::crd::Reason;
use crate::operator::observed::{Node, Observed, Part as Found, Pod};
use crate::operator::resource::Resource;
use crate::operator::{build, select};
use crate::seed::carrier::{self, Assignment, CarrierNode};
use crate::seed::{SeedNames, SeedPart, exit};

/// Reasons of the kubelet for which a carrier cannot be used on a node, as it is not there or not for everybody.
const NOT_THERE: [&str; 2] = ["ErrImageNeverPull", "InvalidImageName"];

/// After how many seconds pieces of an executable that no resource has come to name are taken for forsaken.
const FORSAKEN: i64 = 3600;

/// How many nodes are asked about at once for the images of their pods.
const ASKED: usize = 8;

/// Generation 0's foundations, as they are against what they should be.
pub(super) struct Seed<'a> {
    pub(super) executable: &'a Digest,
    /// Nothing while nobody says it.
    pub(super) pieces: Option<usize>,
    names: SeedNames,
    /// This operator is that executable, so it can restore every piece.
    own: bool,
    /// What stands on generation 0 is somebody else's to raise.
    pub(super) handed_over: bool,
    pub(super) assignment: Assignment,
    /// Parts that should be there and are not, or that hold something else; with what is in their place.
    broken: Vec<(SeedPart, Option<&'a Found>)>,
    observed: &'a Observed,
    quinistry: &'a Resource,
}

// === impl Seed ===

impl<'a> Seed<'a> {
    pub(super) fn new(
        quinistry: &'a Resource,
        observed: &'a Observed,
        now: Timestamp,
        executable: &'a Digest,
    ) -> Self {
        let names = SeedNames::new(quinistry.name(), executable);
        let ours = observed.own.executable.as_ref().filter(|(digest, _)| digest == executable);
        let found: BTreeMap<&str, &Found> = observed
            .parts
            .iter()
            .filter(|part| part.seed == names.seed() && !part.deleting)
            .map(|part| (part.name.as_str(), part.as_ref()))
            .collect();
        let pieces = ours
            .map(|(_, pieces)| *pieces)
            // The entry of the stub, without which nothing starts: another `ConfigMap` of such a name must
            // not add pieces.
            .or_else(|| found.get(names.of(SeedPart::Stub).as_str()).map(|stub| stub.pieces))
            .filter(|pieces| *pieces > 0)
            .or_else(|| found.values().map(|part| part.pieces).filter(|pieces| *pieces > 0).max());
        let broken = pieces.into_iter().flat_map(SeedNames::parts).filter_map(|part| {
            let there = found.get(names.of(part).as_str()).copied();
            let sound = there.is_some_and(|there| !observed.altered.contains(&there.uid));
            (!sound).then_some((part, there))
        });
        let broken: Vec<_> = broken.collect();
        // Only who has seen what the pieces hold can tell that they are sound.
        let sound = ours.is_some() && broken.is_empty();
        Self {
            pieces,
            own: ours.is_some(),
            handed_over: observed.own.hands_over && ours.is_none(),
            assignment: assign(quinistry, observed, sound, now),
            names,
            executable,
            broken,
            observed,
            quinistry,
        }
    }

    /// Every piece is there, so that pods can start.
    pub(super) fn is_whole(&self) -> bool {
        self.pieces.is_some() && self.broken.is_empty()
    }

    /// The carriers in use: key, and image. The main one is first.
    pub(super) fn carriers(&self) -> impl Iterator<Item = (&str, &str)> {
        let others = self.assignment.others.iter().map(|(key, image)| (key.as_str(), image.as_str()));
        self.assignment.main.iter().map(|image| (MAIN_CARRIER, image.as_str())).chain(others)
    }

    /// What must be done before pods are made.
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
        if self.is_whole() && !self.follows() {
            actions.extend(self.assignment.labels.iter().map(|(node, label)| Action::Label {
                node: node.clone(),
                label: label.clone(),
                tried: self.assignment.without.get(node).cloned(),
            }));
        }
        actions
    }

    /// A node has one label, so one resource sets it: of those whose generation 0 runs, the oldest.
    fn follows(&self) -> bool {
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

    /// Parts of earlier executables, which nothing needs any more once every generation is of this one. Those that came
    /// later are of an upgrade which is about to be said; if that is not done for long, nobody will.
    pub(super) fn old(&self, now: Timestamp) -> impl Iterator<Item = Action> {
        let first = self.current().map(|part| part.created).min();
        let others = self.observed.parts.iter().filter(|part| part.seed != self.names.seed());
        others
            .filter(move |part| {
                let earlier = first.is_some_and(|first| part.created < first);
                earlier || now.as_second() - part.created.as_second() > FORSAKEN
            })
            .filter_map(|part| drop(part))
    }

    fn current(&self) -> impl Iterator<Item = &'a Found> {
        let all = self.observed.parts.iter().map(AsRef::as_ref);
        all.filter(|part| part.seed == self.names.seed() && !part.deleting)
    }

    /// A pod that waits for a piece since before that was restored: its kubelet's next try may be minutes away. One that
    /// got an altered piece is not helped by a successor; see [`carrier`].
    pub(super) fn is_stale(&self, pod: &Pod) -> bool {
        let newest = self.current().map(|part| part.created).max();
        let earlier = newest.is_some_and(|newest| pod.created < newest);
        self.is_whole() && !pod.deleting && pod.ready.is_none() && earlier && !refuses(pod)
    }

    /// What keeps generation 0 from being raised or restored, if this operator cannot help it.
    pub(super) fn problem(&self) -> Option<(Reason, String)> {
        if self.own || self.is_whole() {
            return None;
        }
        let missing = match self.pieces {
            None => "none of its ConfigMaps is there".into(),
            Some(pieces) => format!("{} of its {} ConfigMaps are missing", self.broken.len(), pieces + 1),
        };
        let message = format!(
            "executable {} cannot be put together: {missing}, and this operator is another executable; run 'quinistry up' \
             again with that one",
            self.executable
        );
        Some((Reason::SeedIncomplete, message))
    }
}

/// Parts of a resource that has no seed any more.
pub(super) fn leftovers(observed: &Observed) -> impl Iterator<Item = Action> {
    observed.parts.iter().filter_map(|part| drop(part))
}

fn drop(part: &Found) -> Option<Action> {
    let Found { namespace, name, uid, deleting, .. } = part;
    let part = DropPart { namespace: namespace.clone(), name: name.clone(), uid: uid.clone() };
    (!deleting).then_some(Action::Drop(part))
}

/// Nodes whose pods should be asked for their images: what is known of them does not carry.
pub(super) fn strangers(quinistry: &Resource, observed: &Observed) -> Vec<String> {
    let Some(seed) = &quinistry.spec.seed else { return Vec::new() };
    if !seed.carriers.is_empty() {
        return Vec::new();
    }
    let pods = pods(observed);
    let unknown = observed.nodes.iter().all(|node| node.sandboxes.is_empty());
    let nodes = observed.nodes.iter().filter(|node| node.ready && select::selects(&quinistry.spec, node));
    nodes
        .filter(|node| unknown || failed(&pods, node).is_some())
        .filter(|node| !observed.running.contains_key(&node.name))
        .map(|node| node.name.clone())
        .take(ASKED)
        .collect()
}

fn assign(quinistry: &Resource, observed: &Observed, sound: bool, now: Timestamp) -> Assignment {
    let named = quinistry.spec.seed.as_ref().map_or(&[][..], |seed| &seed.carriers);
    let image_of = |key: &str| {
        let set = observed.sets_of(0).find(|set| set.carrier.as_deref() == Some(key))?;
        set.spec["template"]["spec"]["containers"][0]["image"].as_str()
    };
    let keys =
        observed.sets_of(0).filter_map(|set| set.carrier.as_deref()).filter(|key| *key != MAIN_CARRIER);
    let others: Vec<String> = keys.filter_map(image_of).map(Into::into).collect();
    let pods = pods(observed);
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
                failed: failed(&pods, node),
                refused: sound && here.iter().any(|pod| pod.ready.is_none() && refuses(pod)),
                busy: !here.is_empty(),
            }
        })
        .collect();
    // What the resource names goes before what is there.
    let main =
        image_of(MAIN_CARRIER).filter(|image| named.is_empty() || named.iter().any(|one| one == image));
    carrier::assign(&nodes, named.first().map(String::as_str).or(main), &others, now.as_second())
}

/// Generation 0's pods, by node.
fn pods(observed: &Observed) -> Pods<'_> {
    Pods::new(observed.pods_of(0))
}

/// Its stub found other pieces than it was told.
fn refuses(pod: &Pod) -> bool {
    pod.ended.as_ref().is_some_and(|(code, _)| *code == exit::WRONG_DIGEST)
}

/// Returns an image without the digest that admission plugins add to a tag.
fn unpinned(image: &str) -> &str {
    let has_tag = |named: &str| named.rsplit('/').next().is_some_and(|last| last.contains(':'));
    image.split_once('@').map(|(named, _)| named).filter(|named| has_tag(named)).unwrap_or(image)
}

/// The carrier that its pod cannot be started in. Not if an admission plugin has it pulled: no other would be better.
fn failed<'a>(pods: &Pods<'a>, node: &Node) -> Option<&'a str> {
    let mut staying = pods.on(&node.name).iter().filter(|pod| !pod.deleting);
    let failed = staying.find(|pod| {
        let waiting = pod.waiting.as_ref().is_some_and(|(reason, _)| NOT_THERE.contains(&reason.as_str()));
        waiting && pod.pull_policy == build::NEVER
    });
    failed.map(|pod| unpinned(&pod.image))
}
