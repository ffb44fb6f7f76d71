//! Objects of the stores, as they are applied.

use super::*;

#[test]
fn the_service_and_the_policy_lead_to_the_stores_alone() {
    let scene = Scene::new(&json!({}), &["a"]);
    let selector = json!({"quinistry.dev/resource": "u1", "quinistry/role": "store"});
    let service = crate::operator::store::objects::service(&scene.quinistry, None, None).object;
    assert_eq!(
        service["spec"],
        json!({"type": "ClusterIP", "selector": selector, "publishNotReadyAddresses": false,
            "ports": [{"name": "registry", "port": 8080, "targetPort": 8080, "protocol": "TCP"}]})
    );
    let policy = crate::operator::store::objects::network_policy(&scene.quinistry).object;
    assert_eq!(
        policy["spec"],
        json!({"podSelector": {"matchLabels": selector}, "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": 8080, "protocol": "TCP"}]}]})
    );
    for object in [service, policy] {
        assert_eq!(object["metadata"]["name"], "larder-store");
        assert_eq!(object["metadata"]["ownerReferences"][0]["controller"], true);
    }
}

#[test]
fn a_store_is_a_pod_with_these_settings() {
    let scene = Scene::new(&json!({"path": "/srv/blobs"}), &["a", "b"]);
    let set = scene.set();
    let selector = json!({"quinistry.dev/resource": "u1", "quinistry/role": "store"});
    assert_eq!(set["spec"]["selector"]["matchLabels"], selector);
    assert_eq!(set["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
    let metadata = &set["spec"]["template"]["metadata"];
    assert!(metadata["labels"].get("quinistry/generation").is_none(), "it is no generation");
    assert_eq!(metadata["labels"]["sidecar.istio.io/inject"], "false");
    let pod = &set["spec"]["template"]["spec"];
    let image = format!("localhost:6000/quinistry@{DIGEST}");
    let locked = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]}});
    let container = &pod["containers"][0];
    assert_eq!(
        container["args"],
        json!([
            "serve",
            "--listen",
            "[::]:8080",
            "--storage",
            "/data",
            "--peers",
            "http://10.96.0.7:8080",
            "--names",
            "/etc/quinistry/names/names.json",
            "--keep-named",
            "--push-listen",
            "127.0.0.1:8090"
        ])
    );
    assert_eq!((&container["image"], &container["imagePullPolicy"]), (&json!(image), &json!("IfNotPresent")));
    assert_eq!(container["securityContext"], locked);
    assert_eq!(
        container["readinessProbe"]["httpGet"],
        json!({"path": "/readyz", "port": 8080, "scheme": "HTTP"})
    );
    assert_eq!(
        container["ports"],
        json!([{"name": "registry", "containerPort": 8080, "protocol": "TCP"}]),
        "no host port"
    );
    let preparation = &pod["initContainers"][0];
    assert_eq!(
        preparation["args"],
        json!(["prepare-storage", "--storage", "/data", "--owner", "65532:65532"])
    );
    assert_eq!(
        preparation["securityContext"],
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": false,
            "runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}})
    );
    assert_eq!(preparation["image"], container["image"]);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(
        pod["volumes"],
        json!([{"name": "data", "hostPath": {"path": "/srv/blobs", "type": "DirectoryOrCreate"}},
            {"name": "names", "configMap": {"name": "larder-names", "optional": true}}])
    );
    assert_eq!(
        container["volumeMounts"],
        json!([{"name": "data", "mountPath": "/data"},
            {"name": "names", "mountPath": "/etc/quinistry/names", "readOnly": true}])
    );
    assert_eq!(preparation["volumeMounts"], json!([{"name": "data", "mountPath": "/data"}]));
    let term = |name| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
    assert_eq!(
        pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"],
        json!([term("a"), term("b")])
    );
    assert!(pod.get("nodeSelector").is_none());
    assert_eq!(pod["tolerations"][0]["key"], "a");
    assert_eq!(pod["priorityClassName"], "high");
    assert_eq!(nodes::chosen(&set["spec"]), ["a", "b"].map(String::from).into());
}
