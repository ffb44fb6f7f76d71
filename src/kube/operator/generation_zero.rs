//! Generation 0 without an operator: one pass of the operator's work on it, for `up`, which must raise
//! generation 0 first. It uses the same plan, the same bytes and the same field manager, so that the operator
//! finds what it would have created itself.
//!
//! Takes a client. Changes nothing but generation 0 and the carrier labels of nodes. Called by `up`.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::core::{NamespaceResourceScope, ObjectList, PartialObjectMeta};
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use super::apply::apply;
use super::build;
use super::error::{Category, OperatorError};
use super::observe;
use super::observed::{ObservedNode, ObservedPart, ObservedState, QueryStage};
use super::plan::{self, Action, PlanNeed, ReconcilePlan};
use super::resource::ValidResource;
use crate::api::names::MAIN_CARRIER;
use crate::api::names::labels::{NAME, RESOURCE, SEED};
use crate::api::types;
use crate::crd::{Deviation, GenerationState, GenerationStatus, Quinistry, Reason};
use crate::lenient::Guarded;
use crate::seed::SeedNames;

/// UID of a resource that does not exist yet. It appears in no output.
const PLACEHOLDER_UID: &str = "unknown";

/// Progress of generation 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationZero {
    /// Status over all nodes, as in a resource's status; `None` while generation 0 cannot be raised.
    pub status: Option<GenerationStatus>,
    /// True if a pod of the current template is Ready on each selected node that is ready, and there is at
    /// least one.
    pub rolled_out: bool,
    /// Problems of single nodes.
    pub problems: Vec<Deviation>,
    /// Problem of the resource, if no single node has one.
    pub problem: Option<ResourceProblem>,
}

/// Problem of a resource as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceProblem {
    /// Reason in CamelCase.
    pub reason: Reason,
    /// Message for users.
    pub message: String,
}

/// Makes one pass: reads nodes, pods, `DaemonSets` and the `ConfigMaps`' metadata, and carries out the next
/// actions. To be repeated about every second until generation 0 is rolled out.
pub async fn raise(client: &Client, quinistry: &Quinistry) -> Result<GenerationZero, OperatorError> {
    let quinistry = match ValidResource::parse(quinistry) {
        Ok(quinistry) => quinistry,
        Err(unfit) => return Ok(GenerationZero::of(unfit.plan())),
    };
    let quinistry = &quinistry;
    let mut observed = observe(client, quinistry).await?;
    let plan = loop {
        observed.queried = match plan::plan(quinistry, &observed, Timestamp::now()) {
            PlanNeed::Carriers(nodes) => {
                observed.running.extend(observe::carriers(client, nodes).await?);
                QueryStage::Carriers
            }
            PlanNeed::Events(missing) => {
                observed.refusals = observe::refusals(client, quinistry, &missing, &observed).await?;
                QueryStage::Events
            }
            // The operator verifies the content: not every machine can reach the pods.
            PlanNeed::Fetch(plan) | PlanNeed::Ready(plan) => break plan,
        };
    };
    let failed: BTreeSet<&str> =
        observed.pods_of(0).filter(|pod| pod.ready.is_none()).map(|pod| pod.start.uid.as_str()).collect();
    for action in &plan.actions {
        let is_own = match action {
            Action::Apply(set) => build::generation(set) == Some(0),
            Action::Replace { uid, .. } => failed.contains(uid.as_str()),
            Action::Label { .. } => true,
            _ => false,
        };
        if is_own {
            match apply(client, quinistry, None, &observed, action).await {
                // Another writer was first: the next pass reads the present state.
                Err(error) if error.category() == Category::Conflict => break,
                result => result.map(drop)?,
            }
        }
    }
    Ok(GenerationZero::of(*plan))
}

// === impl GenerationZero ===

impl GenerationZero {
    /// Extracts generation 0 from a plan.
    fn of(plan: ReconcilePlan) -> Self {
        let status = plan.generations.into_iter().find(|one| one.generation == 0);
        let rolled_out = status.as_ref().is_some_and(|status| {
            matches!(status.state, GenerationState::Verifying | GenerationState::Ready)
        });
        let problems: Vec<_> =
            plan.deviations.into_iter().filter(|deviation| deviation.generation == 0).collect();
        let degraded = plan.conditions.degraded;
        let problem = (problems.is_empty() && degraded.status == "True")
            .then_some(ResourceProblem { reason: degraded.reason, message: degraded.message });
        Self { status, rolled_out, problems, problem }
    }
}

/// Returns what [`raise`] would apply for a resource that does not exist yet, with an executable in this
/// number of parts: for review, without UIDs. Reads nodes if there is a client; otherwise a placeholder node
/// has the carriers that the resource names, or a common one.
pub async fn preview(
    client: Option<&Client>,
    quinistry: &Quinistry,
    part_count: usize,
) -> Result<Vec<apps::DaemonSet>, OperatorError> {
    let mut quinistry = quinistry.clone();
    quinistry.metadata.uid.get_or_insert_with(|| PLACEHOLDER_UID.into());
    // No generations are created for an invalid resource.
    let Ok(quinistry) = ValidResource::parse(&quinistry) else { return Ok(Vec::new()) };
    let quinistry = &quinistry;
    let Some(executable) = &quinistry.executable else { return Ok(Vec::new()) };
    let mut observed = ObservedState::default();
    if let Some(client) = client {
        observed.nodes = nodes(client).await?;
    }
    if observed.nodes.is_empty() {
        observed.nodes.push(Arc::new(placeholder_node(quinistry)));
    }
    // The plan assumes that all parts exist.
    observed.parts = assume_all_parts(quinistry, &SeedNames::new(quinistry.name(), executable), part_count);
    let plan = loop {
        observed.queried = match plan::plan(quinistry, &observed, Timestamp::now()) {
            PlanNeed::Carriers(nodes) => {
                if let Some(client) = client {
                    observed.running.extend(observe::carriers(client, nodes).await?);
                }
                QueryStage::Carriers
            }
            // No object exists that Events could be about.
            PlanNeed::Events(_) => QueryStage::Events,
            PlanNeed::Fetch(plan) | PlanNeed::Ready(plan) => break plan,
        };
    };
    let sets = plan.actions.into_iter().filter_map(|action| match action {
        Action::Apply(set) if build::generation(&set) == Some(0) => Some(build::without_hashes(*set)),
        _ => None,
    });
    Ok(sets.collect())
}

async fn observe(client: &Client, quinistry: &ValidResource) -> Result<ObservedState, OperatorError> {
    let namespace = quinistry.namespace();
    let is_own = format!("{RESOURCE}={}", quinistry.uid());
    let parts: Vec<PartialObjectMeta<ConfigMap>> =
        list(client, namespace, &format!("{SEED},{NAME}={}", quinistry.name())).await?;
    let (nodes, sets, pods) = tokio::try_join!(
        nodes(client),
        list::<types::DaemonSet>(client, namespace, &is_own),
        list::<types::Pod>(client, namespace, &is_own),
    )?;
    let daemon_sets = sets.into_iter().filter_map(observe::daemon_set).map(|(_, set)| Arc::new(set));
    Ok(ObservedState {
        nodes,
        daemon_sets: daemon_sets.filter(|set| set.is_of(&quinistry.identity)).collect(),
        pods: pods.into_iter().filter_map(observe::pod).map(|(_, pod)| Arc::new(pod)).collect(),
        parts: parts.into_iter().filter_map(observe::part).map(|(_, part)| Arc::new(part)).collect(),
        ..ObservedState::default()
    })
}

async fn nodes(client: &Client) -> Result<Vec<Arc<ObservedNode>>, OperatorError> {
    let list = Api::<Guarded<types::Node>>::all(client.clone()).list(&ListParams::default()).await;
    let nodes = list.map_err(|error| OperatorError::Observe(Box::new(error)))?;
    let nodes = nodes.items.into_iter().filter_map(Guarded::readable).filter_map(observe::node);
    Ok(nodes.map(|(_, node)| Arc::new(node)).collect())
}

async fn list<K>(client: &Client, namespace: &str, labels: &str) -> Result<Vec<K>, OperatorError>
where
    K: kube::Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let api: Api<Guarded<K>> = Api::namespaced(client.clone(), namespace);
    let list = api.list(&ListParams::default().labels(labels)).await;
    let readable = |list: ObjectList<_>| list.items.into_iter().filter_map(Guarded::readable).collect();
    list.map(readable).map_err(|error| OperatorError::Observe(Box::new(error)))
}

/// Returns a placeholder for a node that the resource selects.
fn placeholder_node(quinistry: &ValidResource) -> ObservedNode {
    ObservedNode {
        name: MAIN_CARRIER.into(),
        ready: true,
        since: Timestamp::UNIX_EPOCH,
        seen: Timestamp::UNIX_EPOCH,
        labels: build::node_selector(&quinistry.spec),
        taints: Vec::new(),
        tried: None,
        sandboxes: Vec::new(),
    }
}

fn assume_all_parts(
    quinistry: &ValidResource,
    names: &SeedNames,
    part_count: usize,
) -> Vec<Arc<ObservedPart>> {
    let part = |part| ObservedPart {
        name: names.of(part),
        namespace: quinistry.namespace().into(),
        uid: names.of(part),
        resource: quinistry.name().into(),
        seed: names.seed().into(),
        part_count,
        owners: Vec::new(),
        created: Timestamp::UNIX_EPOCH,
        deleting: false,
    };
    SeedNames::parts(part_count).map(|which| Arc::new(part(which))).collect()
}
