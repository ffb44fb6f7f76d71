//! Pod of a generation: one container with minimal settings. Pure.

use std::collections::BTreeMap;

use quinistry_quine::REPOSITORY;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{BuildInput, node_selector, pull_policy, starts_from_bootstrap_image, to_owned_pair};
use crate::api::names::labels::CARRIER;
use crate::api::names::{CONTAINER, MAIN_CARRIER};
use crate::crd::{NetworkMode, TaintEffect, Toleration, TolerationOperator};
use crate::operator::naming::{self, CONTAINER_PORT};
use crate::operator::resource::ValidResource;
use crate::operator::select::LEFT_OUT;
use crate::operator::store::access;
use crate::seed::{self, SeedNames};
use crate::sorted::Sorted as _;

/// User and group ID of the registry, as in the image; numeric so that the kubelet can see that it is not
/// root.
pub(in crate::operator) const USER_ID: i64 = 65532;

/// Grace period in seconds: a registry has responded within it; the kubelet kills what runs longer.
const GRACE_SECONDS: i64 = 10;

/// Time in seconds after which a registry that does not answer counts as stuck. On a busy node the start of one takes
/// many times its usual 15 ms, and a registry that finds another digest than the expected one computes all its own
/// before it can say so.
pub(in crate::operator) const START_SECONDS: i32 = 120;

pub(super) fn pod(quinistry: &ValidResource, input: &BuildInput<'_>) -> core::PodSpec {
    let spec = &quinistry.spec;
    let starts_from_bootstrap_image = starts_from_bootstrap_image(quinistry, input.generation);
    let secrets: Vec<_> = spec
        .image_pull_secrets
        .iter()
        .filter(|_| starts_from_bootstrap_image)
        .map(|secret| core::LocalObjectReference { name: secret.name.clone() })
        .collect();
    let mut selector = node_selector(spec);
    let carrier = input.seed.map(|seed| seed.carrier);
    selector.extend(carrier.filter(|key| *key != MAIN_CARRIER).map(|key| to_owned_pair((CARRIER, key))));
    core::PodSpec {
        containers: vec![container(quinistry, input)],
        node_selector: Some(selector),
        affinity: Some(affinity(carrier == Some(MAIN_CARRIER))),
        volumes: input
            .seed
            .map(|seed| {
                seed::pod::volumes(&SeedNames::new(quinistry.name(), seed.executable), seed.part_count)
            })
            .or_else(|| input.stores.map(|_| vec![access::volume(quinistry.name())])),
        tolerations: non_empty_list(spec.tolerations.iter().map(toleration).collect()),
        image_pull_secrets: non_empty_list(secrets),
        priority_class_name: non_empty(&spec.priority_class_name),
        host_network: (spec.network.mode == NetworkMode::HostNetwork).then_some(true),
        automount_service_account_token: Some(false),
        // The registry resolves no names; some clusters have no DNS, and would report that in an Event for
        // each pod.
        dns_policy: Some("Default".into()),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(pod_security()),
        ..core::PodSpec::default()
    }
}

/// Returns the security context of all pods.
pub(in crate::operator) fn pod_security() -> core::PodSecurityContext {
    core::PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER_ID),
        run_as_group: Some(USER_ID),
        seccomp_profile: Some(core::SeccompProfile {
            type_: "RuntimeDefault".into(),
            localhost_profile: None,
        }),
        ..core::PodSecurityContext::default()
    }
}

/// Returns the security context of containers.
pub(in crate::operator) fn container_security() -> core::SecurityContext {
    core::SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(core::Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        ..core::SecurityContext::default()
    }
}

/// Returns a probe by HTTP, with its period in seconds; `host` if that is not the pod's own address.
pub(in crate::operator) fn probe(
    host: Option<&str>,
    port: i32,
    path: String,
    period: i32,
    failures: i32,
) -> core::Probe {
    core::Probe {
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
    }
}

/// Returns the affinity for all nodes but the excluded ones. With `unlabelled`, for the main carrier of
/// generation 0, it selects the nodes without a carrier label: a node that joins needs no label.
fn affinity(unlabelled: bool) -> core::Affinity {
    let requirement = |key: &str, operator: &str, values| core::NodeSelectorRequirement {
        key: key.into(),
        operator: operator.into(),
        values,
    };
    let left_out = LEFT_OUT.map(|(key, value)| requirement(key, "NotIn", Some(vec![value.to_owned()])));
    let carriers = unlabelled.then(|| requirement(CARRIER, "DoesNotExist", None));
    let term = core::NodeSelectorTerm {
        match_expressions: Some(left_out.into_iter().chain(carriers).collect()),
        match_fields: None,
    };
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

fn container(quinistry: &ValidResource, input: &BuildInput<'_>) -> core::Container {
    let spec = &quinistry.spec;
    let port = naming::port(spec, input.generation);
    let host_network = spec.network.mode == NetworkMode::HostNetwork;
    let listen = if host_network { format!("127.0.0.1:{port}") } else { format!("[::]:{CONTAINER_PORT}") };
    let mut args = vec!["serve".to_owned(), "--listen".into(), listen];
    if let Some(digest) = input.digest {
        args.extend(["--expect-digest".into(), digest.to_string()]);
    }
    args.extend(input.stores.into_iter().flat_map(access::arguments));
    let reference = input.digest.map_or_else(|| "latest".to_owned(), ToString::to_string);
    let (liveness_host, liveness_port) =
        if host_network { (Some("127.0.0.1"), port) } else { (None, CONTAINER_PORT) };
    core::Container {
        name: CONTAINER.into(),
        image: Some(input.image.into()),
        image_pull_policy: Some(pull_policy(quinistry, input.generation).into()),
        command: input.seed.map(|seed| seed::pod::command(seed.executable)),
        args: Some(args),
        volume_mounts: input
            .seed
            .map(|_| seed::pod::mounts())
            .or_else(|| input.stores.map(|_| vec![access::mount()])),
        // Independent of the carrier's working directory.
        working_dir: input.seed.map(|_| "/".into()),
        ports: Some(vec![core::ContainerPort {
            name: Some("registry".into()),
            container_port: if host_network { port } else { CONTAINER_PORT },
            host_port: Some(port),
            host_ip: if host_network { None } else { non_empty(&spec.network.host_ip) },
            protocol: Some("TCP".into()),
        }]),
        // Probed every second: the start of the next generation depends on it.
        readiness_probe: Some(probe(
            // The kubelet probes on the path of the container engine: through the node's own localhost.
            Some("127.0.0.1"),
            port,
            format!("/v2/{REPOSITORY}/manifests/{reference}"),
            1,
            3,
        )),
        liveness_probe: Some(core::Probe {
            initial_delay_seconds: Some(START_SECONDS),
            ..probe(liveness_host, liveness_port, "/v2/".into(), 10, 3)
        }),
        resources: Some(resources(quinistry)),
        security_context: Some(container_security()),
        // The last output tells why the registry could not listen.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..core::Container::default()
    }
}

fn resources(quinistry: &ValidResource) -> core::ResourceRequirements {
    let merged = |defaults: &[(&str, &str)], given: &BTreeMap<String, IntOrString>| {
        let mut all =
            defaults.iter().map(|&(name, amount)| (name.to_owned(), Quantity(amount.into()))).into_map();
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
        // No CPU limit: throttling a registry only makes pulls slower.
        limits: merged(&[("memory", "128Mi")], &quinistry.spec.resources.limits),
        claims: None,
    }
}

pub(in crate::operator) fn toleration(toleration: &Toleration) -> core::Toleration {
    core::Toleration {
        key: non_empty(&toleration.key),
        operator: Some(
            match toleration.operator {
                TolerationOperator::Equal => "Equal",
                TolerationOperator::Exists => "Exists",
            }
            .into(),
        ),
        value: non_empty(&toleration.value),
        effect: match toleration.effect {
            TaintEffect::Any => None,
            TaintEffect::NoSchedule => Some("NoSchedule".into()),
            TaintEffect::PreferNoSchedule => Some("PreferNoSchedule".into()),
            TaintEffect::NoExecute => Some("NoExecute".into()),
        },
        toleration_seconds: toleration.toleration_seconds,
    }
}

pub(in crate::operator) fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.into())
}

pub(in crate::operator) fn non_empty_list<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}
