//! One generation as it is, against what it should be. Pure.

use std::cell::OnceCell;
use std::rc::Rc;

use quinistry_oci::Digest;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::jiff::Timestamp;

use super::index::{Nodes, Pods};
use super::{Chain, LEARNING_SAMPLE, SAMPLE, SUSPICIOUS, diagnose, state};
use crate::crd::{GenerationStatus, NetworkMode, Proof};
use crate::operator::observed::{DaemonSet, Fetched, Node, Observed, Pod};
use crate::operator::resource::Resource;
use crate::operator::{build, naming, select};

/// How many seconds the controller has for making pods before it is asked why there are none.
const PATIENCE: i64 = 2;

/// Selected nodes, ready or not.
pub(super) fn selected<'a>(quinistry: &Resource, observed: &'a Observed) -> Vec<&'a Node> {
    observed.nodes.iter().map(AsRef::as_ref).filter(|node| select::selects(&quinistry.spec, node)).collect()
}

/// A `DaemonSet` of a generation: as it should be, which may not be known yet, and as it is.
pub(super) struct Set<'a> {
    pub(super) wanted: Option<apps::DaemonSet>,
    pub(super) live: Option<&'a DaemonSet>,
    /// True if the wanted set differs from the live one in the limit alone, which is lower now.
    lowers: bool,
    /// Of what is wanted: looked up once, as each pod is compared with it again and again.
    template: Option<String>,
    image: Option<String>,
}

// === impl Set ===

impl<'a> Set<'a> {
    pub(super) fn new(wanted: Option<apps::DaemonSet>, live: Option<&'a DaemonSet>) -> Self {
        let template = wanted.as_ref().map(|wanted| build::template(wanted).to_owned());
        let pod = wanted.as_ref().and_then(|wanted| wanted.spec.as_ref()?.template.spec.as_ref());
        let image = pod.and_then(|pod| pod.containers.first()?.image.clone());
        Self { wanted, live, lowers: false, template, image }
    }

    pub(super) fn lowering(self, lowers: bool) -> Self {
        Self { lowers, ..self }
    }

    /// The live object is what is wanted.
    fn is_current(&self) -> bool {
        match (&self.wanted, self.live) {
            (Some(wanted), Some(live)) => {
                !live.deleting
                    && live.applied.as_deref() == Some(build::applied(wanted))
                    && (live.accepted || build::covers(&live.spec, &live.labels, wanted))
            }
            _ => false,
        }
    }

    fn is_of_current_template(&self, pod: &Pod) -> bool {
        self.has_template_of(pod) && self.has_image_of(pod)
    }

    fn has_template_of(&self, pod: &Pod) -> bool {
        self.template.is_some() && pod.template == self.template
    }

    fn has_image_of(&self, pod: &Pod) -> bool {
        self.image.as_deref().is_some_and(|image| build::is_same_image(image, &pod.image))
    }
}

/// A generation.
pub(super) struct View<'a> {
    pub(super) number: i32,
    /// One, but of generation 0, which has one for each carrier.
    sets: Vec<Set<'a>>,
    /// By name, so that samples stay the same.
    pub(super) pods: Vec<&'a Pod>,
    /// Its predecessor is proven, so it may be applied.
    pub(super) reachable: bool,
    /// Selected nodes that are ready.
    pub(super) nodes: Vec<&'a Node>,
    known: Rc<Nodes<'a>>,
    places: Pods<'a>,
    /// Asked again and again, and a walk through all nodes.
    rolled_out: OnceCell<bool>,
    /// Asked for each of these, and a walk through all pods.
    served: OnceCell<Vec<(&'a Pod, &'a Digest)>>,
    selected: usize,
    /// Number of nodes that may lack the generation.
    tolerated: usize,
    learning: bool,
    looks: bool,
    observed: &'a Observed,
}

// === impl View ===

impl<'a> View<'a> {
    pub(super) fn new(
        chain: &Chain<'a>,
        number: i32,
        sets: Vec<Set<'a>>,
        reachable: bool,
        learning: bool,
    ) -> Self {
        let observed = chain.observed;
        let mut pods: Vec<&Pod> = observed.pods_of(number).collect();
        pods.sort_by(|one, other| one.name.cmp(&other.name));
        Self {
            number,
            sets,
            places: Pods::new(pods.iter().copied()),
            pods,
            reachable,
            nodes: chain.ready.clone(),
            known: chain.nodes.clone(),
            rolled_out: OnceCell::new(),
            served: OnceCell::new(),
            selected: chain.selected.len(),
            tolerated: chain.tolerated(),
            learning,
            looks: chain.quinistry.spec.network.mode == NetworkMode::HostPort,
            observed,
        }
    }

    /// Everything live is what is wanted.
    pub(super) fn is_current(&self) -> bool {
        !self.sets.is_empty() && self.sets.iter().all(Set::is_current)
    }

    /// Anything of it is there.
    pub(super) fn exists(&self) -> bool {
        self.lives().next().is_some()
    }

    fn lives(&self) -> impl Iterator<Item = &'a DaemonSet> {
        self.sets.iter().filter_map(|set| set.live)
    }

    /// When the last part of it was made.
    pub(super) fn created(&self) -> Option<Timestamp> {
        self.lives().map(|live| live.created).max()
    }

    /// Of several that run already, one is changed after the other, as the limit is each one's own.
    pub(super) fn to_apply(&self) -> Vec<&apps::DaemonSet> {
        let mut changing = false;
        let due = self.sets.iter().filter(|set| set.live.is_none_or(|live| !live.deleting)).filter(|set| {
            if set.is_current() {
                changing |= !self.stands(set);
                return false;
            }
            set.live.is_none() || !std::mem::replace(&mut changing, true)
        });
        // A limit is lowered regardless of the generation below: until then too many pods may go at once.
        due.filter(|set| self.reachable || set.lowers).filter_map(|set| set.wanted.as_ref()).collect()
    }

    /// Its pods, as far as they are on nodes that are ready, are.
    fn stands(&self, set: &Set<'_>) -> bool {
        let mut pods = self.pods.iter().filter(|pod| set.has_image_of(pod));
        pods.all(|pod| {
            !self.known.stands_under(pod) || pod.ready.is_some() && set.is_of_current_template(pod)
        })
    }

    pub(super) fn is_of_current_template(&self, pod: &Pod) -> bool {
        self.sets.iter().any(|set| set.is_of_current_template(pod))
    }

    /// Returns the image that a pod of the current template should have, if the pod has another one.
    pub(super) fn rewritten(&self, pod: &Pod) -> Option<&str> {
        let mut sets = self.sets.iter().filter(|set| set.has_template_of(pod));
        let wanted = sets.next().filter(|set| !set.has_image_of(pod))?;
        wanted.image.as_deref().filter(|_| sets.all(|set| !set.has_image_of(pod)))
    }

    /// Returns true if no Ready pod of the current template stays on a node.
    pub(super) fn lacks(&self, node: &Node) -> bool {
        self.pod_on(node).is_none_or(|pod| pod.ready.is_none())
    }

    /// Returns the nodes that lack the generation, of those that hold up the chain.
    pub(super) fn lacking(&self) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().copied().filter(|node| self.lacks(node))
    }

    /// Returns true if a pod on the node serves other content than it should, or did.
    fn deviates_on(&self, node: &Node) -> bool {
        self.on(&node.name).iter().filter(|pod| self.is_of_current_template(pod)).any(|pod| {
            let ended = pod.ended.as_ref().is_some_and(|(code, _)| *code == diagnose::DEVIATES);
            ended || matches!(self.fetched(pod), Some(Fetched::Corrupt(_)))
        })
    }

    /// The pod on a node that counts: of the current template, and staying.
    pub(super) fn pod_on(&self, node: &Node) -> Option<&'a Pod> {
        self.on(&node.name).iter().copied().find(|pod| !pod.deleting && self.is_of_current_template(pod))
    }

    /// All pods on a node, whatever becomes of them.
    pub(super) fn on(&self, node: &str) -> &[&'a Pod] {
        self.places.on(node)
    }

    /// All pods on the node of another pod.
    pub(super) fn beside(&self, pod: &Pod) -> &[&'a Pod] {
        self.places.beside(pod)
    }

    /// Returns true if a pod of the current template is Ready on every selected node that is ready, but for
    /// the nodes that may be behind.
    pub(super) fn is_rolled_out(&self) -> bool {
        *self.rolled_out.get_or_init(|| {
            self.is_current() && self.lives().all(|live| live.settled) && self.is_everywhere()
        })
    }

    fn is_everywhere(&self) -> bool {
        let mut lacking = 0;
        for node in self.lacking() {
            lacking += 1;
            if lacking > self.tolerated || self.deviates_on(node) {
                return false;
            }
        }
        lacking < self.nodes.len()
    }

    /// Ready pods of the current template that the operator looks at.
    pub(super) fn sample(&self) -> Vec<&'a Pod> {
        let size = if self.learning { LEARNING_SAMPLE } else { SAMPLE };
        let ready = |pod: &&Pod| {
            pod.ready.is_some() && pod.running.is_some() && !pod.deleting && self.is_of_current_template(pod)
        };
        self.pods.iter().copied().filter(ready).take(size).collect()
    }

    /// Pods that have run for a while and are not Ready: either they serve something else, or their node's localhost
    /// does not lead to them. Asking them tells which.
    pub(super) fn suspects(&self, now: Timestamp) -> Vec<&'a Pod> {
        let suspicious = |pod: &&Pod| {
            pod.ready.is_none()
                && !pod.deleting
                && self.is_of_current_template(pod)
                && self.had_its_time(pod, now)
        };
        self.pods.iter().copied().filter(suspicious).take(SAMPLE).collect()
    }

    /// Returns true if the pod has run for a while, and its kubelet had as long to report on it: on a node
    /// that comes back, all pods count as not Ready until then. Measured by the operator's own clock, since a
    /// node's may be wrong.
    pub(super) fn had_its_time(&self, pod: &Pod, now: Timestamp) -> bool {
        let node = self.known.of(pod).map(|node| node.seen);
        let since = pod.running.map(|_| node.map_or(pod.seen, |node| node.max(pod.seen)));
        since.is_some_and(|since| now.as_second() - since.as_second() >= SUSPICIOUS)
    }

    pub(super) fn fetched(&self, pod: &Pod) -> Option<&'a Fetched> {
        self.observed.fetched.get(&pod.start)
    }

    /// All digests that current pods were found to serve.
    pub(super) fn served(&self) -> &[(&'a Pod, &'a Digest)] {
        self.served.get_or_init(|| {
            let whole = |pod: &'a Pod| match self.fetched(pod) {
                Some(Fetched::Whole(digest)) => Some((pod, digest)),
                _ => None,
            };
            let current = |pod: &Pod| !pod.deleting && self.is_of_current_template(pod);
            self.pods.iter().copied().filter_map(whole).filter(|(pod, _)| current(pod)).collect()
        })
    }

    /// What a bootstrap image turned out to serve; nothing while pods do not agree.
    pub(super) fn learned(&self) -> Option<Digest> {
        let served = self.served();
        let (_, first) = served.first()?;
        served.iter().all(|(_, digest)| digest == first).then(|| (*first).clone())
    }

    /// The operator's look at the sample: whether it is done and found nothing wrong. A pod that cannot be reached, say
    /// because a network policy forbids it, is vouched for by its kubelet and by itself; only the digest cannot be
    /// learned that way.
    fn is_looked_at(&self, digest: &Digest) -> bool {
        self.sample().into_iter().all(|pod| match self.fetched(pod) {
            None => !self.looks,
            Some(Fetched::Whole(served)) => served == digest,
            Some(Fetched::Corrupt(_)) => false,
            Some(Fetched::Failed(_)) => true,
        })
    }

    /// Nodes with a pod that the operator looks at and has not heard of yet.
    pub(super) fn unasked(&self) -> impl Iterator<Item = &'a str> {
        let sample = if self.looks { self.sample() } else { Vec::new() };
        sample.into_iter().filter(|pod| self.fetched(pod).is_none()).filter_map(|pod| pod.node.as_deref())
    }

    pub(super) fn is_proven(&self, digest: Option<&Digest>) -> bool {
        digest.is_some_and(|digest| self.is_rolled_out() && self.is_looked_at(digest))
    }

    /// Pods are missing on nodes although the controller should have made them.
    pub(super) fn is_missing_pods(&self, now: Timestamp) -> bool {
        let due = |live: &DaemonSet| !live.deleting && now.as_second() - live.created.as_second() >= PATIENCE;
        self.exists() && self.lives().all(due) && self.nodes.iter().any(|node| self.on(&node.name).is_empty())
    }

    fn verified(&self, digest: Option<&Digest>) -> usize {
        let ready = |pod: &Pod| pod.ready.is_some();
        self.served().iter().filter(|(pod, served)| ready(pod) && Some(*served) == digest).count()
    }

    /// Returns the generation's status. `stands`: the generation is proven everywhere but on nodes that have
    /// just joined.
    pub(super) fn status(&self, chain: &Chain<'_>, stands: bool) -> GenerationStatus {
        let digest = chain.digest.as_ref();
        let current: Vec<_> =
            self.pods.iter().filter(|pod| !pod.deleting && self.is_of_current_template(pod)).collect();
        let ready = current.iter().filter(|pod| pod.ready.is_some() && chain.is_on_a_ready_node(pod));
        let verified = self.verified(digest);
        let available = ready.clone().count();
        let mut proofs = Vec::new();
        if let Some(digest) = digest.filter(|_| available > 0) {
            let pinned = self.number != 1 || chain.quinistry.digest.is_some();
            if pinned {
                proofs.extend([Proof::Readiness, Proof::SelfAttestation]);
            }
            if ready.clone().all(|pod| pod.image_id.ends_with(&format!("@{digest}"))) {
                proofs.push(Proof::ImageId);
            }
            if verified > 0 {
                proofs.push(Proof::Fetched);
            }
        }
        let failure = diagnose::failure(chain, self);
        GenerationStatus {
            generation: self.number,
            daemon_set: naming::daemon_set_name(chain.quinistry.name(), self.number),
            port: naming::port(&chain.quinistry.spec, self.number),
            image: chain.image(self.number).unwrap_or_default(),
            state: state(self, self.is_proven(digest) || stands, failure),
            desired: count(self.selected),
            updated: count(current.len()),
            available: count(available),
            verified: count(verified),
            digest: if chain.learns(self.number) {
                self.learned().map(|digest| digest.to_string())
            } else {
                digest.filter(|_| available > 0).map(ToString::to_string)
            },
            proofs,
        }
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
