//! Status: resources, and what of their generations is on which node, as far as it can be read in two lists. (Client
//! required, but for the picture itself.) Drawn by [`tree`](super::tree).

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use serde::Serialize;
use serde_json::Value;

use super::api::{Cluster, POD, QUINISTRY};
use super::error::UpError;
use super::wire;
use crate::crd::labels::{GENERATION, RESOURCE};
use crate::crd::{Quinistry, QuinistryStatus};

/// Up to so many nodes are told one by one; beyond, pods are not even listed.
pub const NODES: usize = 20;

/// One resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Picture {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How many generations are wanted, the seed not counted.
    pub generations: i32,
    /// What the operator says of it.
    pub status: QuinistryStatus,
    /// That is of what is wanted now, all of it is proven, and pods say nothing else.
    pub ready: bool,
    /// The operator says that all is proven, and so many pods are not there or not ready: it has not looked for a while.
    pub behind: usize,
    /// What is on each node; empty for too many nodes.
    pub nodes: BTreeMap<String, BTreeMap<i32, Presence>>,
}

/// How far a generation is on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Presence {
    /// It cannot start, or ends again and again.
    Failing,
    /// On its way.
    Starting,
    /// It serves what it must, says the kubelet.
    Ready,
}

// === impl Picture ===

impl Picture {
    /// Of a resource, without nodes.
    #[must_use]
    pub fn of(quinistry: &Quinistry) -> Self {
        Self {
            namespace: quinistry.namespace().unwrap_or_default(),
            name: quinistry.name_any(),
            generations: quinistry.spec.generations,
            status: quinistry.status.clone().unwrap_or_default(),
            ready: is_ready(quinistry),
            behind: 0,
            nodes: BTreeMap::new(),
        }
    }

    /// Of a generation 0 that no operator sees to yet.
    #[must_use]
    pub fn of_zero(quinistry: &Quinistry, zero: &crate::operator::zero::Zero) -> Self {
        let status = QuinistryStatus {
            ready: format!("0/{}", quinistry.spec.generations),
            digest: quinistry.spec.digest.clone(),
            generations: zero.status.iter().cloned().collect(),
            deviations: zero.problems.clone(),
            ..QuinistryStatus::default()
        };
        Self { status, ready: false, ..Self::of(quinistry) }
    }

    /// With what pods say.
    fn with(mut self, uid: &str, pods: &[wire::Pod]) -> Self {
        for pod in pods.iter().filter(|pod| pod.metadata.labels.get(RESOURCE).is_some_and(|of| of == uid)) {
            let generation = pod.metadata.labels.get(GENERATION).and_then(|number| number.parse().ok());
            let Some(generation) = generation.filter(|_| !pod.spec.node_name.is_empty()) else { continue };
            let node = self.nodes.entry(pod.spec.node_name.clone()).or_default();
            let presence = presence(pod);
            // One that goes away stands beside the next one for a while.
            node.entry(generation).and_modify(|known| *known = presence.max(*known)).or_insert(presence);
        }
        if self.ready {
            let serving = |number| {
                self.nodes.values().filter(|node| node.get(&number) == Some(&Presence::Ready)).count()
            };
            let generations = self.status.generations.iter();
            let missing = generations.map(|one| {
                usize::try_from(one.available).unwrap_or_default().saturating_sub(serving(one.generation))
            });
            self.behind = missing.sum();
            self.ready = self.behind == 0;
        }
        if self.nodes.len() > NODES {
            self.nodes.clear();
        }
        self
    }
}

/// All resources of a namespace, or of all.
pub async fn look(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Picture>, UpError> {
    let namespace = namespace.unwrap_or_default();
    let resources: Vec<Value> = cluster.list(QUINISTRY, namespace, "").await?;
    let resources: Vec<Quinistry> = resources.into_iter().filter_map(read).collect();
    let few = resources.iter().all(|one| desired(one) <= NODES);
    let pods: Option<Vec<wire::Pod>> =
        if few && !resources.is_empty() { Some(cluster.list(POD, namespace, RESOURCE).await?) } else { None };
    let picture = |one: &Quinistry| match &pods {
        Some(pods) => Picture::of(one).with(one.metadata.uid.as_deref().unwrap_or_default(), pods),
        None => Picture::of(one),
    };
    Ok(resources.iter().map(picture).collect())
}

/// The pods' part, of one resource.
pub(super) async fn with_nodes(
    cluster: &Cluster,
    quinistry: &Quinistry,
    picture: Picture,
) -> Result<Picture, UpError> {
    let most = picture.status.generations.iter().map(|one| one.desired).max().unwrap_or_default();
    if usize::try_from(most).unwrap_or_default() > NODES {
        return Ok(picture);
    }
    let uid = quinistry.metadata.uid.as_deref().unwrap_or_default();
    let label = format!("{RESOURCE}={uid}");
    let pods: Vec<wire::Pod> = cluster.list(POD, &picture.namespace, &label).await?;
    Ok(picture.with(uid, &pods))
}

/// A resource; one that is from another version may have a status that is not understood.
pub(super) fn read(mut object: Value) -> Option<Quinistry> {
    if let Ok(quinistry) = serde_json::from_value(object.clone()) {
        return Some(quinistry);
    }
    object.as_object_mut()?.remove("status");
    serde_json::from_value(object).ok()
}

/// Whether all of what is wanted now is proven.
pub(super) fn is_ready(quinistry: &Quinistry) -> bool {
    let Some(status) = &quinistry.status else { return false };
    let current = status.observed_generation >= quinistry.metadata.generation.unwrap_or_default();
    let digest = quinistry.spec.digest.is_none() || quinistry.spec.digest == status.digest;
    let ready = status.conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
    current && digest && ready
}

fn desired(quinistry: &Quinistry) -> usize {
    let generations = quinistry.status.iter().flat_map(|status| &status.generations);
    generations.map(|one| usize::try_from(one.desired).unwrap_or_default()).max().unwrap_or_default()
}

fn presence(pod: &wire::Pod) -> Presence {
    if pod.metadata.deletion_timestamp.is_some() {
        return Presence::Starting;
    }
    if pod.is_ready() {
        return Presence::Ready;
    }
    let fails = |status: &wire::ContainerStatus| {
        let reason = status.state.waiting.as_ref().map_or("", |waiting| waiting.reason.as_str());
        status.restart_count > 2
            || (!reason.is_empty() && !matches!(reason, "ContainerCreating" | "PodInitializing"))
    };
    if pod.has_ended() || pod.status.container_statuses.iter().any(fails) {
        Presence::Failing
    } else {
        Presence::Starting
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(node: &str, generation: &str, status: &Value) -> wire::Pod {
        serde_json::from_value(json!({
            "metadata": {"labels": {RESOURCE: "1", GENERATION: generation}},
            "spec": {"nodeName": node}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn pods_say_what_is_on_each_node() {
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let waiting = |reason| json!({"containerStatuses": [{"state": {"waiting": {"reason": reason}}}]});
        let pods = [
            pod("n1", "1", &waiting("ErrImagePull")),
            pod("n1", "1", &ready),
            pod("n1", "2", &waiting("ContainerCreating")),
            pod("n2", "1", &waiting("ImagePullBackOff")),
            pod("", "1", &json!({})),
        ];
        let nodes = Picture::default().with("1", &pods).nodes;
        assert_eq!(nodes["n1"], BTreeMap::from([(1, Presence::Ready), (2, Presence::Starting)]));
        assert_eq!(nodes["n2"], BTreeMap::from([(1, Presence::Failing)]));
        assert_eq!(nodes.len(), 2);
        assert!(Picture::default().with("2", &pods).nodes.is_empty());
    }

    #[test]
    fn what_is_said_to_be_ready_and_is_not_there_is_not_ready() {
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let starting =
            json!({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]});
        let generation = |number: i32| {
            json!({"generation": number, "daemonSet": "d", "port": 5000, "image": "i", "state": "Ready", "desired": 2,
                "updated": 2, "available": 2, "verified": 2})
        };
        let status = json!({"ready": "2/2", "generations": [generation(1), generation(2)]});
        let said =
            Picture { ready: true, status: serde_json::from_value(status).unwrap(), ..Picture::default() };
        let all =
            [pod("n1", "1", &ready), pod("n1", "2", &ready), pod("n2", "1", &ready), pod("n2", "2", &ready)];
        let seen = |pods: &[wire::Pod]| {
            let picture = said.clone().with("1", pods);
            (picture.ready, picture.behind)
        };
        assert_eq!(seen(&all), (true, 0));
        assert_eq!(seen(&all[..3]), (false, 1));
        assert_eq!(seen(&[]), (false, 4));
        assert_eq!(seen(&[&all[..3], &[pod("n2", "2", &starting)]].concat()), (false, 1));
    }

    #[test]
    fn ready_is_said_of_what_is_wanted_now() {
        let quinistry = |observed, digest| {
            let object = json!({
                "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry",
                "metadata": {"name": "larder", "generation": 2}, "spec": {"image": "a:1", "digest": "sha256:1"},
                "status": {"observedGeneration": observed, "digest": digest, "conditions": [{
                    "type": "Ready", "status": "True", "reason": "AllProven", "message": "",
                    "lastTransitionTime": "2025-01-01T00:00:00Z",
                }]},
            });
            is_ready(&read(object).unwrap())
        };
        assert!(quinistry(2, "sha256:1"));
        assert!(!quinistry(1, "sha256:1"));
        assert!(!quinistry(2, "sha256:2"));
    }
}
