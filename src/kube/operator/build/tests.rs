//! Properties of every `DaemonSet`, for any resource.

use serde_json::json;

use super::*;

const IMAGE: &str = "registry.example.com/larder:1";

fn quinistry(spec: &Value) -> ValidResource {
    let digest = Digest::sha256(b"the image");
    let mut all = json!({"image": IMAGE, "digest": digest.as_str()});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let object = json!({
        "apiVersion": "quinistry.dev/v1alpha1",
        "kind": "Quinistry",
        "metadata": {"name": "larder", "namespace": "pantry", "uid": "uid-larder"},
        "spec": all,
    });
    ValidResource::parse(&serde_json::from_value(object).unwrap()).unwrap()
}

fn built(spec: &Value, generation: i32, digest: Option<&Digest>) -> Value {
    let input = BuildInput { generation, image: IMAGE, digest, max_unavailable: 1, stores: None, seed: None };
    serde_json::to_value(daemon_set(&quinistry(spec), &input)).unwrap()
}

fn pod_of(set: &Value) -> &Value {
    &set["spec"]["template"]["spec"]
}

#[test]
fn pods_satisfy_restricted_in_all_but_the_port_and_the_probes_host() {
    for spec in [json!({}), json!({"network": {"mode": "HostNetwork"}})] {
        let set = built(&spec, 2, None);
        let pod = pod_of(&set);
        let container = &pod["containers"][0];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["enableServiceLinks"], false);
        assert_eq!(pod["terminationGracePeriodSeconds"], 10);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["runAsUser"], 65532);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(
            container["securityContext"],
            json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
                "capabilities": {"drop": ["ALL"]}})
        );
        assert!(container["resources"]["requests"]["memory"].is_string());
        assert!(container["resources"]["limits"]["memory"].is_string());
        assert!(pod.get("volumes").is_none() && pod.get("hostPID").is_none() && pod.get("hostIPC").is_none());
        assert_eq!(set["spec"]["minReadySeconds"].as_i64().unwrap_or(0), 0);
        assert!(set["spec"]["updateStrategy"]["rollingUpdate"].get("maxSurge").is_none());
    }
}

/// Variables such as `REGISTRY_AUTH_HTPASSWD_PATH` configure `serve`: of a Service named `registry`, service links
/// would make some.
#[test]
fn no_variable_configures_a_generation() {
    let executable = Digest::sha256(b"executable");
    let zero = SeedInput { carrier: "main", executable: &executable, part_count: 3 };
    for mode in ["HostPort", "HostNetwork"] {
        for (generation, seed) in [(0, Some(zero)), (1, None), (2, None)] {
            let resource = quinistry(&json!({"network": {"mode": mode}}));
            let input =
                BuildInput { generation, image: IMAGE, digest: None, max_unavailable: 1, stores: None, seed };
            let set = serde_json::to_value(daemon_set(&resource, &input)).unwrap();
            let pod = pod_of(&set);
            assert_eq!(pod["enableServiceLinks"], false, "generation {generation}");
            for key in ["initContainers", "ephemeralContainers"] {
                assert_eq!(pod.get(key), None, "generation {generation}: {key}");
            }
            for container in pod["containers"].as_array().unwrap() {
                for key in ["env", "envFrom"] {
                    assert_eq!(container.get(key), None, "generation {generation}: {key}");
                }
            }
            assert!(!set.to_string().contains("REGISTRY_"), "generation {generation}");
        }
    }
}

#[test]
fn no_mesh_adds_a_sidecar_to_a_generation() {
    let metadata = &built(&json!({}), 2, None)["spec"]["template"]["metadata"];
    assert_eq!(metadata["labels"]["sidecar.istio.io/inject"], "false");
    assert_eq!(metadata["labels"]["kuma.io/sidecar-injection"], "disabled");
    assert_eq!(metadata["annotations"]["linkerd.io/inject"], "disabled");
    assert_eq!(metadata["annotations"]["consul.hashicorp.com/connect-inject"], "false");
}

#[test]
fn a_host_port_binds_loopback_and_the_kubelet_asks_through_it() {
    let digest = Digest::sha256(b"image");
    let set = built(&json!({"basePort": 6000}), 3, Some(&digest));
    let container = &pod_of(&set)["containers"][0];
    assert_eq!(
        container["ports"],
        json!([{"name": "registry", "containerPort": 8080, "hostPort": 6002, "hostIP": "127.0.0.1", "protocol": "TCP"}])
    );
    let asked = &container["readinessProbe"]["httpGet"];
    assert_eq!((&asked["host"], &asked["port"]), (&json!("127.0.0.1"), &json!(6002)));
    assert_eq!(asked["path"], format!("/v2/quinistry/manifests/{digest}"));
    let delays = ["livenessProbe", "readinessProbe"].map(|probe| container[probe].get("initialDelaySeconds"));
    assert_eq!(
        delays,
        [Some(&json!(120)), None],
        "a slow start is not cut off, and a fast one shows at once"
    );
    let alive = &container["livenessProbe"]["httpGet"];
    assert_eq!((alive.get("host"), &alive["port"], &alive["path"]), (None, &json!(8080), &json!("/v2/")));
    let args = json!(["serve", "--listen", "[::]:8080", "--expect-digest", digest.as_str()]);
    assert_eq!(container["args"], args);
}

#[test]
fn host_network_listens_on_loopback_alone() {
    let set = built(&json!({"network": {"mode": "HostNetwork"}, "basePort": 6000}), 2, None);
    let pod = pod_of(&set);
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["containers"][0]["args"], json!(["serve", "--listen", "127.0.0.1:6001"]));
    assert_eq!(pod["containers"][0]["livenessProbe"]["httpGet"]["host"], "127.0.0.1");
}

#[test]
fn pull_policy_and_secrets_are_the_bootstrap_images_alone() {
    let spec = json!({"imagePullPolicy": "Always", "imagePullSecrets": [{"name": "key"}]});
    let (first, second) = (built(&spec, 1, None), built(&spec, 2, None));
    assert_eq!(pod_of(&first)["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(pod_of(&first)["imagePullSecrets"], json!([{"name": "key"}]));
    assert_eq!(pod_of(&second)["containers"][0]["imagePullPolicy"], "IfNotPresent");
    assert!(pod_of(&second).get("imagePullSecrets").is_none());
}

#[test]
fn selectors_hold_the_resource_and_the_generation_and_no_version() {
    let set = built(&json!({}), 2, None);
    let selector = json!({"quinistry.dev/resource": "uid-larder", "quinistry/generation": "2"});
    assert_eq!(set["spec"]["selector"]["matchLabels"], selector);
    let labels = set["spec"]["template"]["metadata"]["labels"].as_object().unwrap();
    assert_eq!(labels["quinistry/role"], "child");
    assert_eq!(labels["k8s-app"], "quinistry");
    // An upgrade of the operator would re-roll all generations.
    assert!(labels.keys().all(|key| !key.contains("version") && !key.contains("helm")), "{labels:?}");
    let text = set.to_string();
    assert!(!text.contains(concat!("\"", env!("CARGO_PKG_VERSION"), "\"")), "{text}");
    let owner = &set["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["uid"], &owner["controller"]), (&json!("uid-larder"), &json!(true)));
    assert!(owner.get("blockOwnerDeletion").is_none());
}

#[test]
fn the_same_gives_the_same_and_anything_else_another_hash() {
    let digest = Digest::sha256(b"image");
    let annotation = |spec: &Value, generation, digest| {
        built(spec, generation, digest)["metadata"]["annotations"][APPLIED].as_str().unwrap().to_owned()
    };
    let plain = annotation(&json!({}), 2, None);
    assert_eq!(plain, annotation(&json!({}), 2, None));
    for other in [
        annotation(&json!({}), 3, None),
        annotation(&json!({}), 2, Some(&digest)),
        annotation(&json!({"priorityClassName": "high"}), 2, None),
        annotation(&json!({"resources": {"limits": {"memory": "64Mi"}}}), 2, None),
        annotation(&json!({"tolerations": [{"operator": "Exists"}]}), 2, None),
        annotation(&json!({"nodeSelector": {"zone": "a"}}), 2, None),
    ] {
        assert_ne!(plain, other);
    }
}

#[test]
fn resources_of_the_user_are_added_to_the_defaults() {
    let set = built(&json!({"resources": {"limits": {"cpu": 1, "memory": "64Mi"}}}), 1, None);
    let resources = &pod_of(&set)["containers"][0]["resources"];
    assert_eq!(resources["limits"], json!({"cpu": "1", "memory": "64Mi"}));
    assert_eq!(resources["requests"], json!({"cpu": "10m", "memory": "24Mi"}));
}

#[test]
fn nodes_that_are_left_out_are_left_out_by_affinity() {
    let set = built(&json!({}), 2, None);
    let required =
        &pod_of(&set)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let terms = required["nodeSelectorTerms"].as_array().unwrap();
    assert_eq!(terms.len(), 1, "terms are alternatives");
    for (key, value) in crate::operator::select::LEFT_OUT {
        let wanted = json!({"key": key, "operator": "NotIn", "values": [value]});
        assert!(terms[0]["matchExpressions"].as_array().unwrap().contains(&wanted), "{terms:?}");
    }
}

#[test]
fn an_added_node_selector_is_an_edit_and_a_pinned_image_is_not() {
    let wanted: apps::DaemonSet = serde_json::from_value(built(&json!({}), 1, None)).unwrap();
    let labels = wanted.metadata.labels.clone().unwrap();
    let edited = |change: fn(&mut Value)| {
        let mut live = serde_json::to_value(&wanted.spec).unwrap();
        change(&mut live["template"]["spec"]);
        covers(&live, &labels, &wanted)
    };
    assert!(edited(|_| {}));
    assert!(edited(|pod| pod["dnsPolicy"] = json!("Default")), "what the server fills in");
    assert!(!edited(|pod| pod["nodeSelector"]["zone"] = json!("a")));
    assert!(!edited(|pod| {
        let affinity = &mut pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let zone = json!({"key": "zone", "operator": "In", "values": ["a"]});
        affinity["nodeSelectorTerms"][0]["matchExpressions"].as_array_mut().unwrap().push(zone);
    }));
    assert!(edited(|pod| {
        let image = pod["containers"][0]["image"].as_str().unwrap().to_owned();
        pod["containers"][0]["image"] = json!(image + "@sha256:aaaa");
    }));
    assert!(!edited(|pod| pod["containers"][0]["image"] = json!("elsewhere")));
}

/// Hashes of objects that earlier versions built: other ones would replace the pods of every cluster at an upgrade.
#[test]
fn without_a_store_generations_are_as_they_were_before_stores() {
    let executable = Digest::sha256(b"executable");
    let digest = Digest::sha256(b"image");
    let zero = SeedInput { carrier: "main", executable: &executable, part_count: 3 };
    let hashes = [(0, Some(zero)), (1, None), (2, None)].map(|(generation, seed)| {
        let resource = quinistry(&json!({"nodeSelector": {"kubernetes.io/arch": "amd64"}}));
        let input = BuildInput {
            generation,
            image: IMAGE,
            digest: Some(&digest),
            max_unavailable: 1,
            stores: None,
            seed,
        };
        let set = daemon_set(&resource, &input);
        assert_eq!(set.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers.len(), 1);
        applied(&set).to_owned()
    });
    assert_eq!(hashes, ["c2316986aaa4489d", "8abcb2bf2243f91b", "cb64743bcdd6460a"]);
}

#[test]
fn generations_of_a_resource_with_stores_ask_them_and_generation_0_does_not() {
    let executable = Digest::sha256(b"executable");
    let zero = SeedInput { carrier: "main", executable: &executable, part_count: 3 };
    let resource = quinistry(&json!({"store": {}}));
    let pod = |generation, stores, seed| {
        let input = BuildInput { generation, image: IMAGE, digest: None, max_unavailable: 1, stores, seed };
        serde_json::to_value(daemon_set(&resource, &input)).unwrap()["spec"]["template"]["spec"].take()
    };
    let with = pod(1, Some("http://[fd00::7]:8080"), None);
    let container = &with["containers"][0];
    assert_eq!(
        container["args"],
        json!([
            "serve",
            "--listen",
            "[::]:8080",
            "--peers",
            "http://[fd00::7]:8080",
            "--names",
            "/etc/quinistry/names/names.json"
        ])
    );
    let mount = json!([{"name": "names", "mountPath": "/etc/quinistry/names", "readOnly": true}]);
    assert_eq!(container["volumeMounts"], mount);
    assert_eq!(
        with["volumes"],
        json!([{"name": "names", "configMap": {"name": "larder-names", "optional": true}}])
    );
    // All else is as without stores.
    let mut without = pod(1, None, None);
    without["volumes"] = with["volumes"].clone();
    for field in ["args", "volumeMounts"] {
        without["containers"][0][field] = container[field].clone();
    }
    assert_eq!(without, with);
    assert!(!pod(0, None, Some(zero)).to_string().contains("names.json"));
}
