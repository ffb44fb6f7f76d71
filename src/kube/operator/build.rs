//! Build: creates `DaemonSets` from a specification. Pure, and canonical: the same input gives the same
//! bytes, so that their hash tells whether a write is needed.
//!
//! Nothing depends on the operator's version: an upgrade must not replace running pods.

mod image;
mod pod;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use quinistry_oci::Digest;
use serde::Serialize;
use serde_json::Value;

pub(super) use image::is_same_image;
pub(super) use pod::{
    START_SECONDS, USER_ID, container_security, non_empty, non_empty_list, pod_security, probe, toleration,
};

use super::naming;
use super::resource::ValidResource;
use crate::api::names::annotations::{APPLIED, TEMPLATE};
use crate::api::names::{APP, labels, managers};
use crate::crd::QuinistrySpec;
use crate::sorted::Sorted as _;

/// Labels that keep the sidecars of service meshes away: a kubelet's request on `localhost` belongs to no
/// mesh, and an injected container would be pulled from a registry that may not be reachable.
pub(super) const NO_SIDECAR_LABELS: [(&str, &str); 2] =
    [("sidecar.istio.io/inject", "false"), ("kuma.io/sidecar-injection", "disabled")];

/// Annotations with the same purpose, for the meshes that read annotations.
pub(super) const NO_SIDECAR_ANNOTATIONS: [(&str, &str); 2] =
    [("linkerd.io/inject", "disabled"), ("consul.hashicorp.com/connect-inject", "false")];

/// Number of old revisions to keep: one to inspect, one to compare it with.
pub(super) const REVISION_HISTORY_LIMIT: i32 = 2;

/// Input of a generation's `DaemonSet`, beside the specification.
#[derive(Clone, Debug)]
pub(super) struct BuildInput<'a> {
    /// Number of the generation.
    pub generation: i32,
    /// Image to start.
    pub image: &'a str,
    /// Digest that the generation must serve. For a bootstrap image without `spec.digest` it stays empty,
    /// even after the digest has been learned: writing it into the template would replace the pods that it
    /// was learned from.
    pub digest: Option<&'a Digest>,
    /// `updateStrategy.rollingUpdate.maxUnavailable`.
    pub max_unavailable: i32,
    /// URL of the stores that the generation asks for what it lacks, if there are any; `None` for generation 0.
    pub stores: Option<&'a str>,
    /// Seed of generation 0; `None` for the others.
    pub seed: Option<SeedInput<'a>>,
}

/// Seed of generation 0. The image is the carrier.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeedInput<'a> {
    /// Key of the carrier, such as `main`.
    pub carrier: &'a str,
    /// Digest of the executable.
    pub executable: &'a Digest,
    /// Number of parts that the executable was split into.
    pub part_count: usize,
}

/// Returns the architecture of the nodes to select: that of this executable, unless the resource names
/// another.
#[must_use]
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Returns the labels that a node must have.
#[must_use]
pub(super) fn node_selector(spec: &QuinistrySpec) -> BTreeMap<String, String> {
    let mut selector = BTreeMap::from(
        [(labels::NODE_OS, "linux"), (labels::NODE_ARCHITECTURE, architecture())].map(to_owned_pair),
    );
    selector.extend(spec.node_selector.clone());
    selector
}

/// Returns the whole object, as it is applied.
#[must_use]
pub(super) fn daemon_set(quinistry: &ValidResource, input: &BuildInput<'_>) -> apps::DaemonSet {
    let (name, uid) = (quinistry.name(), quinistry.uid());
    let generation = input.generation.to_string();
    let selector = match input.seed {
        // Generation 0 may be applied before the resource exists, by a user who reviews it first: no UID is
        // known then.
        Some(seed) => {
            vec![(labels::NAME, name), (labels::GENERATION, &generation), (labels::CARRIER, seed.carrier)]
        }
        None => vec![(labels::RESOURCE, uid), (labels::GENERATION, &generation)],
    };
    let selector = selector.into_iter().map(to_owned_pair).into_map();
    let mut all = selector.clone();
    all.extend(
        [
            (labels::RESOURCE, uid),
            (labels::K8S_APP, APP),
            (labels::ROLE, naming::role(input.generation)),
            (labels::APP_NAME, APP),
            (labels::APP_COMPONENT, "registry"),
            (labels::APP_MANAGED_BY, managers::OPERATOR),
        ]
        .map(to_owned_pair),
    );
    let mut pod_labels = all.clone();
    pod_labels.extend(NO_SIDECAR_LABELS.map(to_owned_pair));
    let mut template = core::PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(NO_SIDECAR_ANNOTATIONS.map(to_owned_pair).into()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod::pod(quinistry, input)),
    };
    let hash = hash(&template);
    if let Some(metadata) = &mut template.metadata {
        metadata.annotations.get_or_insert_default().extend([to_owned_pair((TEMPLATE, &hash))]);
    }
    let spec = apps::DaemonSetSpec {
        selector: LabelSelector { match_labels: Some(selector), ..LabelSelector::default() },
        template,
        revision_history_limit: Some(REVISION_HISTORY_LIMIT),
        // maxSurge is never set: two pods cannot have one host port, and the API server does not say so.
        update_strategy: Some(apps::DaemonSetUpdateStrategy {
            type_: Some("RollingUpdate".into()),
            rolling_update: Some(apps::RollingUpdateDaemonSet {
                max_unavailable: Some(IntOrString::Int(input.max_unavailable)),
                max_surge: None,
            }),
        }),
        min_ready_seconds: None,
    };
    let mut set = apps::DaemonSet {
        metadata: ObjectMeta {
            name: Some(match input.seed {
                Some(seed) => naming::carrier_set_name(name, seed.carrier),
                None => naming::daemon_set_name(name, input.generation),
            }),
            namespace: Some(quinistry.namespace().into()),
            labels: Some(all),
            owner_references: Some(vec![quinistry.identity.controller()]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    };
    let applied = self::hash(&set);
    set.metadata.annotations = Some(BTreeMap::from([to_owned_pair((APPLIED, &applied))]));
    set
}

/// Returns the generation that a `DaemonSet` belongs to.
#[must_use]
pub(super) fn generation(set: &apps::DaemonSet) -> Option<i32> {
    set.metadata.labels.as_ref()?.get(labels::GENERATION)?.parse().ok()
}

/// Returns a `DaemonSet` as another program may apply it before the resource exists: without the hashes by
/// which the operator recognises its own work, which the two would compete for, and without the resource's
/// UID.
#[must_use]
pub(super) fn without_hashes(mut set: apps::DaemonSet) -> apps::DaemonSet {
    set.metadata.annotations = None;
    set.metadata.owner_references = None;
    set.metadata.labels.get_or_insert_default().remove(labels::RESOURCE);
    if let Some(template) = set.spec.as_mut().and_then(|spec| spec.template.metadata.as_mut()) {
        template.labels.get_or_insert_default().remove(labels::RESOURCE);
        template.annotations.get_or_insert_default().remove(TEMPLATE);
    }
    set
}

/// Returns the hash that [`daemon_set`] wrote into an annotation.
#[must_use]
pub(super) fn applied(set: &apps::DaemonSet) -> &str {
    annotation(set.metadata.annotations.as_ref(), APPLIED)
}

/// Returns the hash of the pod template.
#[must_use]
pub(super) fn template(set: &apps::DaemonSet) -> &str {
    let metadata = set.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    annotation(metadata.and_then(|metadata| metadata.annotations.as_ref()), TEMPLATE)
}

fn annotation<'a>(annotations: Option<&'a BTreeMap<String, String>>, key: &str) -> &'a str {
    annotations.and_then(|annotations| annotations.get(key)).map_or("", String::as_str)
}

/// Returns true if the server's specification and labels contain everything that was applied: another writer
/// may have edited them. Resources are left out, since the server formats quantities in its own way. Fields
/// that choose nodes must be equal: an added label would exclude nodes.
#[must_use]
pub(super) fn covers(live: &Value, labels: &BTreeMap<String, String>, wanted: &apps::DaemonSet) -> bool {
    let mut wanted_labels = wanted.metadata.labels.iter().flatten();
    let wanted = serde_json::to_value(&wanted.spec).expect("a DaemonSet is JSON");
    wanted_labels.all(|(key, value)| labels.get(key) == Some(value)) && contains(live, &wanted)
}

/// Returns true if the specification of a `DaemonSet` on the server contains the one that was applied.
#[must_use]
pub(super) fn contains(live: &Value, wanted: &Value) -> bool {
    fn within(wanted: &Value, live: &Value) -> bool {
        match (wanted, live) {
            (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(key, value)| {
                key == "resources"
                    || live.get(key).map_or_else(
                        || is_empty(value),
                        |live| match (key.as_str(), value, live) {
                            ("nodeSelector" | "nodeAffinity" | "tolerations", ..) => value == live,
                            ("image", Value::String(wanted), Value::String(live)) => {
                                is_same_image(wanted, live)
                            }
                            _ => within(value, live),
                        },
                    )
            }),
            // Admission may add to lists of objects, for example a sidecar; a list of strings is one value.
            (Value::Array(wanted), Value::Array(live)) if wanted.iter().all(Value::is_object) => {
                wanted.iter().all(|wanted| live.iter().any(|live| within(wanted, live)))
            }
            _ => wanted == live,
        }
    }
    within(wanted, live)
}

/// Returns true for values that the server omits.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
    }
}
/// Returns true if a generation is started from the bootstrap image, and not from its predecessor or a seed.
#[must_use]
pub(super) fn starts_from_bootstrap_image(quinistry: &ValidResource, generation: i32) -> bool {
    generation == 1 && quinistry.spec.seed.is_none()
}

/// Pull policy of generation 0: a carrier is an image that exists on the node.
pub(super) const PULL_NEVER: &str = "Never";

/// Pull policy of images that are pinned by digest.
pub(super) const IF_NOT_PRESENT: &str = "IfNotPresent";

/// Returns the pull policy of a generation.
#[must_use]
pub(super) fn pull_policy(quinistry: &ValidResource, generation: i32) -> &'static str {
    match generation {
        0 => PULL_NEVER,
        _ if starts_from_bootstrap_image(quinistry, generation) => quinistry.spec.image_pull_policy.as_str(),
        _ => IF_NOT_PRESENT,
    }
}

/// Returns the hash of an object that is applied.
pub(super) fn hash(value: &impl Serialize) -> String {
    // A prefix is long enough, as a collision gains an attacker nothing, and it stays readable.
    Digest::sha256(&serde_json::to_vec(value).expect("Kubernetes objects are JSON")).hex()[..16].into()
}

pub(super) fn to_owned_pair((key, value): (&str, &str)) -> (String, String) {
    (key.into(), value.into())
}

#[cfg(test)]
mod tests;
