//! Generation 0 while there is no operator: one pass of what an operator does for it, for `up`, which must begin with
//! something. Same plan, same bytes, same field manager, so that the operator finds what it would have made itself.
//!
//! Takes a client. Touches nothing but generation 0 and the labels of nodes that belong to it. Called by `up`.

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
use super::observed::{Asked, Node, Observed, Part};
use super::plan::{self, Action, Plan, Step};
use super::resource::Resource;
use crate::api::names::MAIN_CARRIER;
use crate::api::names::labels::{NAME, RESOURCE, SEED};
use crate::api::types;
use crate::crd::{Deviation, GenerationState, GenerationStatus, Quinistry, Reason};
use crate::lenient::Guarded;
use crate::seed::SeedNames;

/// UID of a resource that does not exist yet. Nothing that is shown of it names this.
const NO_UID: &str = "unknown";

/// How far generation 0 is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Zero {
    /// Over all nodes, as in a resource's status; none while it cannot be raised at all.
    pub status: Option<GenerationStatus>,
    /// A pod of the current template is Ready on each selected node that is ready, and there is at least one.
    pub rolled_out: bool,
    /// What is wrong, node by node.
    pub problems: Vec<Deviation>,
    /// What is wrong with the resource, if there is nothing to say of single nodes.
    pub trouble: Option<Trouble>,
}

/// What is wrong with a resource as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What kind.
    pub reason: Reason,
    /// In words.
    pub message: String,
}

/// One pass: reads nodes, pods, `DaemonSets` and the `ConfigMaps`' metadata, and does what is next. To be repeated, about
/// every second, until it is rolled out.
pub async fn raise(client: &Client, quinistry: &Quinistry) -> Result<Zero, OperatorError> {
    let quinistry = match Resource::parse(quinistry) {
        Ok(quinistry) => quinistry,
        Err(unfit) => return Ok(Zero::of(unfit.plan())),
    };
    let quinistry = &quinistry;
    let mut observed = observe(client, quinistry).await?;
    let plan = loop {
        observed.asked = match plan::plan(quinistry, &observed, Timestamp::now()) {
            Step::Carriers(nodes) => {
                observed.running.extend(observe::carriers(client, nodes).await?);
                Asked::Carriers
            }
            Step::Events(missing) => {
                observed.refusals = observe::refusals(client, quinistry, &missing, &observed).await?;
                Asked::Events
            }
            // Bytes are the operator's to look at: pods cannot be reached from just anywhere.
            Step::Fetch(plan) | Step::Ready(plan) => break plan,
        };
    };
    let failed: BTreeSet<&str> =
        observed.pods_of(0).filter(|pod| pod.ready.is_none()).map(|pod| pod.start.uid.as_str()).collect();
    for action in &plan.actions {
        let mine = match action {
            Action::Apply(set) => build::generation(set) == Some(0),
            Action::Replace { uid, .. } => failed.contains(uid.as_str()),
            Action::Label { .. } => true,
            _ => false,
        };
        if mine {
            match apply(client, quinistry, None, &observed, action).await {
                // Another writer was quicker: the next pass sees what is there now.
                Err(error) if error.category() == Category::Conflict => break,
                result => result.map(drop)?,
            }
        }
    }
    Ok(Zero::of(*plan))
}

// === impl Zero ===

impl Zero {
    /// Takes from a plan what it says of generation 0.
    fn of(plan: Plan) -> Self {
        let status = plan.generations.into_iter().find(|one| one.generation == 0);
        let rolled_out = status.as_ref().is_some_and(|status| {
            matches!(status.state, GenerationState::Verifying | GenerationState::Ready)
        });
        let problems: Vec<_> =
            plan.deviations.into_iter().filter(|deviation| deviation.generation == 0).collect();
        let degraded = plan.words.degraded;
        let trouble = (problems.is_empty() && degraded.status == "True")
            .then_some(Trouble { reason: degraded.reason, message: degraded.message });
        Self { status, rolled_out, problems, trouble }
    }
}

/// What [`raise`] would apply for a resource that does not exist yet, of an executable in so many pieces: for review,
/// without UIDs. Reads nodes, if there is a client; else the carriers that the resource names, or a common one, stand in.
pub async fn preview(
    client: Option<&Client>,
    quinistry: &Quinistry,
    pieces: usize,
) -> Result<Vec<apps::DaemonSet>, OperatorError> {
    let mut quinistry = quinistry.clone();
    quinistry.metadata.uid.get_or_insert_with(|| NO_UID.into());
    // An invalid resource makes no generations.
    let Ok(quinistry) = Resource::parse(&quinistry) else { return Ok(Vec::new()) };
    let quinistry = &quinistry;
    let Some(executable) = &quinistry.executable else { return Ok(Vec::new()) };
    let mut observed = Observed::default();
    if let Some(client) = client {
        observed.nodes = nodes(client).await?;
    }
    if observed.nodes.is_empty() {
        observed.nodes.push(Arc::new(anywhere(quinistry)));
    }
    // It stands for all of them: as if they were there.
    observed.parts = whole(quinistry, &SeedNames::new(quinistry.name(), executable), pieces);
    let plan = loop {
        observed.asked = match plan::plan(quinistry, &observed, Timestamp::now()) {
            Step::Carriers(nodes) => {
                if let Some(client) = client {
                    observed.running.extend(observe::carriers(client, nodes).await?);
                }
                Asked::Carriers
            }
            // Nothing is there that Events could be about.
            Step::Events(_) => Asked::Events,
            Step::Fetch(plan) | Step::Ready(plan) => break plan,
        };
    };
    let sets = plan.actions.into_iter().filter_map(|action| match action {
        Action::Apply(set) if build::generation(&set) == Some(0) => Some(build::unsigned(*set)),
        _ => None,
    });
    Ok(sets.collect())
}

async fn observe(client: &Client, quinistry: &Resource) -> Result<Observed, OperatorError> {
    let namespace = quinistry.namespace();
    let mine = format!("{RESOURCE}={}", quinistry.uid());
    let parts: Vec<PartialObjectMeta<ConfigMap>> =
        list(client, namespace, &format!("{SEED},{NAME}={}", quinistry.name())).await?;
    let (nodes, sets, pods) = tokio::try_join!(
        nodes(client),
        list::<types::DaemonSet>(client, namespace, &mine),
        list::<types::Pod>(client, namespace, &mine),
    )?;
    let daemon_sets = sets.into_iter().filter_map(observe::daemon_set).map(|(_, set)| Arc::new(set));
    Ok(Observed {
        nodes,
        daemon_sets: daemon_sets.filter(|set| set.is_of(&quinistry.identity)).collect(),
        pods: pods.into_iter().filter_map(observe::pod).map(|(_, pod)| Arc::new(pod)).collect(),
        parts: parts.into_iter().filter_map(observe::part).map(|(_, part)| Arc::new(part)).collect(),
        ..Observed::default()
    })
}

async fn nodes(client: &Client) -> Result<Vec<Arc<Node>>, OperatorError> {
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

/// A node that the resource selects.
fn anywhere(quinistry: &Resource) -> Node {
    Node {
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

fn whole(quinistry: &Resource, names: &SeedNames, pieces: usize) -> Vec<Arc<Part>> {
    let part = |part| Part {
        name: names.of(part),
        namespace: quinistry.namespace().into(),
        uid: names.of(part),
        resource: quinistry.name().into(),
        seed: names.seed().into(),
        pieces,
        owners: Vec::new(),
        created: Timestamp::UNIX_EPOCH,
        deleting: false,
    };
    SeedNames::parts(pieces).map(|which| Arc::new(part(which))).collect()
}
