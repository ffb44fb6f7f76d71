//! Objects as the API server sends them, unused fields included.

use serde_json::{Value, json};

use super::*;
use crate::operator::resource::WatchedResource;

fn wire_pod(change: impl Fn(&mut Value)) -> ObservedPod {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "larder-gen2-x7", "namespace": "pantry", "uid": "p1", "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"quinistry.dev/resource": "u1", "quinistry/generation": "2"},
            "annotations": {"quinistry.dev/template": "abc"}, "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "c1"},
                {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "larder-gen2", "uid": "s2", "controller": true},
            ],
        },
        "spec": {
            "volumes": [{"name": "anything"}], "restartPolicy": "Always",
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["shelf"]}]},
            ]}}},
            "containers": [
                {"name": "sidecar", "image": "other"},
                {"name": "quinistry", "image": "localhost:5000/quinistry@sha256:1", "imagePullPolicy": "IfNotPresent"},
            ],
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.7",
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"},
                {"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-02T03:04:07Z"},
            ],
            "containerStatuses": [
                {"name": "sidecar", "restartCount": 9, "imageID": "", "state": {}, "lastState": {}},
                {"name": "quinistry", "restartCount": 2, "imageID": "localhost:5000/quinistry@sha256:1", "ready": true,
                    "containerID": "containerd://77",
                    "state": {"running": {"startedAt": "2026-01-02T03:04:06Z"}},
                    "lastState": {"terminated": {"exitCode": 3, "reason": "Error", "message": "not the expected one"}}},
            ],
        },
    });
    change(&mut object);
    let (key, pod) = pod(serde_json::from_value(object).unwrap()).unwrap();
    assert_eq!(key, "pantry/larder-gen2-x7");
    pod
}

fn second(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn only_the_registrys_container_of_a_pod_counts() {
    let pod = wire_pod(|_| {});
    assert_eq!((pod.generation, pod.resource.as_str(), pod.template.as_deref()), (2, "u1", Some("abc")));
    let started = Some(second("2026-01-02T03:04:06Z"));
    assert_eq!(
        pod.start,
        PodStart { uid: "p1".into(), restarts: 2, container: "containerd://77".into(), started }
    );
    assert_eq!(
        pod.controller,
        Some(Controller { kind: "DaemonSet".into(), name: "larder-gen2".into(), uid: "s2".into() })
    );
    assert_eq!(
        (pod.image.as_str(), pod.pull_policy.as_str()),
        ("localhost:5000/quinistry@sha256:1", "IfNotPresent")
    );
    assert_eq!(pod.ready, Some(second("2026-01-02T03:04:07Z")));
    assert_eq!(pod.running, Some(second("2026-01-02T03:04:06Z")));
    assert_eq!(pod.ended, Some((3, "not the expected one".into())));
    assert_eq!((pod.waiting, pod.unschedulable, pod.ip.as_deref()), (None, None, Some("10.0.0.7")));
    assert_eq!(pod.node.as_deref(), Some("shelf"), "before it is scheduled, the node that it is meant for");
    assert_eq!(wire_pod(|pod| pod["spec"]["nodeName"] = json!("rack")).node.as_deref(), Some("rack"));
}

#[test]
fn a_pod_without_status_is_reduced() {
    let pod = wire_pod(|pod| pod["status"] = json!({"phase": "Pending"}));
    assert_eq!((pod.ready, pod.running, pod.ended, pod.ip), (None, None, None, None));
    assert_eq!(pod.start.restarts, 0);
}

#[test]
fn the_clusters_message_about_a_waiting_pod_is_kept() {
    let pod = wire_pod(|pod| {
        pod["status"]["containerStatuses"][1]["state"] =
            json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}});
    });
    assert_eq!(pod.waiting, Some(("ImagePullBackOff".into(), "Back-off pulling image".into())));
    let pod = wire_pod(|pod| {
        pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False",
            "message": "0/3 nodes are available: 1 node(s) didn't have free ports"}]);
    });
    assert!(pod.unschedulable.unwrap().contains("free ports"));
}

#[test]
fn a_new_container_is_a_new_start_even_with_the_same_restart_count() {
    let start =
        |change: fn(&mut Value)| wire_pod(|pod| change(&mut pod["status"]["containerStatuses"][1])).start;
    let known = start(|_| {});
    assert_ne!(
        known,
        start(|status| status["state"]["running"]["startedAt"] = json!("2026-01-02T03:09:06Z"))
    );
    assert_ne!(known, start(|status| status["containerID"] = json!("containerd://78")));
    assert_eq!(known, start(|status| status["ready"] = json!(false)));
}

#[test]
fn a_controller_of_another_kind_is_not_a_daemon_set() {
    let controller =
        |owner: Value| wire_pod(|pod| pod["metadata"]["ownerReferences"] = json!([owner])).controller;
    let owner = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "larder", "uid": "s1"});
    assert_eq!(controller(owner), None, "an owner that does not control it");
    let owner =
        json!({"apiVersion": "v1", "kind": "ReplicaSet", "name": "larder", "uid": "s1", "controller": true});
    assert!(controller(owner).is_some_and(|controller| controller.kind != "DaemonSet"));
}

#[test]
fn a_config_map_with_copied_labels_is_no_part_of_a_seed() {
    let part = |name: &str| {
        let object = json!({"metadata": {"name": name, "namespace": "pantry", "uid": "c1",
            "labels": {"quinistry.dev/name": "larder", "quinistry.dev/seed": "0123"}}});
        part(serde_json::from_value(object).unwrap()).is_some()
    };
    assert!(part("larder-seed-0123-stub") && part("larder-seed-0123-007"));
    assert!(!part("larder-config") && !part("larder-seed-01234-stub") && !part("other-seed-0123-stub"));
}

#[test]
fn pods_and_sets_of_others_are_ignored() {
    let stranger = json!({"metadata": {"name": "a", "namespace": "b", "uid": "c", "labels": {"app": "d"}}});
    assert!(pod(serde_json::from_value(stranger.clone()).unwrap()).is_none());
    assert!(daemon_set(serde_json::from_value(stranger).unwrap()).is_none());
}

#[test]
fn a_set_is_settled_when_its_controller_has_seen_the_newest_of_it() {
    let set = |observed: i64| {
        let object = json!({
            "metadata": {
                "name": "larder", "namespace": "pantry", "uid": "s1", "generation": 4, "resourceVersion": "77",
                "labels": {"quinistry/generation": "7"},
                "ownerReferences": [{"apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry", "name": "larder",
                    "uid": "u1", "controller": true}],
                "managedFields": [
                    {"manager": "quinistry-operator", "operation": "Apply", "time": "2026-01-02T00:00:00Z"},
                    {"manager": "kcm", "operation": "Update", "subresource": "status", "time": "2026-01-03T00:00:00Z"},
                ],
            },
            "spec": {"selector": {"matchLabels": {"quinistry/generation": "1"}}, "template": {}},
            "status": {"observedGeneration": observed, "desiredNumberScheduled": 3, "numberReady": 1},
        });
        daemon_set(serde_json::from_value(object).unwrap()).unwrap().1
    };
    assert!(!set(3).is_observed && set(4).is_observed);
    let set = set(4);
    assert_eq!((set.owner.as_str(), set.generation, set.version, set.desired), ("u1", 1, 77, 3));
    assert_eq!(set.changed, second("2026-01-02T00:00:00Z"), "the status is no change of the specification");
}

#[test]
fn a_nodes_readiness_comes_from_its_kubelet() {
    let node = |status: &str| {
        let object = json!({
            "metadata": {"name": "shelf", "labels": {"zone": "a"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"podCIDR": "10.0.0.0/24", "taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {"conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": status, "lastTransitionTime": "2026-01-02T00:00:00Z"},
            ], "images": [{"names": ["a"]}]},
        });
        super::node(serde_json::from_value(object).unwrap()).unwrap().1
    };
    assert!(node("True").ready && !node("False").ready && !node("Unknown").ready);
    assert_eq!(node("True").since, second("2026-01-02T00:00:00Z"));
    assert_eq!(node("True").taints, [("k".into(), String::new(), "NoSchedule".into())]);
    let bare = super::node(serde_json::from_value(json!({"metadata": {"name": "new"}})).unwrap()).unwrap().1;
    assert!(!bare.ready);
}

#[test]
fn the_clusters_messages_about_an_ended_or_unready_pod_are_kept() {
    let pod = wire_pod(|pod| {
        pod["status"]["phase"] = json!("Failed");
        pod["status"]["reason"] = json!("Evicted");
        pod["status"]["message"] = json!("The node was low on resource: memory");
    });
    assert_eq!(pod.failed.as_deref(), Some("Evicted: The node was low on resource: memory"));
    let pod = wire_pod(|pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:05:00Z");
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "ContainersNotReady",
            "message": "containers with unready status: [sidecar]"}]);
    });
    assert_eq!(pod.unready.as_deref(), Some("containers with unready status: [sidecar]"));
    assert_eq!((pod.deleting, pod.ends), (true, Some(second("2026-01-02T03:05:00Z"))));
    let pod = wire_pod(|pod| {
        pod["status"]["conditions"] =
            json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]);
    });
    assert_eq!(pod.unschedulable.as_deref(), Some("SchedulingGated"));
}

#[test]
fn the_newest_event_counts_unless_something_happened_after_it() {
    let event = |note: &str, at: &str, repeated: Option<&str>| -> types::Event {
        let series = repeated.map(|at| json!({"count": 9, "lastObservedTime": at}));
        serde_json::from_value(json!({
            "metadata": {"name": note}, "note": note, "reason": "FailedCreate", "type": "Warning",
            "eventTime": null, "deprecatedLastTimestamp": at, "series": series,
        }))
        .unwrap()
    };
    let all = || {
        let mut all = vec![
            event("forbidden", "2026-01-02T03:00:00Z", None),
            event("quota", "2026-01-02T03:00:05Z", Some("2026-01-02T04:00:00.000000Z")),
        ];
        all.extend((0..30).map(|_| event("older", "2026-01-02T02:00:00Z", None)));
        all
    };
    assert_eq!(newest(all(), second("2026-01-02T01:00:00Z")), Some("quota".into()));
    assert_eq!(newest(all(), second("2026-01-02T04:00:01Z")), None, "a pod was made since");
    assert_eq!(newest(Vec::new(), second("2026-01-02T01:00:00Z")), None);
}

fn rival(name: &str, uid: &str) -> Arc<Rival> {
    let metadata = json!({"name": name, "namespace": "pantry", "uid": uid});
    let object = json!({"metadata": metadata, "spec": {"image": "a"}});
    let watched = WatchedResource::new(serde_json::from_value(object).unwrap()).unwrap();
    watched.rival().unwrap().clone()
}

#[test]
fn a_resource_has_ports_as_long_as_a_set_of_its_own_is_there() {
    let resource = |name: &str, uid: &str| rival(name, uid);
    let set = |name: &str, owner: &str, uid: &str| {
        let object = json!({
            "metadata": {"name": name, "namespace": "pantry", "uid": uid, "creationTimestamp": "2026-01-02T00:00:00Z",
                "ownerReferences": [{"apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry", "name": "x",
                    "uid": owner, "controller": true}]},
            "spec": {"selector": {"matchLabels": {"quinistry/generation": "2"}}},
        });
        Arc::new(daemon_set(serde_json::from_value(object).unwrap()).unwrap().1)
    };
    let resources = [resource("larder", "u1"), resource("cellar", "u2"), resource("attic", "u3")];
    let sets = [set("larder-gen2", "u1", "s2"), set("cellar-gen2", "u2", "s3"), set("other", "u3", "s4")];
    let held = holdings(&resources, &sets, &[Arc::new(wire_pod(|_| {}))]);
    let since = second("2026-01-02T00:00:00Z");
    assert_eq!(
        held,
        BTreeMap::from([
            ("u1".into(), Holding { since, has_pods: true, serves_seed: false }),
            ("u2".into(), Holding { since, has_pods: false, serves_seed: false }),
        ])
    );
}

#[test]
fn a_resource_serves_its_seed_when_a_pod_of_generation_0_is_ready() {
    let object = json!({
        "metadata": {"name": "larder-gen0", "namespace": "pantry", "uid": "s2", "creationTimestamp": "2026-01-02T00:00:00Z",
            "ownerReferences": [{"apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry", "name": "x", "uid": "u1",
                "controller": true}]},
        "spec": {"selector": {"matchLabels": {"quinistry/generation": "0", "quinistry.dev/carrier": "main"}}},
    });
    let sets = [Arc::new(daemon_set(serde_json::from_value(object).unwrap()).unwrap().1)];
    let serves = |ready: &str| {
        let pod = wire_pod(|pod| {
            pod["metadata"]["labels"]["quinistry/generation"] = "0".into();
            pod["status"]["conditions"][1]["status"] = ready.into();
        });
        holdings(&[rival("larder", "u1")], &sets, &[Arc::new(pod)])["u1"].serves_seed
    };
    assert!(serves("True") && !serves("False"));
}
