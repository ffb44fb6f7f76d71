//! One generation: what exists, compared with what is wanted. Pure.

use std::cell::OnceCell;
use std::rc::Rc;

use quinistry_oci::Digest;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::jiff::Timestamp;

use super::index::{NodeIndex, PodIndex};
use super::{ChainView, LEARNING_SAMPLE_PODS, SAMPLE_PODS, SUSPECT_AFTER_SECONDS, diagnose, state};
use crate::crd::{GenerationStatus, NetworkMode, Proof};
use crate::operator::observed::{FetchResult, ObservedDaemonSet, ObservedNode, ObservedPod, ObservedState};
use crate::operator::resource::ValidResource;
use crate::operator::{build, naming, select};

/// Time in seconds that the `DaemonSet` controller may take to create pods before its Events are queried.
const CONTROLLER_GRACE_SECONDS: i64 = 2;

/// Returns the selected nodes, ready or not.
pub(super) fn selected<'a>(quinistry: &ValidResource, observed: &'a ObservedState) -> Vec<&'a ObservedNode> {
    observed.nodes.iter().map(AsRef::as_ref).filter(|node| select::selects(&quinistry.spec, node)).collect()
}

/// A `DaemonSet` of a generation: as wanted, which may be unknown yet, and as it is on the server.
pub(super) struct DaemonSetDiff<'a> {
    pub(super) wanted: Option<apps::DaemonSet>,
    pub(super) live: Option<&'a ObservedDaemonSet>,
    /// True if the wanted set differs from the live one only by a lower limit.
    lowers: bool,
    /// Template hash of the wanted set, looked up once since each pod is compared with it.
    template: Option<String>,
    image: Option<String>,
}

// === impl DaemonSetDiff ===

impl<'a> DaemonSetDiff<'a> {
    pub(super) fn new(wanted: Option<apps::DaemonSet>, live: Option<&'a ObservedDaemonSet>) -> Self {
        let template = wanted.as_ref().map(|wanted| build::template(wanted).to_owned());
        let pod = wanted.as_ref().and_then(|wanted| wanted.spec.as_ref()?.template.spec.as_ref());
        let image = pod.and_then(|pod| pod.containers.first()?.image.clone());
        Self { wanted, live, lowers: false, template, image }
    }

    pub(super) fn with_lowered_limit(self, lowers: bool) -> Self {
        Self { lowers, ..self }
    }

    /// Returns true if the live set equals the wanted one.
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

    fn is_of_current_template(&self, pod: &ObservedPod) -> bool {
        self.has_template_of(pod) && self.has_image_of(pod)
    }

    fn has_template_of(&self, pod: &ObservedPod) -> bool {
        self.template.is_some() && pod.template == self.template
    }

    fn has_image_of(&self, pod: &ObservedPod) -> bool {
        self.image.as_deref().is_some_and(|image| build::is_same_image(image, &pod.image))
    }
}

/// A generation, seen against what it should be.
pub(super) struct GenerationView<'a> {
    pub(super) number: i32,
    /// One set; for generation 0 one set for each carrier.
    sets: Vec<DaemonSetDiff<'a>>,
    /// Pods sorted by name, so that samples are stable.
    pub(super) pods: Vec<&'a ObservedPod>,
    /// True if the predecessor is proven, so that the generation may be applied.
    pub(super) reachable: bool,
    /// Selected nodes that the chain waits for.
    pub(super) nodes: Vec<&'a ObservedNode>,
    node_index: Rc<NodeIndex<'a>>,
    pod_index: PodIndex<'a>,
    /// Cached, as the answer takes a walk through all nodes.
    rolled_out: OnceCell<bool>,
    /// Cached, as the answer takes a walk through all pods.
    served: OnceCell<Vec<(&'a ObservedPod, &'a Digest)>>,
    selected: usize,
    /// Number of nodes that may lack the generation.
    tolerated: usize,
    learning: bool,
    fetches_pods: bool,
    observed: &'a ObservedState,
}

// === impl GenerationView ===

impl<'a> GenerationView<'a> {
    pub(super) fn new(
        chain: &ChainView<'a>,
        number: i32,
        sets: Vec<DaemonSetDiff<'a>>,
        reachable: bool,
        learning: bool,
    ) -> Self {
        let observed = chain.observed;
        let mut pods: Vec<&ObservedPod> = observed.pods_of(number).collect();
        pods.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Self {
            number,
            sets,
            pod_index: PodIndex::new(pods.iter().copied()),
            pods,
            reachable,
            nodes: chain.ready.clone(),
            node_index: chain.nodes.clone(),
            rolled_out: OnceCell::new(),
            served: OnceCell::new(),
            selected: chain.selected.len(),
            tolerated: chain.tolerated(),
            learning,
            fetches_pods: chain.quinistry.spec.network.mode == NetworkMode::HostPort,
            observed,
        }
    }

    /// Returns true if every live set equals the wanted one.
    pub(super) fn is_current(&self) -> bool {
        !self.sets.is_empty() && self.sets.iter().all(DaemonSetDiff::is_current)
    }

    /// Returns true if one of the sets exists.
    pub(super) fn exists(&self) -> bool {
        self.live_sets().next().is_some()
    }

    fn live_sets(&self) -> impl Iterator<Item = &'a ObservedDaemonSet> {
        self.sets.iter().filter_map(|set| set.live)
    }

    /// Returns the creation time of the youngest set.
    pub(super) fn created(&self) -> Option<Timestamp> {
        self.live_sets().map(|live| live.created).max()
    }

    /// Returns the sets to apply. Existing sets are changed one after the other, since each has a limit of
    /// its own.
    pub(super) fn to_apply(&self) -> Vec<&apps::DaemonSet> {
        let mut changing = false;
        let due = self.sets.iter().filter(|set| set.live.is_none_or(|live| !live.deleting)).filter(|set| {
            if set.is_current() {
                changing |= !self.is_settled(set);
                return false;
            }
            set.live.is_none() || !std::mem::replace(&mut changing, true)
        });
        // A limit is lowered even if the generation below is not proven: until then too many pods may be
        // taken away at once.
        due.filter(|set| self.reachable || set.lowers).filter_map(|set| set.wanted.as_ref()).collect()
    }

    /// Returns true if all pods of the set on nodes that the chain waits for are Ready and current.
    fn is_settled(&self, set: &DaemonSetDiff<'_>) -> bool {
        let mut pods = self.pods.iter().filter(|pod| set.has_image_of(pod));
        pods.all(|pod| {
            !self.node_index.is_on_counted_node(pod) || pod.ready.is_some() && set.is_of_current_template(pod)
        })
    }

    pub(super) fn is_of_current_template(&self, pod: &ObservedPod) -> bool {
        self.sets.iter().any(|set| set.is_of_current_template(pod))
    }

    /// Returns the wanted image for a pod of the current template that has another image.
    pub(super) fn rewritten(&self, pod: &ObservedPod) -> Option<&str> {
        let mut sets = self.sets.iter().filter(|set| set.has_template_of(pod));
        let wanted = sets.next().filter(|set| !set.has_image_of(pod))?;
        wanted.image.as_deref().filter(|_| sets.all(|set| !set.has_image_of(pod)))
    }

    /// Returns true if a node has no Ready pod of the current template.
    pub(super) fn lacks(&self, node: &ObservedNode) -> bool {
        self.pod_on(node).is_none_or(|pod| pod.ready.is_none())
    }

    /// Returns the nodes that lack the generation, of those that the chain waits for.
    pub(super) fn nodes_lacking(&self) -> impl Iterator<Item = &'a ObservedNode> {
        self.nodes.iter().copied().filter(|node| self.lacks(node))
    }

    /// Returns true if a pod on the node serves, or served, other content than it should.
    fn deviates_on(&self, node: &ObservedNode) -> bool {
        self.on(&node.name).iter().filter(|pod| self.is_of_current_template(pod)).any(|pod| {
            let ended =
                pod.ended.as_ref().is_some_and(|(code, _)| *code == diagnose::DIGEST_DEVIATES_EXIT_CODE);
            ended || matches!(self.fetched(pod), Some(FetchResult::Corrupt(_)))
        })
    }

    /// Returns the pod on a node that counts: of the current template, and not being deleted.
    pub(super) fn pod_on(&self, node: &ObservedNode) -> Option<&'a ObservedPod> {
        self.on(&node.name).iter().copied().find(|pod| !pod.deleting && self.is_of_current_template(pod))
    }

    /// Returns all pods on a node, in any state.
    pub(super) fn on(&self, node: &str) -> &[&'a ObservedPod] {
        self.pod_index.on(node)
    }

    /// Returns all pods on the node of another pod.
    pub(super) fn beside(&self, pod: &ObservedPod) -> &[&'a ObservedPod] {
        self.pod_index.beside(pod)
    }

    /// Returns true if a pod of the current template is Ready on every selected node that is ready, except on
    /// the tolerated number of nodes.
    pub(super) fn is_rolled_out(&self) -> bool {
        *self.rolled_out.get_or_init(|| {
            self.is_current() && self.live_sets().all(|live| live.is_observed) && self.is_everywhere()
        })
    }

    fn is_everywhere(&self) -> bool {
        let mut lacking = 0;
        for node in self.nodes_lacking() {
            lacking += 1;
            if lacking > self.tolerated || self.deviates_on(node) {
                return false;
            }
        }
        lacking < self.nodes.len()
    }

    /// Returns the Ready pods of the current template that the operator verifies.
    pub(super) fn sample(&self) -> Vec<&'a ObservedPod> {
        let size = if self.learning { LEARNING_SAMPLE_PODS } else { SAMPLE_PODS };
        let ready = |pod: &&ObservedPod| {
            pod.ready.is_some() && pod.running.is_some() && !pod.deleting && self.is_of_current_template(pod)
        };
        self.pods.iter().copied().filter(ready).take(size).collect()
    }

    /// Returns the pods that have run for a while and are not Ready: they serve other content, or their
    /// node's localhost does not lead to them. Fetching from them tells which.
    pub(super) fn suspects(&self, now: Timestamp) -> Vec<&'a ObservedPod> {
        let suspicious = |pod: &&ObservedPod| {
            pod.ready.is_none()
                && !pod.deleting
                && self.is_of_current_template(pod)
                && self.had_time_to_report(pod, now)
        };
        self.pods.iter().copied().filter(suspicious).take(SAMPLE_PODS).collect()
    }

    /// Returns true if the pod has run for a while, and its kubelet had as long to report on it: on a node
    /// that comes back, all pods count as not Ready until then. Measured by the operator's own clock, since a
    /// node's may be wrong.
    pub(super) fn had_time_to_report(&self, pod: &ObservedPod, now: Timestamp) -> bool {
        let node = self.node_index.of(pod).map(|node| node.seen);
        let since = pod.running.map(|_| node.map_or(pod.seen, |node| node.max(pod.seen)));
        since.is_some_and(|since| now.as_second() - since.as_second() >= SUSPECT_AFTER_SECONDS)
    }

    pub(super) fn fetched(&self, pod: &ObservedPod) -> Option<&'a FetchResult> {
        self.observed.fetched.get(&pod.start)
    }

    /// Returns the digests that current pods were found to serve.
    pub(super) fn served(&self) -> &[(&'a ObservedPod, &'a Digest)] {
        self.served.get_or_init(|| {
            let whole = |pod: &'a ObservedPod| match self.fetched(pod) {
                Some(FetchResult::Whole(digest)) => Some((pod, digest)),
                _ => None,
            };
            let current = |pod: &ObservedPod| !pod.deleting && self.is_of_current_template(pod);
            self.pods.iter().copied().filter_map(whole).filter(|(pod, _)| current(pod)).collect()
        })
    }

    /// Returns the digest that a bootstrap image serves; `None` while pods do not agree.
    pub(super) fn learned(&self) -> Option<Digest> {
        let served = self.served();
        let (_, first) = served.first()?;
        served.iter().all(|(_, digest)| digest == first).then(|| (*first).clone())
    }

    /// Returns true if a pod was found to serve its image, by the ID that kubelets give it: what it serves is then known
    /// of each pod with this image.
    pub(super) fn is_known_by_image(&self, pod: &ObservedPod) -> bool {
        !pod.image_id.is_empty() && self.served().iter().any(|(known, _)| known.image_id == pod.image_id)
    }

    /// Returns true if the sample was verified and nothing wrong was found. A pod that cannot be reached, for
    /// example because a network policy forbids it, is vouched for by its kubelet and by itself. Where the digest is
    /// learned, both know none, so that its image must be one that another pod was found to serve.
    fn is_verified(&self, digest: &Digest) -> bool {
        self.sample().into_iter().all(|pod| match self.fetched(pod) {
            None => !self.fetches_pods,
            Some(FetchResult::Whole(served)) => served == digest,
            Some(FetchResult::Corrupt(_)) => false,
            Some(FetchResult::Failed(_)) => !self.learning || self.is_known_by_image(pod),
        })
    }

    /// Returns the nodes of sampled pods without a result.
    pub(super) fn nodes_awaiting_fetch(&self) -> impl Iterator<Item = &'a str> {
        let sample = if self.fetches_pods { self.sample() } else { Vec::new() };
        sample.into_iter().filter(|pod| self.fetched(pod).is_none()).filter_map(|pod| pod.node.as_deref())
    }

    pub(super) fn is_proven(&self, digest: Option<&Digest>) -> bool {
        digest.is_some_and(|digest| self.is_rolled_out() && self.is_verified(digest))
    }

    /// Returns true if pods are missing that the controller should have created.
    pub(super) fn is_missing_pods(&self, now: Timestamp) -> bool {
        let due = |live: &ObservedDaemonSet| {
            !live.deleting && now.as_second() - live.created.as_second() >= CONTROLLER_GRACE_SECONDS
        };
        self.exists()
            && self.live_sets().all(due)
            && self.nodes.iter().any(|node| self.on(&node.name).is_empty())
    }

    fn verified(&self, digest: Option<&Digest>) -> usize {
        let ready = |pod: &ObservedPod| pod.ready.is_some();
        self.served().iter().filter(|(pod, served)| ready(pod) && Some(*served) == digest).count()
    }

    /// Returns the generation's status. `stands`: the generation is proven on all nodes except those that
    /// have just joined.
    pub(super) fn status(&self, chain: &ChainView<'_>, stands: bool) -> GenerationStatus {
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
