use serde::de::DeserializeOwned;
use serde_json::json;

use super::*;
use crate::lenient::{Guarded, each_nulled};

fn reads<T: DeserializeOwned>(object: &Value) {
    let copies = each_nulled(object);
    assert!(copies.len() > 5, "{object}");
    for copy in copies {
        let Guarded(read) = serde_json::from_str::<Guarded<T>>(&copy.to_string()).unwrap();
        assert!(read.is_ok(), "{:?}: {copy}", read.err());
    }
}

#[test]
fn null_means_empty_in_every_field_of_every_kind() {
    let metadata = json!({
        "name": "n", "namespace": "s", "uid": "u", "resourceVersion": "1", "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"}, "annotations": {"a": "b"},
        "ownerReferences": [{"apiVersion": "v", "kind": "k", "name": "n", "uid": "u", "controller": true}],
        "managedFields": [{"manager": "m", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {}}}],
        "finalizers": ["f"],
    });
    let condition = json!({
        "type": "Ready", "status": "True", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    reads::<Node>(&json!({
        "metadata": metadata,
        "spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]},
        "status": {
            "conditions": [condition], "images": [{"names": ["a", "b"], "sizeBytes": 1}],
            "nodeInfo": {"architecture": "a", "operatingSystem": "o", "containerRuntimeVersion": "c"},
        },
    }));
    let requirement = json!({"key": "metadata.name", "operator": "In", "values": ["n1"]});
    let state = json!({
        "waiting": {"reason": "r", "message": "m"}, "running": {"startedAt": "2026-01-01T00:00:00Z"},
        "terminated": {"exitCode": 1, "message": "m"},
    });
    let container = json!({
        "name": "c", "image": "i", "imagePullPolicy": "p",
        "ports": [{"hostPort": 5000, "hostIP": "127.0.0.1", "protocol": "TCP"}],
    });
    reads::<Object>(&json!({"metadata": metadata}));
    reads::<Pod>(&json!({
        "metadata": metadata,
        "spec": {
            "nodeName": "n1", "containers": [container], "initContainers": [container],
            "imagePullSecrets": [{"name": "s"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [requirement]}],
            }}},
        },
        "status": {
            "phase": "Running", "reason": "r", "message": "m", "podIP": "10.0.0.1", "conditions": [condition],
            "containerStatuses": [
                {"name": "c", "restartCount": 1, "imageID": "i", "state": state, "lastState": state},
            ],
        },
    }));
    reads::<DaemonSet>(&json!({
        "metadata": metadata, "spec": {"selector": {"matchLabels": {"a": "b"}}},
        "status": {"observedGeneration": 1, "desiredNumberScheduled": 2},
    }));
    reads::<ConfigMap>(&json!({"metadata": metadata, "immutable": true, "binaryData": {"a": "AAAA"}}));
    reads::<Event>(&json!({
        "metadata": metadata, "note": "n", "eventTime": "2026-01-01T00:00:00.000000Z",
        "deprecatedLastTimestamp": "2026-01-01T00:00:00Z", "type": "Warning", "reason": "r",
        "series": {"lastObservedTime": "2026-01-01T00:00:00.000000Z"},
    }));
    reads::<Quinistry>(&json!({"metadata": metadata, "spec": {"image": "i"}, "status": {"ready": "1/1"}}));
}
