//! `DaemonSet` of the stores: one pod on each chosen node. Pure, and canonical like those of generations.
//!
//! The chosen nodes are part of the pod template, so that each change of them makes another revision of the
//! `DaemonSet`. Its controller therefore replaces no pods: the operator does, when a template differs in
//! anything but the nodes (`replacement`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use quinistry_quine::REPOSITORY;
use serde_json::{Value, json};

use super::access;
use super::live::LiveObject;
use super::objects::{StoreKind, WantedObject, all_labels, selector};
use crate::api::names::annotations::{APPLIED, STORE_SETTINGS, TEMPLATE};
use crate::api::names::{CONTAINER, STORE_PUSH_PORT};
use crate::crd::StoreSpec;
use crate::operator::build::{self, to_owned_pair};
use crate::operator::naming;
use crate::operator::resource::ValidResource;

/// Field of a node by which it is selected. A `DaemonSet` takes each node in a term of its own.
pub(super) const NODE_NAME_FIELD: &str = "metadata.name";

/// Name of the init container that gives the folder to the registry's user.
const PREPARATION: &str = "prepare-storage";

/// Name of the volume with the content.
const DATA_VOLUME: &str = "data";

/// Folder of the content within a pod.
const DATA_FOLDER: &str = "/data";

/// Address of the listener that takes pushes: the pod's loopback, which a port-forward reaches and no network. So
/// the right to forward ports to the pod is the right to push, and the API server audits its use.
const PUSH_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), STORE_PUSH_PORT);

/// Grace period in seconds: a chunk of an upload is stored within it, and the client goes on behind that chunk.
const GRACE_SECONDS: i64 = 30;

/// Input of the `DaemonSet`, beside the specification.
#[derive(Clone, Copy, Debug)]
pub(super) struct SetInput<'a> {
    /// Image of the stores, which is that of the generations.
    pub image: &'a str,
    /// URL of the Service of the stores.
    pub url: &'a str,
    /// Names of the nodes, sorted; at least one.
    pub nodes: &'a [String],
}

/// Returns the image of the stores: the address at which generation 1 serves a digest on each node.
pub(super) fn image(quinistry: &ValidResource, digest: &str) -> String {
    format!("localhost:{}/{REPOSITORY}@{digest}", naming::port(&quinistry.spec, 1))
}

/// Returns the `DaemonSet` of a resource with these stores, as it is applied.
pub(super) fn daemon_set(quinistry: &ValidResource, store: &StoreSpec, input: SetInput<'_>) -> WantedObject {
    let mut pod_labels = all_labels(quinistry);
    pod_labels.extend(build::NO_SIDECAR_LABELS.map(to_owned_pair));
    let mut template = core::PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(build::NO_SIDECAR_ANNOTATIONS.map(to_owned_pair).into()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(quinistry, store, input)),
    };
    // A pod stays as it is when another node is chosen.
    let hash = build::hash(&template);
    if let Some(metadata) = &mut template.metadata {
        metadata.annotations.get_or_insert_default().extend([to_owned_pair((TEMPLATE, &hash))]);
    }
    if let Some(pod) = &mut template.spec {
        pod.affinity = Some(affinity(input.nodes));
    }
    let set = apps::DaemonSet {
        metadata: ObjectMeta {
            name: Some(naming::store_name(quinistry.name())),
            namespace: Some(quinistry.namespace().into()),
            labels: Some(all_labels(quinistry)),
            annotations: Some([(STORE_SETTINGS.to_owned(), settings(quinistry, store, input.url))].into()),
            owner_references: Some(vec![quinistry.identity.controller()]),
            ..ObjectMeta::default()
        },
        spec: Some(apps::DaemonSetSpec {
            selector: LabelSelector { match_labels: Some(selector(quinistry)), ..LabelSelector::default() },
            template,
            revision_history_limit: Some(build::REVISION_HISTORY_LIMIT),
            update_strategy: Some(apps::DaemonSetUpdateStrategy {
                type_: Some("OnDelete".into()),
                rolling_update: None,
            }),
            min_ready_seconds: None,
        }),
        status: None,
    };
    WantedObject::new(StoreKind::DaemonSet, serde_json::to_value(set).expect("a DaemonSet is JSON"))
}

/// Returns the hash of the settings that a template is made of, beside the image.
fn settings(quinistry: &ValidResource, store: &StoreSpec, url: &str) -> String {
    let spec = &quinistry.spec;
    build::hash(&json!([quinistry.name(), store.path, spec.tolerations, spec.priority_class_name, url]))
}

/// Returns a wanted `DaemonSet` with the template of the live one, and the nodes of its own.
pub(super) fn with_live_template(wanted: WantedObject, live: &LiveObject) -> WantedObject {
    let WantedObject { kind, mut object } = wanted;
    let affinity = object["spec"]["template"]["spec"]["affinity"].take();
    object["spec"]["template"] = live.spec["template"].clone();
    object["spec"]["template"]["spec"]["affinity"] = affinity;
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove(APPLIED);
    }
    object["metadata"]["annotations"][STORE_SETTINGS] = json!(live.settings);
    WantedObject::new(kind, object)
}

/// Returns the image of a `DaemonSet` with this specification.
pub(super) fn image_of(set: &Value) -> Option<&str> {
    set["template"]["spec"]["containers"][0]["image"].as_str()
}

/// Returns the hash of a pod template without its nodes, as its pods have it in an annotation.
pub(super) fn template(set: &Value) -> Option<&str> {
    set["template"]["metadata"]["annotations"][TEMPLATE].as_str()
}

/// Returns the specification of a pod, without the nodes that it may run on.
fn pod(quinistry: &ValidResource, store: &StoreSpec, input: SetInput<'_>) -> core::PodSpec {
    let spec = &quinistry.spec;
    let tolerations = spec.tolerations.iter().map(build::toleration).collect();
    core::PodSpec {
        init_containers: Some(vec![preparation(input.image)]),
        containers: vec![container(input)],
        volumes: Some(vec![
            core::Volume {
                name: DATA_VOLUME.into(),
                host_path: Some(core::HostPathVolumeSource {
                    path: store.path.clone(),
                    type_: Some("DirectoryOrCreate".into()),
                }),
                ..core::Volume::default()
            },
            access::volume(quinistry.name()),
        ]),
        tolerations: build::non_empty_list(tolerations),
        priority_class_name: build::non_empty(&spec.priority_class_name),
        automount_service_account_token: Some(false),
        // Stores are asked by a literal address, and ask each other by one.
        dns_policy: Some("Default".into()),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(build::pod_security()),
        ..core::PodSpec::default()
    }
}

/// Returns the affinity for these nodes alone, by name: the nodes need no labels, and the operator no right to
/// change them.
fn affinity(nodes: &[String]) -> core::Affinity {
    let term = |name: &String| core::NodeSelectorTerm {
        match_fields: Some(vec![core::NodeSelectorRequirement {
            key: NODE_NAME_FIELD.into(),
            operator: "In".into(),
            values: Some(vec![name.clone()]),
        }]),
        match_expressions: None,
    };
    core::Affinity {
        node_affinity: Some(core::NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(core::NodeSelector {
                node_selector_terms: nodes.iter().map(term).collect(),
            }),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        ..core::Affinity::default()
    }
}

/// Returns the init container that gives the folder to the registry's user: the kubelet creates it for root,
/// and `fsGroup` does not apply to folders of the node (kubernetes#138411).
fn preparation(image: &str) -> core::Container {
    let mut security = build::container_security();
    security.run_as_user = Some(0);
    security.run_as_non_root = Some(false);
    if let Some(capabilities) = &mut security.capabilities {
        capabilities.add = Some(vec!["CHOWN".into()]);
    }
    let owner = format!("{0}:{0}", build::USER_ID);
    core::Container {
        name: PREPARATION.into(),
        image: Some(image.into()),
        image_pull_policy: Some(build::IF_NOT_PRESENT.into()),
        args: Some([PREPARATION, "--storage", DATA_FOLDER, "--owner", &owner].map(Into::into).into()),
        volume_mounts: Some(vec![data_mount()]),
        resources: Some(resources("32Mi", "128Mi")),
        security_context: Some(security),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..core::Container::default()
    }
}

fn container(input: SetInput<'_>) -> core::Container {
    let port = i32::from(access::PORT);
    let mut args =
        ["serve", "--listen", &format!("[::]:{port}"), "--storage", DATA_FOLDER].map(Into::into).to_vec();
    args.extend(access::arguments(input.url));
    args.extend(["--keep-named", "--push-listen", &PUSH_ADDRESS.to_string()].map(Into::into));
    core::Container {
        name: CONTAINER.into(),
        image: Some(input.image.into()),
        image_pull_policy: Some(build::IF_NOT_PRESENT.into()),
        args: Some(args),
        volume_mounts: Some(vec![data_mount(), access::mount()]),
        ports: Some(vec![core::ContainerPort {
            name: Some("registry".into()),
            container_port: port,
            protocol: Some("TCP".into()),
            ..core::ContainerPort::default()
        }]),
        // Not Ready while the store copies what another one has: the Service leads to complete stores.
        readiness_probe: Some(build::probe(None, port, "/readyz".into(), 5, 2)),
        liveness_probe: Some(core::Probe {
            initial_delay_seconds: Some(build::START_SECONDS),
            ..build::probe(None, port, "/v2/".into(), 10, 6)
        }),
        // A registry with storage holds at most 384 MiB for its connections; the rest is for what it copies from
        // other stores, and for itself.
        resources: Some(resources("64Mi", "512Mi")),
        security_context: Some(build::container_security()),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..core::Container::default()
    }
}

fn data_mount() -> core::VolumeMount {
    core::VolumeMount {
        name: DATA_VOLUME.into(),
        mount_path: DATA_FOLDER.into(),
        ..core::VolumeMount::default()
    }
}

/// Returns requests and limits. No CPU limit: throttling a registry only makes pulls slower.
fn resources(memory: &str, limit: &str) -> core::ResourceRequirements {
    let amount = |name: &str, amount: &str| (name.to_owned(), Quantity(amount.into()));
    core::ResourceRequirements {
        requests: Some(BTreeMap::from([amount("cpu", "10m"), amount("memory", memory)])),
        limits: Some(BTreeMap::from([amount("memory", limit)])),
        claims: None,
    }
}
