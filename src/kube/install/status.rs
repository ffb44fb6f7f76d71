//! Status of resources, and of their generations on each node, read by two lists; by a third one if there are stores. (Client required, except
//! for [`StatusSnapshot`].) [`tree`](super::tree) draws it.

mod bundles;
mod renewals;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::api::{Cluster, POD, QUINISTRY};
use super::error::InstallError;
use super::operators::{self, OperatorDeployment, StatusWriter, WriterState};
use crate::api::conditions::READY;
use crate::api::names::CLAIM;
use crate::api::names::labels::{GENERATION, RESOURCE};
use crate::api::types::{self, Metadata as _};
use crate::crd::{OPERATOR_GONE, Quinistry, QuinistryStatus};
use crate::operator::generation_zero::{GenerationZero, ResourceProblem};

pub use bundles::BundleSummary;
pub use renewals::Renewals;

/// Number of nodes up to which each node is shown. With more nodes, pods are not listed at all.
pub const MAX_SHOWN_NODES: usize = 20;

/// Status of one resource at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusSnapshot {
    /// Namespace of the resource.
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
    /// Number of requested generations, without generation 0.
    pub generations: i32,
    /// Status that the operator has written.
    pub status: QuinistryStatus,
    /// True if the status is of the current specification, every generation is proven, and the pods do not
    /// contradict it.
    pub ready: bool,
    /// Number of pods that are missing or not ready although the status reports them as proven: the operator
    /// is behind.
    pub behind: usize,
    /// State of the operator that writes this status.
    pub operator: StatusWriter,
    /// Time at which the operator last wrote this status, if that is recorded.
    pub written: Option<String>,
    /// Fault of a resource that no operator has reconciled yet.
    #[serde(skip)]
    pub trouble: Option<ResourceProblem>,
    /// State of each generation on each node; empty with more than [`MAX_SHOWN_NODES`] nodes.
    pub nodes: BTreeMap<String, BTreeMap<i32, Presence>>,
    /// Bundles that the resource serves, by name.
    pub bundles: Vec<BundleSummary>,
}

/// State of a generation on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Presence {
    /// The pod cannot start, or ends repeatedly.
    Failing,
    /// The pod is starting or being replaced.
    Starting,
    /// The kubelet reports the pod as ready: it serves the expected digest.
    Ready,
}

// === impl StatusSnapshot ===

impl StatusSnapshot {
    /// Creates the snapshot of a resource, without nodes.
    #[must_use]
    pub fn of(quinistry: &Quinistry) -> Self {
        Self {
            namespace: quinistry.metadata.namespace().into(),
            name: quinistry.metadata.name().into(),
            generations: quinistry.spec.generations,
            status: quinistry.status.clone().unwrap_or_default(),
            ready: is_ready(quinistry),
            behind: 0,
            operator: StatusWriter::default(),
            written: written(quinistry),
            trouble: None,
            nodes: BTreeMap::new(),
            bundles: Vec::new(),
        }
    }

    /// Sets the state of the operator. A status of an operator that is gone does not count as ready.
    fn written_by(mut self, writer: StatusWriter) -> Self {
        if writer.state == WriterState::Gone {
            self.ready = false;
            for condition in self.status.conditions.iter_mut().filter(|one| one.type_ == READY) {
                condition.status = "Unknown".into();
                condition.reason = OPERATOR_GONE.into();
                condition.message = format!("the operator is gone: {}", writer.message);
            }
        }
        self.operator = writer;
        self
    }

    /// Creates the snapshot of a generation 0 that no operator reconciles yet.
    #[must_use]
    pub fn of_zero(quinistry: &Quinistry, zero: &GenerationZero) -> Self {
        let status = QuinistryStatus {
            ready: format!("0/{}", quinistry.spec.generations),
            digest: quinistry.spec.digest.clone(),
            generations: zero.status.iter().cloned().collect(),
            deviations: zero.problems.clone(),
            ..QuinistryStatus::default()
        };
        Self { status, ready: false, trouble: zero.problem.clone(), ..Self::of(quinistry) }
    }

    /// Adds the state of the pods.
    fn with(mut self, uid: Option<&str>, pods: &[types::Pod]) -> Self {
        for pod in pods.iter().filter(|pod| uid.is_some() && pod.metadata.label(RESOURCE) == uid) {
            let generation = pod.metadata.label(GENERATION).and_then(|number| number.parse().ok());
            let (Some(generation), Some(node)) = (generation, &pod.spec.node_name) else { continue };
            let node = self.nodes.entry(node.clone()).or_default();
            let presence = presence(pod);
            // A pod that is being deleted can exist beside its successor.
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
        if self.nodes.len() > MAX_SHOWN_NODES {
            self.nodes.clear();
        }
        self
    }
}

/// Reads all resources of a namespace, or of all namespaces, with the life signs of their operators. A Lease
/// that looks expired is watched for a few seconds, unless `renewals` knows it from an earlier call.
pub async fn read_snapshots(
    cluster: &Cluster,
    namespace: Option<&str>,
    renewals: &mut Renewals,
) -> Result<Vec<StatusSnapshot>, InstallError> {
    let namespace = namespace.unwrap_or_default();
    let resources: Vec<Value> = cluster.list(QUINISTRY, namespace, "").await?;
    let resources: Vec<Quinistry> = resources.into_iter().filter_map(read).collect();
    let few = resources.iter().all(|one| desired(one) <= MAX_SHOWN_NODES);
    let pods: Option<Vec<types::Pod>> =
        if few && !resources.is_empty() { Some(cluster.list(POD, namespace, RESOURCE).await?) } else { None };
    let snapshot = |one: &Quinistry| match &pods {
        Some(pods) => StatusSnapshot::of(one).with(one.metadata.uid.as_deref(), pods),
        None => StatusSnapshot::of(one),
    };
    let mut snapshots: Vec<StatusSnapshot> = resources.iter().map(snapshot).collect();
    if snapshots.is_empty() {
        return Ok(snapshots);
    }
    bundles::add(cluster, namespace, &resources, &mut snapshots).await?;
    let operators = operators(cluster, renewals).await?;
    for snapshot in &mut snapshots {
        let claim = operators::claim(cluster, &snapshot.namespace).await?;
        let claim = match &claim {
            None => None,
            Some(claim) => {
                let name = (snapshot.namespace.clone(), CLAIM.to_owned());
                Some((claim, renewals.is_alive(cluster, &name, claim).await?))
            }
        };
        let writer = operators::judge(claim, operators.as_deref(), &snapshot.namespace);
        *snapshot = std::mem::take(snapshot).written_by(writer);
    }
    Ok(snapshots)
}

/// Lists all operators; for each one with an election, true if its Lease is renewed.
async fn operators(
    cluster: &Cluster,
    renewals: &mut Renewals,
) -> Result<Option<Vec<(OperatorDeployment, Option<bool>)>>, InstallError> {
    let Some(found) = operators::list(cluster).await? else { return Ok(None) };
    let mut all = Vec::new();
    for operator in found {
        let lease = match &operator.lease {
            None => None,
            Some(name) => operators::lease(cluster, &operator.namespace, name).await?,
        };
        let is_alive = match (&operator.lease, &lease) {
            (Some(name), Some(lease)) => {
                let name = (operator.namespace.clone(), name.clone());
                Some(renewals.is_alive(cluster, &name, lease).await?)
            }
            _ => None,
        };
        all.push((operator, is_alive));
    }
    Ok(Some(all))
}

/// Returns the time at which the operator last wrote the status, by the API server's record of field
/// managers.
fn written(quinistry: &Quinistry) -> Option<String> {
    let fields = quinistry.metadata.managed_fields.as_ref()?;
    let written = fields.iter().filter(|one| one.subresource.as_deref() == Some("status"));
    written.filter_map(|one| one.time.as_ref()).map(|time| time.0.to_string()).max()
}

/// Adds the state of the pods of one resource.
pub(super) async fn with_nodes(
    cluster: &Cluster,
    quinistry: &Quinistry,
    snapshot: StatusSnapshot,
) -> Result<StatusSnapshot, InstallError> {
    let most = snapshot.status.generations.iter().map(|one| one.desired).max().unwrap_or_default();
    if usize::try_from(most).unwrap_or_default() > MAX_SHOWN_NODES {
        return Ok(snapshot);
    }
    let Some(uid) = quinistry.metadata.uid.as_deref() else { return Ok(snapshot) };
    let label = format!("{RESOURCE}={uid}");
    let pods: Vec<types::Pod> = cluster.list(POD, &snapshot.namespace, &label).await?;
    Ok(snapshot.with(Some(uid), &pods))
}

/// Decodes a resource; without its status, if that is of another version.
pub(super) fn read(mut object: Value) -> Option<Quinistry> {
    if let Ok(quinistry) = serde_json::from_value(object.clone()) {
        return Some(quinistry);
    }
    object.as_object_mut()?.remove("status");
    serde_json::from_value(object).ok()
}

/// Returns true if the status reports every generation of the current specification as proven.
pub(super) fn is_ready(quinistry: &Quinistry) -> bool {
    let Some(status) = &quinistry.status else { return false };
    let current = status.observed_generation >= quinistry.metadata.generation.unwrap_or_default();
    let digest = quinistry.spec.digest.is_none() || quinistry.spec.digest == status.digest;
    let ready = status.conditions.iter().any(|one| one.type_ == READY && one.status == "True");
    current && digest && ready
}

fn desired(quinistry: &Quinistry) -> usize {
    let generations = quinistry.status.iter().flat_map(|status| &status.generations);
    generations.map(|one| usize::try_from(one.desired).unwrap_or_default()).max().unwrap_or_default()
}

fn presence(pod: &types::Pod) -> Presence {
    if pod.metadata.is_terminating() {
        return Presence::Starting;
    }
    if pod.is_ready() {
        return Presence::Ready;
    }
    let fails = |status: &types::ContainerStatus| {
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

    fn pod(node: &str, generation: &str, status: &Value) -> types::Pod {
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
        let mut unscheduled = pod("", "1", &json!({}));
        unscheduled.spec.node_name = None;
        let pods = [
            pod("n1", "1", &waiting("ErrImagePull")),
            pod("n1", "1", &ready),
            pod("n1", "2", &waiting("ContainerCreating")),
            pod("n2", "1", &waiting("ImagePullBackOff")),
            unscheduled,
        ];
        let nodes = StatusSnapshot::default().with(Some("1"), &pods).nodes;
        assert_eq!(nodes["n1"], BTreeMap::from([(1, Presence::Ready), (2, Presence::Starting)]));
        assert_eq!(nodes["n2"], BTreeMap::from([(1, Presence::Failing)]));
        assert_eq!(nodes.len(), 2);
        assert!(StatusSnapshot::default().with(Some("2"), &pods).nodes.is_empty());
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
        let said = StatusSnapshot {
            ready: true,
            status: serde_json::from_value(status).unwrap(),
            ..StatusSnapshot::default()
        };
        let all =
            [pod("n1", "1", &ready), pod("n1", "2", &ready), pod("n2", "1", &ready), pod("n2", "2", &ready)];
        let seen = |pods: &[types::Pod]| {
            let snapshot = said.clone().with(Some("1"), pods);
            (snapshot.ready, snapshot.behind)
        };
        assert_eq!(seen(&all), (true, 0));
        assert_eq!(seen(&all[..3]), (false, 1));
        assert_eq!(seen(&[]), (false, 4));
        assert_eq!(seen(&[&all[..3], &[pod("n2", "2", &starting)]].concat()), (false, 1));
    }

    #[test]
    fn nothing_is_ready_by_the_word_of_an_operator_that_is_gone() {
        let object = json!({
            "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry", "spec": {"image": "a:1"},
            "metadata": {"name": "larder", "generation": 1, "managedFields": [
                {"manager": "quinistry-operator", "subresource": "status", "time": "2026-01-01T00:00:00Z"},
                {"manager": "kubectl", "time": "2026-02-01T00:00:00Z"},
            ]},
            "status": {"observedGeneration": 1, "conditions": [{
                "type": "Ready", "status": "True", "reason": "AllProven", "message": "",
                "lastTransitionTime": "2025-01-01T00:00:00Z",
            }]},
        });
        let snapshot = StatusSnapshot::of(&read(object).unwrap());
        assert!(snapshot.ready);
        assert_eq!(snapshot.written.as_deref(), Some("2026-01-01T00:00:00Z"));
        let writer = |state| StatusWriter { state, message: "its Deployment is deleted".into() };
        assert!(snapshot.clone().written_by(writer(WriterState::Unknown)).ready);
        let gone = snapshot.written_by(writer(WriterState::Gone));
        assert!(!gone.ready);
        let ready = &gone.status.conditions[0];
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("Unknown", OPERATOR_GONE));
        assert!(ready.message.contains("its Deployment is deleted"));
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
