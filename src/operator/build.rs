//! Build: from a specification to `DaemonSets`. Pure, and canonical: the same input gives the same bytes, so that their
//! hash tells whether anything is to be written.
//!
//! Nothing here depends on the operator's version: an upgrade must not re-roll what runs.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource as _;
use serde::Serialize;
use serde_json::Value;

use super::identity::{
    self, APPLIED, CARRIER, CONTAINER, CONTAINER_PORT, GENERATION, MAIN, RESOURCE, ROLE, TEMPLATE,
};
use crate::crd::{NetworkMode, Quinistry, TaintEffect, Toleration, TolerationOperator};
use crate::oci::Digest;
use crate::quine::REPOSITORY;
use crate::seed::{self, NAME, Names};

/// User and group of the registry; the image's own, and numeric so that the kubelet can see that it is not root.
const USER: i64 = 65532;

/// A registry has answered within this or not at all; the kubelet kills what goes on longer.
const GRACE_SECONDS: i64 = 10;

/// How many old revisions to keep: one to look at, one to compare it with.
const REVISIONS: i32 = 2;

/// What a generation is built from, beside the specification.
#[derive(Clone, Debug)]
pub(super) struct Input<'a> {
    /// Which one.
    pub generation: i32,
    /// The image to start.
    pub image: &'a str,
    /// What it must serve. For a bootstrap image without `spec.digest` this stays empty for ever, even when the digest
    /// has been learned: writing it into the template would replace the pods that it was learned from.
    pub digest: Option<&'a Digest>,
    /// `updateStrategy.rollingUpdate.maxUnavailable`.
    pub max_unavailable: i32,
    /// What generation 0 is made of; nothing for the others.
    pub seed: Option<Seed<'a>>,
}

/// What generation 0 is made of. The image is the carrier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed<'a> {
    /// The carrier's key, or `main`.
    pub carrier: &'a str,
    /// The executable's digest.
    pub executable: &'a Digest,
    /// Into how many pieces it was cut.
    pub pieces: usize,
}

/// Architecture of the nodes to select: that of this executable, unless the resource names another.
#[must_use]
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Labels that a node must have.
#[must_use]
pub(super) fn node_selector(quinistry: &Quinistry) -> BTreeMap<String, String> {
    let mut selector =
        BTreeMap::from([("kubernetes.io/os", "linux"), ("kubernetes.io/arch", architecture())].map(owned));
    selector.extend(quinistry.spec.node_selector.clone());
    selector
}

/// The whole object, as it is applied.
#[must_use]
pub(super) fn daemon_set(quinistry: &Quinistry, input: &Input<'_>) -> apps::DaemonSet {
    let name = resource_name(quinistry);
    let uid = quinistry.metadata.uid.as_deref();
    let generation = input.generation.to_string();
    let selector = BTreeMap::from_iter(match input.seed {
        // Generation 0 may be applied before the resource, by whoever reviews it first.
        Some(seed) => vec![(NAME, name), (GENERATION, &generation), (CARRIER, seed.carrier)],
        None => vec![(RESOURCE, uid.unwrap_or_default()), (GENERATION, &generation)],
    });
    let selector: BTreeMap<_, _> = selector.into_iter().map(owned).collect();
    let mut labels = selector.clone();
    labels.extend(uid.map(|uid| owned((RESOURCE, uid))));
    labels.extend(
        [
            ("k8s-app", "quinistry"),
            (ROLE, identity::role(input.generation)),
            ("app.kubernetes.io/name", "quinistry"),
            ("app.kubernetes.io/component", "registry"),
            ("app.kubernetes.io/managed-by", identity::MANAGER),
        ]
        .map(owned),
    );
    let mut template = core::PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() }),
        spec: Some(pod(quinistry, input)),
    };
    let hash = hash(&template);
    if let Some(metadata) = &mut template.metadata {
        metadata.annotations = Some(BTreeMap::from([owned((TEMPLATE, &hash))]));
    }
    let spec = apps::DaemonSetSpec {
        selector: LabelSelector { match_labels: Some(selector), ..LabelSelector::default() },
        template,
        revision_history_limit: Some(REVISIONS),
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
                Some(seed) => identity::carrier_set_name(name, seed.carrier),
                None => identity::daemon_set_name(name, input.generation),
            }),
            namespace: quinistry.metadata.namespace.clone(),
            labels: Some(labels),
            // Without blockOwnerDeletion, which would need more rights where they are enforced.
            owner_references: quinistry.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    };
    let applied = self::hash(&set);
    set.metadata.annotations = Some(BTreeMap::from([owned((APPLIED, &applied))]));
    set
}

/// The generation that one is of.
#[must_use]
pub(super) fn generation(set: &apps::DaemonSet) -> Option<i32> {
    set.metadata.labels.as_ref()?.get(GENERATION)?.parse().ok()
}

/// The hash that [`daemon_set`] wrote into an annotation.
#[must_use]
pub(super) fn applied(set: &apps::DaemonSet) -> &str {
    annotation(set.metadata.annotations.as_ref(), APPLIED)
}

/// The hash of the template within.
#[must_use]
pub(super) fn template(set: &apps::DaemonSet) -> &str {
    let metadata = set.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    annotation(metadata.and_then(|metadata| metadata.annotations.as_ref()), TEMPLATE)
}

fn annotation<'a>(annotations: Option<&'a BTreeMap<String, String>>, key: &str) -> &'a str {
    annotations.and_then(|annotations| annotations.get(key)).map_or("", String::as_str)
}

/// Whether the server's specification and labels have everything that was applied: somebody may have edited them.
/// Resources are left out, since the server spells quantities in its own way.
#[must_use]
pub(super) fn covers(live: &Value, labels: &BTreeMap<String, String>, wanted: &apps::DaemonSet) -> bool {
    fn within(wanted: &Value, live: &Value) -> bool {
        match (wanted, live) {
            (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(key, value)| {
                key == "resources"
                    || live.get(key).map_or_else(|| is_empty(value), |live| within(value, live))
            }),
            // Admission may add to lists of objects, such as a sidecar; lists of words are one value.
            (Value::Array(wanted), Value::Array(live)) if wanted.iter().all(Value::is_object) => {
                wanted.iter().all(|wanted| live.iter().any(|live| within(wanted, live)))
            }
            _ => wanted == live,
        }
    }
    let mut wanted_labels = wanted.metadata.labels.iter().flatten();
    let wanted = serde_json::to_value(&wanted.spec).expect("a DaemonSet is JSON");
    wanted_labels.all(|(key, value)| labels.get(key) == Some(value)) && within(&wanted, live)
}

/// What the server leaves out.
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

fn pod(quinistry: &Quinistry, input: &Input<'_>) -> core::PodSpec {
    let spec = &quinistry.spec;
    let bootstraps = bootstraps(quinistry, input.generation);
    let secrets: Vec<_> = spec
        .image_pull_secrets
        .iter()
        .filter(|_| bootstraps)
        .map(|secret| core::LocalObjectReference { name: secret.name.clone() })
        .collect();
    let mut selector = node_selector(quinistry);
    let carrier = input.seed.map(|seed| seed.carrier);
    selector.extend(carrier.filter(|key| *key != MAIN).map(|key| owned((CARRIER, key))));
    core::PodSpec {
        containers: vec![container(quinistry, input)],
        node_selector: Some(selector),
        affinity: carrier.filter(|key| *key == MAIN).map(|_| unlabelled()),
        volumes: input.seed.map(|seed| {
            seed::pod::volumes(&Names::new(resource_name(quinistry), seed.executable), seed.pieces)
        }),
        tolerations: some_if_any(spec.tolerations.iter().map(toleration).collect()),
        image_pull_secrets: some_if_any(secrets),
        priority_class_name: some_if_said(&spec.priority_class_name),
        host_network: (spec.network.mode == NetworkMode::HostNetwork).then_some(true),
        automount_service_account_token: Some(false),
        // The registry asks for no names; some clusters have no DNS, and would say so in an Event for each pod.
        dns_policy: Some("Default".into()),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(core::PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            seccomp_profile: Some(core::SeccompProfile {
                type_: "RuntimeDefault".into(),
                localhost_profile: None,
            }),
            ..core::PodSecurityContext::default()
        }),
        ..core::PodSpec::default()
    }
}

fn resource_name(quinistry: &Quinistry) -> &str {
    quinistry.metadata.name.as_deref().unwrap_or_default()
}

/// Nodes that say nothing of carriers: a node that joins needs nobody's label.
fn unlabelled() -> core::Affinity {
    let requirement =
        core::NodeSelectorRequirement { key: CARRIER.into(), operator: "DoesNotExist".into(), values: None };
    let term = core::NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
    core::Affinity {
        node_affinity: Some(core::NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(core::NodeSelector {
                node_selector_terms: vec![term],
            }),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        ..core::Affinity::default()
    }
}

/// Whether a generation is started from the bootstrap image, and not from its predecessor or from nothing.
#[must_use]
pub(super) fn bootstraps(quinistry: &Quinistry, generation: i32) -> bool {
    generation == 1 && quinistry.spec.seed.is_none()
}

/// The pull policy of generation 0: the carrier is there, or another one is looked for.
pub(super) const NEVER: &str = "Never";

/// When a generation's image is pulled.
#[must_use]
pub(super) fn pull_policy(quinistry: &Quinistry, generation: i32) -> &'static str {
    match generation {
        0 => NEVER,
        _ if bootstraps(quinistry, generation) => quinistry.spec.image_pull_policy.as_str(),
        _ => "IfNotPresent",
    }
}

fn container(quinistry: &Quinistry, input: &Input<'_>) -> core::Container {
    let spec = &quinistry.spec;
    let port = identity::port(quinistry, input.generation);
    let host_network = spec.network.mode == NetworkMode::HostNetwork;
    let listen = if host_network { format!("127.0.0.1:{port}") } else { format!("[::]:{CONTAINER_PORT}") };
    let mut args = vec!["serve".to_owned(), "--listen".into(), listen];
    if let Some(digest) = input.digest {
        args.extend(["--expect-digest".into(), digest.to_string()]);
    }
    let reference = input.digest.map_or_else(|| "latest".to_owned(), ToString::to_string);
    let probe = |host: Option<&str>, port, path: String, period, failures| core::Probe {
        http_get: Some(core::HTTPGetAction {
            host: host.map(Into::into),
            port: IntOrString::Int(port),
            path: Some(path),
            scheme: Some("HTTP".into()),
            http_headers: None,
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..core::Probe::default()
    };
    let (liveness_host, liveness_port) =
        if host_network { (Some("127.0.0.1"), port) } else { (None, CONTAINER_PORT) };
    core::Container {
        name: CONTAINER.into(),
        image: Some(input.image.into()),
        image_pull_policy: Some(pull_policy(quinistry, input.generation).into()),
        command: input.seed.map(|seed| seed::pod::command(seed.executable)),
        args: Some(args),
        volume_mounts: input.seed.map(|_| seed::pod::mounts()),
        // Whatever the carrier says.
        working_dir: input.seed.map(|_| "/".into()),
        ports: Some(vec![core::ContainerPort {
            name: Some("registry".into()),
            container_port: if host_network { port } else { CONTAINER_PORT },
            host_port: Some(port),
            host_ip: if host_network { None } else { some_if_said(&spec.network.host_ip) },
            protocol: Some("TCP".into()),
        }]),
        // Asked every second: how soon the next generation starts depends on it.
        readiness_probe: Some(probe(
            // The kubelet asks as the container engine will: through the node's own localhost.
            Some("127.0.0.1"),
            port,
            format!("/v2/{REPOSITORY}/manifests/{reference}"),
            1,
            3,
        )),
        liveness_probe: Some(probe(liveness_host, liveness_port, "/v2/".into(), 10, 3)),
        resources: Some(resources(quinistry)),
        security_context: Some(core::SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(core::Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
            ..core::SecurityContext::default()
        }),
        // What it said last tells why it could not listen.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..core::Container::default()
    }
}

fn resources(quinistry: &Quinistry) -> core::ResourceRequirements {
    let merged = |defaults: &[(&str, &str)], given: &BTreeMap<String, IntOrString>| {
        let mut all: BTreeMap<_, _> =
            defaults.iter().map(|&(name, amount)| (name.to_owned(), Quantity(amount.into()))).collect();
        all.extend(given.iter().map(|(name, amount)| {
            let amount = match amount {
                IntOrString::Int(amount) => amount.to_string(),
                IntOrString::String(amount) => amount.clone(),
            };
            (name.clone(), Quantity(amount))
        }));
        Some(all)
    };
    core::ResourceRequirements {
        requests: merged(&[("cpu", "10m"), ("memory", "24Mi")], &quinistry.spec.resources.requests),
        // No limit of the processor: throttling a registry only makes pulls slower.
        limits: merged(&[("memory", "128Mi")], &quinistry.spec.resources.limits),
        claims: None,
    }
}

fn toleration(toleration: &Toleration) -> core::Toleration {
    core::Toleration {
        key: some_if_said(&toleration.key),
        operator: Some(
            match toleration.operator {
                TolerationOperator::Equal => "Equal",
                TolerationOperator::Exists => "Exists",
            }
            .into(),
        ),
        value: some_if_said(&toleration.value),
        effect: match toleration.effect {
            TaintEffect::Any => None,
            TaintEffect::NoSchedule => Some("NoSchedule".into()),
            TaintEffect::PreferNoSchedule => Some("PreferNoSchedule".into()),
            TaintEffect::NoExecute => Some("NoExecute".into()),
        },
        toleration_seconds: toleration.toleration_seconds,
    }
}

fn hash(value: &impl Serialize) -> String {
    // A long prefix: nobody gains by a collision, and it stays readable.
    Digest::sha256(&serde_json::to_vec(value).expect("Kubernetes objects are JSON")).hex()[..16].into()
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.into(), value.into())
}

fn some_if_said(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.into())
}

fn some_if_any<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

#[cfg(test)]
mod tests;
