use bytes::Bytes;
use quinistry_oci::Digest;
use serde_json::{Value, json};

use super::*;
use crate::api::types;
use crate::install::{InstallPayload, ResourceOptions};
use crate::seed::SplitExecutable;

fn payload() -> InstallPayload {
    let split = SplitExecutable::new(RESOURCE, [Bytes::from_static(b"cake")].into(), Bytes::new()).unwrap();
    InstallPayload {
        split,
        digest: Digest::sha256(b"image"),
        architecture: "amd64",
        version: Some("1.2.3".into()),
    }
}

fn node(name: &str, architecture: &str, ready: &str, images: &[&str]) -> types::Node {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "images": images.iter().map(|image| json!({"names": [image]})).collect::<Vec<_>>(),
            "nodeInfo": {"architecture": architecture, "operatingSystem": "linux"},
        },
    }))
    .unwrap()
}

fn pod(name: &str, image: &str, port: &Value) -> types::Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "kitchen", "labels": {"quinistry.dev/resource": "1"}},
        "spec": {"nodeName": "n1", "containers": [{"image": image, "ports": [port]}]},
    }))
    .unwrap()
}

fn resource_of(namespace: &str, uid: &str, base: i32) -> Quinistry {
    serde_json::from_value(json!({
        "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry",
        "metadata": {"name": "quinistry", "namespace": namespace, "uid": uid},
        "spec": {"seed": {"executable": "sha256:1"}, "digest": "sha256:2", "basePort": base, "generations": 3},
    }))
    .unwrap()
}

fn fine() -> ObservedCluster {
    ObservedCluster {
        version: ("1".into(), "36+".into()),
        user: "cook".into(),
        missing: [].into(),
        level: Some("privileged".into()),
        nodes: vec![node("n1", "amd64", "True", &["registry.k8s.io/pause:3.10"])],
        pods: Vec::new(),
        resources: Vec::new(),
        cluster: "cluster stove (context pantry, https://192.0.2.1)".into(),
        operators: Some(Vec::new()),
        claim: None,
        foreign: Vec::new(),
        definitions: Vec::new(),
        operator_version: None,
        policy: Ok("Never".into()),
    }
}

fn findings_of(observed: &ObservedCluster, options: &ResourceOptions) -> Vec<PreflightFinding> {
    let payload = payload();
    findings(
        observed,
        &InstallRequest { namespace: "pantry", options, payload: &payload, loads_images: false },
        false,
    )
}

/// Returns the most severe finding about a subject.
fn worst(observed: &ObservedCluster, subject: &str) -> (Level, String) {
    let found = findings_of(observed, &ResourceOptions::default());
    let worst = found.into_iter().filter(|one| one.subject == subject).max_by_key(|one| one.level);
    worst.map_or_else(|| panic!("nothing of {subject}"), |one| (one.level, one.text))
}

#[test]
fn nothing_is_wrong_with_a_good_cluster() {
    let found = findings_of(&fine(), &ResourceOptions::default());
    assert!(found.iter().all(|one| one.level == Level::Ok), "{found:?}");
    assert!(found.iter().any(|one| one.text == "registry.k8s.io/pause:3.10"));
}

#[test]
fn all_rights_that_are_missing_are_told_at_once() {
    let right =
        |verb| rights::Permission { verb, group: "apps", resource: "daemonsets", namespace: "pantry".into() };
    let observed = ObservedCluster { missing: [right("create"), right("patch")].into(), ..fine() };
    let found = findings_of(&observed, &ResourceOptions::default());
    assert!(
        found
            .iter()
            .all(|one| one.level != Level::Ok || matches!(one.subject, API_SERVER_SUBJECT | "cluster")),
        "{found:?}"
    );
    let (level, text) = worst(&observed, "rights");
    assert_eq!(level, Level::Fail);
    assert!(text.starts_with("cook may not create/patch daemonsets.apps in pantry;"));
}

#[test]
fn what_is_asked_for_covers_what_is_made_and_given() {
    let own = rights::own_permissions("pantry");
    for object in crate::install::manifests::rights("pantry") {
        let kind = crate::install::api::ResourceKind::of(&object).unwrap();
        for verb in ["get", "create", "patch"] {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            let fits = |right: &&rights::Permission| {
                right.verb == verb && right.resource == kind.plural && right.namespace == namespace
            };
            assert!(own.iter().any(|right| fits(&right)), "{verb} {}", kind.plural);
        }
    }
    let operator_permissions =
        rights::summaries(&rights::operator_permissions("pantry").into_iter().collect());
    assert!(
        operator_permissions.iter().any(|one| one == "patch quinistries/status.quinistry.dev in pantry"),
        "{operator_permissions:?}"
    );
}

#[test]
fn old_servers_and_levels_are_told() {
    let old = ObservedCluster { version: ("1".into(), "32".into()), ..fine() };
    assert_eq!(worst(&old, "API server").0, Level::Fail);
    let strict = ObservedCluster { level: Some("baseline".into()), ..fine() };
    let (level, text) = worst(&strict, "Pod Security");
    assert!(level == Level::Note && text.contains("enforces baseline"));
    assert_eq!(worst(&ObservedCluster { level: None, ..fine() }, "Pod Security").0, Level::Ok);
}

#[test]
fn ports_of_others_are_in_the_way_and_our_own_are_not() {
    let taken = |port: Value| ObservedCluster { pods: vec![pod("oven", "a:1", &port)], ..fine() };
    let (level, text) = worst(&taken(json!({"hostPort": 5001})), "ports");
    assert_eq!(level, Level::Fail);
    assert!(text.contains("5001 (kitchen/oven on n1)"), "{text}");
    for free in [
        json!({"hostPort": 5003}),
        json!({"containerPort": 5001}),
        json!({"hostPort": 5001, "protocol": "UDP"}),
        json!({"hostPort": 5001, "hostIP": "192.0.2.1"}),
    ] {
        assert_eq!(worst(&taken(free), "ports").0, Level::Ok);
    }
    let ours = ObservedCluster {
        resources: vec![resource_of("pantry", "1", 5000)],
        ..taken(json!({"hostPort": 5001}))
    };
    assert_eq!(worst(&ours, "ports").0, Level::Ok);
    let other = ObservedCluster { resources: vec![resource_of("cellar", "2", 5003)], ..fine() };
    assert!(worst(&other, "ports").1.contains("cellar/quinistry has 5002 to 5005"));
    let with = |arch: &str| {
        let mut other = resource_of("cellar", "2", 5003);
        other.spec.node_selector.insert("kubernetes.io/arch".into(), arch.into());
        worst(&ObservedCluster { resources: vec![other], ..fine() }, "ports").0
    };
    assert_eq!((with("amd64"), with("arm64")), (Level::Fail, Level::Ok));
    let apart = ObservedCluster { resources: vec![resource_of("cellar", "2", 5004)], ..fine() };
    assert_eq!(worst(&apart, "ports").0, Level::Ok);
}

#[test]
fn nodes_of_other_architectures_are_left_out() {
    let mixed = ObservedCluster {
        nodes: vec![
            fine().nodes.remove(0),
            node("n2", "arm64", "True", &[]),
            node("n3", "amd64", "Unknown", &[]),
        ],
        ..fine()
    };
    let text: Vec<String> = findings_of(&mixed, &ResourceOptions::default())
        .into_iter()
        .filter(|one| one.level == Level::Note)
        .map(|one| one.text)
        .collect();
    assert!(text.iter().any(|text| text.starts_with("n2 are left out")), "{text:?}");
    assert!(text.iter().any(|text| text.starts_with("n3 not ready")), "{text:?}");
    assert!(text.iter().any(|text| text.starts_with("n3 name no image")), "{text:?}");
    let none = ObservedCluster { nodes: vec![node("n2", "arm64", "True", &[])], ..fine() };
    assert_eq!(worst(&none, "nodes").0, Level::Fail);
}

#[test]
fn a_cluster_without_nodes_fails() {
    let (level, text) = worst(&ObservedCluster { nodes: Vec::new(), ..fine() }, "nodes");
    assert!(level == Level::Fail && text.contains("no nodes"), "{text}");
    let list = rights::Permission { verb: "list", group: "", resource: "nodes", namespace: String::new() };
    let unseen = ObservedCluster { nodes: Vec::new(), missing: [list].into(), ..fine() };
    assert!(
        findings_of(&unseen, &ResourceOptions::default()).iter().all(|one| one.subject != "nodes"),
        "they are not seen"
    );
}

#[test]
fn missing_rights_are_one_short_line_and_all_of_them_in_the_details() {
    let missing: std::collections::BTreeSet<_> =
        rights::own_permissions("pantry").into_iter().chain(rights::operator_permissions("pantry")).collect();
    let found =
        findings_of(&ObservedCluster { missing: missing.clone(), ..fine() }, &ResourceOptions::default());
    let finding = found.iter().find(|one| one.subject == "rights").unwrap();
    assert!(finding.text.len() < 300, "{}", finding.text);
    assert_eq!(finding.details, rights::summaries(&missing));
}

#[test]
fn another_operator_over_the_namespace_fails() {
    let with = |name: (&str, &str), arguments: &[&str], replicas| {
        let operator = crate::install::operators::OperatorDeployment {
            namespace: name.0.into(),
            name: name.1.into(),
            release: Some("shelf".into()),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            replicas,
            ..Default::default()
        };
        worst(&ObservedCluster { operators: Some(vec![operator]), ..fine() }, "operators")
    };
    let helm = ("kitchen", "shelf-operator");
    let (level, text) = with(helm, &["operator"], 1);
    assert!(level == Level::Fail && text.contains("kitchen/shelf-operator (Helm release shelf)"), "{text}");
    assert_eq!(with(helm, &["operator", "--namespace=pantry"], 1).0, Level::Fail);
    assert_eq!(with(helm, &["operator", "--namespace=cellar"], 1).0, Level::Ok);
    assert_eq!(with(helm, &["operator"], 0).0, Level::Note);
    let own = ("pantry-operator", "quinistry-operator");
    assert_eq!(with(own, &["operator", "--namespace=pantry"], 1).0, Level::Ok);
    let claimed = ObservedCluster { claim: Some("kitchen/shelf".into()), ..fine() };
    assert!(worst(&claimed, "operators").1.contains("kitchen/shelf has claimed"));
    assert_eq!(worst(&ObservedCluster { operators: None, ..fine() }, "operators").0, Level::Note);
}

#[test]
fn what_others_made_is_not_overwritten() {
    let foreign = vec!["Role pantry/quinistry-operator belongs to the Helm release shelf".into()];
    let (level, text) = worst(&ObservedCluster { foreign, ..fine() }, "objects");
    assert!(level == Level::Fail && text.contains("Helm release shelf"), "{text}");
}

#[test]
fn what_is_newer_is_not_lowered_unless_that_is_asked_for() {
    let version = |observed: &ObservedCluster, downgrade| {
        let payload = payload();
        let request = InstallRequest {
            namespace: "pantry",
            options: &ResourceOptions::default(),
            payload: &payload,
            loads_images: false,
        };
        let found = findings(observed, &request, downgrade).into_iter().find(|one| one.subject == "version");
        found.map(|found| (found.level, found.text))
    };
    let operator = |version: &str| ObservedCluster { operator_version: Some(version.into()), ..fine() };
    assert_eq!(version(&operator("1.2.3"), false), None);
    let (level, text) = version(&operator("1.3.0"), false).unwrap();
    assert!(
        level == Level::Fail && text.contains("operator 1.3.0") && text.contains("--downgrade"),
        "{text}"
    );
    assert_eq!(version(&operator("1.3.0"), true).unwrap().0, Level::Note);
    let mut newer = resource_of("pantry", "1", 5000);
    newer.metadata.annotations = Some([("quinistry.dev/version".into(), "2.0.0".into())].into());
    let generations = ObservedCluster { resources: vec![newer], ..fine() };
    assert!(version(&generations, false).unwrap().1.contains("the generations 2.0.0"));
    let mut definition = crate::install::version::definition();
    assert_eq!(version(&ObservedCluster { definitions: vec![definition.clone()], ..fine() }, false), None);
    definition["metadata"]["annotations"]["quinistry.dev/version"] = "999.0.0".into();
    let defined = ObservedCluster { definitions: vec![definition], ..fine() };
    assert!(version(&defined, false).unwrap().1.contains("the definition 999.0.0"));
}

#[test]
fn carriers_are_what_pods_run_too_but_not_what_needs_a_secret() {
    let bare = || ObservedCluster { nodes: vec![node("n1", "amd64", "True", &[])], ..fine() };
    let open = ObservedCluster { pods: vec![pod("oven", "a:1", &json!({}))], ..bare() };
    assert_eq!(worst(&open, "carriers"), (Level::Ok, "a:1".into()));
    let mut secret = open;
    secret.pods[0].spec.image_pull_secrets = serde_json::from_value(json!([{"name": "key"}])).unwrap();
    assert_eq!(worst(&secret, "carriers").0, Level::Note);
    let options = ResourceOptions { carriers: vec!["b:1".into()], ..ResourceOptions::default() };
    let found = findings_of(&fine(), &options);
    assert!(found.iter().any(|one| one.subject == "carriers" && one.level == Level::Fail));
}

#[test]
fn admission_that_pulls_always_is_told() {
    assert_eq!(worst(&ObservedCluster { policy: Ok("Always".into()), ..fine() }, "admission").0, Level::Fail);
    assert_eq!(worst(&ObservedCluster { policy: Err("away".into()), ..fine() }, "admission").0, Level::Note);
}

#[test]
fn a_resource_that_is_there_is_upgraded() {
    let there = ObservedCluster { resources: vec![resource_of("pantry", "1", 5000)], ..fine() };
    assert!(worst(&there, "resource").1.contains("goes from sha256:2 to"));
    let options = ResourceOptions { base_port: Some(6000), ..ResourceOptions::default() };
    let found = findings_of(&there, &options);
    assert!(found.iter().any(|one| one.subject == "resource" && one.level == Level::Fail));
}
