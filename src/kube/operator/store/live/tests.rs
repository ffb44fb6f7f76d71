//! Objects as the API server sends them: owners, edits, and pods.

use serde_json::json;

use super::*;
use crate::crd::StoreSpec;
use crate::operator::store::objects::{network_policy, service};
use crate::operator::store::set::{SetInput, daemon_set};

fn quinistry() -> ValidResource {
    let object = json!({
        "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry",
        "metadata": {"name": "larder", "namespace": "pantry", "uid": "u1"},
        "spec": {"image": "registry.example.com/larder:1", "store": {"copies": 2}},
    });
    ValidResource::parse(&serde_json::from_value(object).unwrap()).unwrap()
}

fn wanted(kind: StoreKind) -> WantedObject {
    let quinistry = quinistry();
    let store: &StoreSpec = quinistry.spec.store.as_ref().unwrap();
    let nodes = ["a".to_owned(), "b".to_owned()];
    match kind {
        StoreKind::Service => service(&quinistry, None, None),
        StoreKind::NetworkPolicy => network_policy(&quinistry),
        StoreKind::DaemonSet => {
            daemon_set(&quinistry, store, SetInput { image: "i", url: "http://10.0.0.1:8080", nodes: &nodes })
        }
    }
}

/// Returns an object as the server has it after an apply, and after an edit.
fn live(kind: StoreKind, edit: impl FnOnce(&mut Value)) -> LiveObject {
    let mut object = wanted(kind).object;
    object["metadata"]["uid"] = json!("u2");
    object["metadata"]["resourceVersion"] = json!("7");
    edit(&mut object);
    let metadata = serde_json::from_value(object["metadata"].take()).unwrap();
    LiveObject::new(metadata, object["spec"].take(), "u1", &BTreeSet::new())
}

#[track_caller]
fn matches(kind: StoreKind, edit: impl FnOnce(&mut Value)) -> bool {
    live(kind, edit).matches(&wanted(kind))
}

#[test]
fn what_the_server_adds_is_no_edit() {
    assert!(matches(StoreKind::Service, |object| {
        object["spec"]["clusterIP"] = json!("10.0.0.1");
        object["spec"]["sessionAffinity"] = json!("None");
        object["spec"].as_object_mut().unwrap().remove("publishNotReadyAddresses");
    }));
    assert!(matches(StoreKind::NetworkPolicy, |_| {}));
    assert!(matches(StoreKind::DaemonSet, |object| {
        object["spec"]["template"]["spec"]["schedulerName"] = json!("default-scheduler");
    }));
}

#[test]
fn an_edit_of_another_writer_is_seen() {
    for edit in [
        |object: &mut Value| object["spec"]["selector"]["more"] = json!("x"),
        |object: &mut Value| object["spec"]["type"] = json!("NodePort"),
        |object: &mut Value| object["spec"]["publishNotReadyAddresses"] = json!(true),
        |object: &mut Value| object["spec"]["ports"][0]["targetPort"] = json!(8090),
        |object: &mut Value| object["metadata"]["annotations"][APPLIED] = json!("0"),
        |object: &mut Value| object["metadata"]["ownerReferences"] = json!([]),
        |object: &mut Value| object["metadata"]["labels"]["k8s-app"] = json!("other"),
    ] {
        assert!(!matches(StoreKind::Service, edit));
    }
    let push_port = json!({"port": 8090, "protocol": "TCP"});
    assert!(!matches(StoreKind::NetworkPolicy, |object| {
        object["spec"]["ingress"][0]["ports"].as_array_mut().unwrap().push(push_port);
    }));
    assert!(!matches(StoreKind::NetworkPolicy, |object| {
        object["spec"]["podSelector"]["matchLabels"]["more"] = json!("x");
    }));
    let terms = "/spec/template/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    assert!(!matches(StoreKind::DaemonSet, |object| {
        let terms = object.pointer_mut(terms).unwrap().as_array_mut().unwrap();
        terms.push(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["c"]}]}));
    }));
    assert!(!matches(StoreKind::DaemonSet, |object| {
        object["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["serve"]);
    }));
}

#[test]
fn changes_of_admission_are_accepted_while_nothing_else_changes() {
    let mut object = live(StoreKind::DaemonSet, |object| {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("mirror.example.com/i");
    });
    assert!(!object.matches(&wanted(StoreKind::DaemonSet)));
    object.is_accepted = true;
    assert!(object.matches(&wanted(StoreKind::DaemonSet)));
    object.applied = Some("another".into());
    assert!(!object.matches(&wanted(StoreKind::DaemonSet)));
}

#[test]
fn the_owner_is_told_by_the_controller_and_not_by_a_label() {
    let of = |edit: fn(&mut Value)| live(StoreKind::Service, edit).ownership;
    assert_eq!(of(|_| {}), Ownership::Own);
    assert_eq!(of(|object| object["metadata"]["labels"] = json!({})), Ownership::Own, "it lost its labels");
    assert_eq!(
        of(|object| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
        Ownership::Leaving
    );
    assert_eq!(
        of(|object| object["metadata"]["ownerReferences"][0]["uid"] = json!("old")),
        Ownership::Leaving
    );
    let foreign = of(|object| {
        object["metadata"]["ownerReferences"] = json!([]);
        object["metadata"]["labels"] = json!({});
    });
    assert_eq!(foreign, Ownership::Foreign("was not made for this resource".into()));
}

#[test]
fn a_pod_of_a_store_tells_why_it_does_not_start_and_others_are_none() {
    let pod = |role: &str| -> types::Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "larder-store-x", "namespace": "pantry", "uid": "p1",
                "labels": {ROLE: role, RESOURCE: "u1"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "larder-store", "uid": "u2",
                    "controller": true}]},
            "spec": {"nodeName": "a"},
            "status": {
                "initContainerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                    "lastState": {"terminated": {"exitCode": 1, "message": "error: permission denied\n"}}}],
                "containerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}],
            },
        }))
        .unwrap()
    };
    let (key, view) = super::pod(&pod("store")).unwrap();
    assert_eq!(key, "pantry/larder-store-x");
    assert_eq!((view.node.as_deref(), view.controller.as_deref()), (Some("a"), Some("u2")));
    assert_eq!(view.problem.as_deref(), Some("CrashLoopBackOff: error: permission denied"));
    assert!(super::pod(&pod("child")).is_none());
    assert!(crate::operator::observe::pod(pod("store")).is_none(), "no store is a generation");
}
