use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::oci::Digest;
use crate::seed::Cut;
use crate::up::wire;

fn shipment() -> Shipment {
    let cut = Cut::new(RESOURCE, [Bytes::from_static(b"cake")].into(), Bytes::new()).unwrap();
    Shipment { cut, digest: Digest::sha256(b"image"), architecture: "amd64" }
}

fn node(name: &str, architecture: &str, ready: &str, images: &[&str]) -> wire::Node {
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

fn pod(name: &str, image: &str, port: &Value) -> wire::Pod {
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

fn fine() -> Observed {
    Observed {
        version: ("1".into(), "36+".into()),
        user: "cook".into(),
        missing: [].into(),
        level: Some("privileged".into()),
        nodes: vec![node("n1", "amd64", "True", &["registry.k8s.io/pause:3.10"])],
        pods: Vec::new(),
        resources: Vec::new(),
        policy: Ok("Never".into()),
    }
}

fn told(observed: &Observed, wishes: &Wishes) -> Vec<Finding> {
    let shipment = shipment();
    findings(observed, &Question { namespace: "pantry", wishes, shipment: &shipment })
}

/// The worst that is said of a subject.
fn worst(observed: &Observed, subject: &str) -> (Level, String) {
    let found = told(observed, &Wishes::default());
    let worst = found.into_iter().filter(|one| one.subject == subject).max_by_key(|one| one.level);
    worst.map_or_else(|| panic!("nothing of {subject}"), |one| (one.level, one.text))
}

#[test]
fn nothing_is_wrong_with_a_good_cluster() {
    let found = told(&fine(), &Wishes::default());
    assert!(found.iter().all(|one| one.level == Level::Ok), "{found:?}");
    assert!(found.iter().any(|one| one.text == "registry.k8s.io/pause:3.10"));
}

#[test]
fn all_rights_that_are_missing_are_told_at_once() {
    let right = |verb| Right { verb, group: "apps", resource: "daemonsets", namespace: "pantry".into() };
    let observed = Observed { missing: [right("create"), right("patch")].into(), ..fine() };
    let (level, text) = worst(&observed, "rights");
    assert_eq!(level, Level::Fail);
    assert!(
        text.starts_with("cook may not create daemonsets.apps in pantry, patch daemonsets.apps in pantry")
    );
}

#[test]
fn what_is_asked_for_covers_what_is_made_and_given() {
    let own = rights::own("pantry");
    for object in crate::up::manifests::rights("pantry") {
        let kind = crate::up::api::Kind::of(&object).unwrap();
        for verb in ["create", "patch"] {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            let fits = |right: &&Right| {
                right.verb == verb && right.resource == kind.plural && right.namespace == namespace
            };
            assert!(own.iter().any(|right| fits(&right)), "{verb} {}", kind.plural);
        }
    }
    assert!(
        rights::given("pantry")
            .iter()
            .any(|right| right.to_string() == "patch quinistries/status.quinistry.dev in pantry")
    );
}

#[test]
fn old_servers_and_levels_are_told() {
    let old = Observed { version: ("1".into(), "29".into()), ..fine() };
    assert_eq!(worst(&old, "API server").0, Level::Fail);
    let strict = Observed { level: Some("baseline".into()), ..fine() };
    let (level, text) = worst(&strict, "Pod Security");
    assert!(level == Level::Note && text.contains("enforces baseline"));
    assert_eq!(worst(&Observed { level: None, ..fine() }, "Pod Security").0, Level::Ok);
}

#[test]
fn ports_of_others_are_in_the_way_and_our_own_are_not() {
    let taken = |port: Value| Observed { pods: vec![pod("oven", "a:1", &port)], ..fine() };
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
    let ours =
        Observed { resources: vec![resource_of("pantry", "1", 5000)], ..taken(json!({"hostPort": 5001})) };
    assert_eq!(worst(&ours, "ports").0, Level::Ok);
    let other = Observed { resources: vec![resource_of("cellar", "2", 5003)], ..fine() };
    assert!(worst(&other, "ports").1.contains("cellar/quinistry has 5002 to 5005"));
    let apart = Observed { resources: vec![resource_of("cellar", "2", 5004)], ..fine() };
    assert_eq!(worst(&apart, "ports").0, Level::Ok);
}

#[test]
fn nodes_of_other_architectures_are_left_out() {
    let mixed = Observed {
        nodes: vec![
            fine().nodes.remove(0),
            node("n2", "arm64", "True", &[]),
            node("n3", "amd64", "Unknown", &[]),
        ],
        ..fine()
    };
    let text: Vec<String> = told(&mixed, &Wishes::default())
        .into_iter()
        .filter(|one| one.level == Level::Note)
        .map(|one| one.text)
        .collect();
    assert!(text.iter().any(|text| text.starts_with("n2 are left out")), "{text:?}");
    assert!(text.iter().any(|text| text.starts_with("n3 not ready")), "{text:?}");
    assert!(text.iter().any(|text| text.starts_with("n3 name no image")), "{text:?}");
    let none = Observed { nodes: vec![node("n2", "arm64", "True", &[])], ..fine() };
    assert_eq!(worst(&none, "nodes").0, Level::Fail);
}

#[test]
fn carriers_are_what_pods_run_too_but_not_what_needs_a_secret() {
    let bare = || Observed { nodes: vec![node("n1", "amd64", "True", &[])], ..fine() };
    let open = Observed { pods: vec![pod("oven", "a:1", &json!({}))], ..bare() };
    assert_eq!(worst(&open, "carriers"), (Level::Ok, "a:1".into()));
    let mut secret = open;
    secret.pods[0].spec.image_pull_secrets = serde_json::from_value(json!([{"name": "key"}])).unwrap();
    assert_eq!(worst(&secret, "carriers").0, Level::Note);
    let wishes = Wishes { carriers: vec!["b:1".into()], ..Wishes::default() };
    let found = told(&fine(), &wishes);
    assert!(found.iter().any(|one| one.subject == "carriers" && one.level == Level::Fail));
}

#[test]
fn admission_that_pulls_always_is_told() {
    assert_eq!(worst(&Observed { policy: Ok("Always".into()), ..fine() }, "admission").0, Level::Fail);
    assert_eq!(worst(&Observed { policy: Err("away".into()), ..fine() }, "admission").0, Level::Note);
}

#[test]
fn a_resource_that_is_there_is_upgraded() {
    let there = Observed { resources: vec![resource_of("pantry", "1", 5000)], ..fine() };
    assert!(worst(&there, "resource").1.contains("goes from sha256:2 to"));
    let wishes = Wishes { base_port: Some(6000), ..Wishes::default() };
    let found = told(&there, &wishes);
    assert!(found.iter().any(|one| one.subject == "resource" && one.level == Level::Fail));
}
