//! The fields of the rendered objects.

use serde_json::{Value, json};

use super::{S3, config, container, objects, pod};
use crate::chart::helm::{EVERYTHING_OF_REGISTRY, Helm, REGISTRY, of_kind, only, parse, template_of};
use crate::chart::restricted::violations;

fn everything(helm: &Helm) -> Vec<Value> {
    parse(&helm.text(&template_of(REGISTRY, EVERYTHING_OF_REGISTRY)))
}

/// Returns the only object of a kind with a name.
fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = of_kind(objects, kind).into_iter().find(|object| object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("{kind} {name}"))
}

#[test]
fn objects_are_labelled_and_in_the_releases_namespace() {
    let Some(helm) = Helm::find() else { return };
    for object in everything(&helm) {
        let (kind, metadata) = (&object["kind"], &object["metadata"]);
        assert_eq!(metadata["namespace"], "library", "{kind}");
        let label = |name: &str| metadata["labels"][format!("app.kubernetes.io/{name}")].clone();
        assert_eq!(label("name"), "books", "{kind}");
        assert_eq!(label("instance"), "shelf", "{kind}");
        if kind != "Pod" {
            assert_eq!(label("version"), env!("CARGO_PKG_VERSION"), "{kind}");
            assert_eq!(label("managed-by"), "Helm", "{kind}");
        }
    }
}

#[test]
fn the_registry_has_no_right_in_the_kubernetes_api() {
    let Some(helm) = Helm::find() else { return };
    let objects = everything(&helm);
    for kind in ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
    assert_eq!(pod(&objects)["automountServiceAccountToken"], false);
    assert_eq!(only(&objects, "ServiceAccount")["automountServiceAccountToken"], false);
    assert_eq!(only(&objects, "Pod")["spec"]["automountServiceAccountToken"], false);
}

#[test]
fn selectors_agree_and_do_not_change_with_versions() {
    let Some(helm) = Helm::find() else { return };
    let objects = everything(&helm);
    let deployment = &only(&objects, "Deployment")["spec"];
    let selector = &deployment["selector"]["matchLabels"];
    let names: Vec<_> = selector.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/name"];
    assert_eq!(names, expected, "the selector of a Deployment is immutable");
    for service in of_kind(&objects, "Service") {
        assert_eq!(service["spec"]["selector"], *selector);
    }
    for kind in ["NetworkPolicy", "PodDisruptionBudget"] {
        let spec = &only(&objects, kind)["spec"];
        let own = if kind == "NetworkPolicy" { &spec["podSelector"] } else { &spec["selector"] };
        assert_eq!(own["matchLabels"], *selector, "{kind}");
    }
    let mut labels = deployment["template"]["metadata"]["labels"].as_object().unwrap().clone();
    assert_eq!(labels.remove("azure.workload.identity/use").unwrap(), "true");
    assert_eq!(Value::Object(labels), *selector, "a label of a version would restart all pods at once");
    assert_ne!(only(&objects, "Pod")["metadata"]["labels"], *selector, "the test's pod is behind no Service");
}

#[test]
fn metrics_are_not_published_with_the_registry() {
    let Some(helm) = Helm::find() else { return };
    let objects = everything(&helm);
    let ports = |name: &str| named(&objects, "Service", name)["spec"]["ports"].clone();
    assert_eq!(named(&objects, "Service", "bookshelf")["spec"]["type"], "LoadBalancer");
    let expected = json!({"name": "registry", "port": 443, "targetPort": "registry", "appProtocol": "https",
        "nodePort": 30443});
    assert_eq!(ports("bookshelf"), json!([expected]));
    assert_eq!(ports("bookshelf-metrics"), json!([{"name": "debug", "port": 5001, "targetPort": "debug"}]));
    // The ServiceMonitor finds the second Service, and not the first.
    let labels = &only(&objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"];
    let has = |name: &str| {
        let own = &named(&objects, "Service", name)["metadata"]["labels"];
        labels.as_object().unwrap().iter().all(|(key, value)| own[key] == *value)
    };
    assert!(has("bookshelf-metrics") && !has("bookshelf"), "{labels}");
    let endpoint = &only(&objects, "ServiceMonitor")["spec"]["endpoints"][0];
    assert_eq!((&endpoint["port"], &endpoint["path"]), (&json!("debug"), &json!("/metrics")));
    let debug = &config(&objects)["http"]["debug"];
    assert_eq!(*debug, json!({"addr": ":5001", "prometheus": {"enabled": true, "path": "/metrics"}}));
}

#[test]
fn pods_of_a_bucket_are_replaced_one_after_the_other() {
    let Some(helm) = Helm::find() else { return };
    let objects = objects(&helm, &[S3, "replicas=2"]);
    let spec = &only(&objects, "Deployment")["spec"];
    assert_eq!(spec["replicas"], 2);
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    assert_eq!(spec["strategy"], rolling);
    let budget = &only(&objects, "PodDisruptionBudget")["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
    assert_eq!(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    let affinity = &pod(&objects)["affinity"]["podAntiAffinity"];
    let term = &affinity["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
    assert_eq!(term["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(term["labelSelector"]["matchLabels"], spec["selector"]["matchLabels"]);
    assert!(of_kind(&objects, "PersistentVolumeClaim").is_empty());
    assert!(pod(&objects)["volumes"].as_array().unwrap().iter().all(|volume| volume["name"] != "data"));
}

#[test]
fn a_volume_has_one_writer() {
    let Some(helm) = Helm::find() else { return };
    let objects = objects(&helm, &[]);
    let spec = &only(&objects, "Deployment")["spec"];
    assert_eq!((&spec["replicas"], &spec["strategy"]), (&json!(1), &json!({"type": "Recreate"})));
    assert!(of_kind(&objects, "PodDisruptionBudget").is_empty(), "it would only hold up drains");
    let claim = only(&objects, "PersistentVolumeClaim");
    assert_eq!(claim["metadata"]["annotations"], json!({"helm.sh/resource-policy": "keep"}));
    assert!(claim["spec"]["storageClassName"].is_null(), "the cluster's default");
    let volumes = pod(&objects)["volumes"].as_array().unwrap();
    let data = volumes.iter().find(|volume| volume["name"] == "data").unwrap();
    assert_eq!(data["persistentVolumeClaim"]["claimName"], claim["metadata"]["name"]);
    let mounts = container(&objects)["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["name"] == "data").unwrap();
    assert_eq!(mount["mountPath"], config(&objects)["storage"]["filesystem"]["rootdirectory"]);
}

#[test]
fn a_claim_can_be_given_and_an_empty_dir_can_take_its_place() {
    let Some(helm) = Helm::find() else { return };
    let data = |set: &str| {
        let objects = objects(&helm, &[set]);
        assert!(of_kind(&objects, "PersistentVolumeClaim").is_empty(), "{set}");
        let volumes = pod(&objects)["volumes"].as_array().unwrap().clone();
        volumes.into_iter().find(|volume| volume["name"] == "data").unwrap()
    };
    let given = data("storage.filesystem.existingClaim=shelf");
    assert_eq!(given["persistentVolumeClaim"]["claimName"], "shelf");
    assert_eq!(data("storage.filesystem.ephemeral=true")["emptyDir"], json!({}));
}

#[test]
fn several_pods_may_read_one_volume() {
    let Some(helm) = Helm::find() else { return };
    let objects = objects(&helm, &["readOnly=true,replicas=3,storage.filesystem.existingClaim=shelf"]);
    let arguments = json!(["serve", "--read-only", "/etc/quinistry/config/config.yml"]);
    assert_eq!(container(&objects)["args"], arguments);
    assert_eq!(only(&objects, "Deployment")["spec"]["strategy"]["type"], "RollingUpdate");
    let mounts = container(&objects)["volumeMounts"].as_array().unwrap();
    assert_eq!(mounts.iter().find(|mount| mount["name"] == "data").unwrap()["readOnly"], true);
}

#[test]
fn secrets_are_mounted_as_folders_that_the_group_alone_reads() {
    let Some(helm) = Helm::find() else { return };
    let objects = everything(&helm);
    let mounts = container(&objects)["volumeMounts"].as_array().unwrap();
    let mut secrets = 0;
    for volume in pod(&objects)["volumes"].as_array().unwrap() {
        let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).unwrap();
        assert!(mount["subPath"].is_null(), "the kubelet never updates {mount}");
        assert_eq!(mount["readOnly"], true, "{mount}");
        if !volume["secret"].is_null() {
            assert_eq!(volume["secret"]["defaultMode"], 0o440, "{volume}");
            secrets += 1;
        }
    }
    assert_eq!(secrets, 3, "users, certificate, and one of the values");
    assert_eq!(mounts.len(), pod(&objects)["volumes"].as_array().unwrap().len());
}

#[test]
fn pods_are_restricted() {
    let Some(helm) = Helm::find() else { return };
    for objects in [objects(&helm, &[]), objects(&helm, &[S3, "replicas=2"]), everything(&helm)] {
        for pod in [pod(&objects), &only(&objects, "Pod")["spec"]] {
            assert_eq!(violations(pod), [""; 0], "{pod}");
            assert_eq!(pod["enableServiceLinks"], false);
            assert!(pod["securityContext"]["runAsUser"].as_i64().unwrap() > 0);
            for kind in ["containers", "initContainers"] {
                for container in pod[kind].as_array().into_iter().flatten() {
                    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
                    assert!(!container["resources"]["limits"]["memory"].is_null());
                }
            }
        }
    }
}

#[test]
fn an_ingress_and_a_route_lead_to_the_service() {
    let Some(helm) = Helm::find() else { return };
    let objects = everything(&helm);
    let service = named(&objects, "Service", "bookshelf");
    let (name, port) = (&service["metadata"]["name"], &service["spec"]["ports"][0]);
    let ingress = &only(&objects, "Ingress")["spec"];
    assert_eq!(ingress["ingressClassName"], "nginx");
    let rules = ingress["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 2);
    for rule in rules {
        let path = &rule["http"]["paths"][0];
        assert_eq!(path["pathType"], "Prefix");
        assert_eq!(path["backend"]["service"]["name"], *name);
        assert_eq!(path["backend"]["service"]["port"]["name"], port["name"]);
    }
    let route = &only(&objects, "HTTPRoute")["spec"];
    assert_eq!(route["rules"][0]["backendRefs"], json!([{"name": name, "port": port["port"]}]));
    assert_eq!(route["rules"][0]["timeouts"]["request"], "0s");
    assert_eq!(route["parentRefs"][0]["name"], "gateway");
}

#[test]
fn nothing_is_switched_on_that_a_plain_cluster_does_not_know() {
    let Some(helm) = Helm::find() else { return };
    let objects = objects(&helm, &[]);
    for kind in ["NetworkPolicy", "ServiceMonitor", "Ingress", "HTTPRoute"] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
}

#[test]
fn the_network_policy_allows_what_is_needed() {
    let Some(helm) = Helm::find() else { return };
    let spec = |set: &str| {
        let objects = objects(&helm, &["networkPolicy.enabled=true", set]);
        only(&objects, "NetworkPolicy")["spec"].clone()
    };
    let ports = |rules: &Value| -> Vec<Vec<Value>> {
        let ports = |rule: &Value| {
            rule["ports"].as_array().unwrap().iter().map(|port| port["port"].clone()).collect()
        };
        rules.as_array().unwrap().iter().map(ports).collect()
    };
    let volume = spec("replicas=1");
    assert_eq!(volume["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(ports(&volume["ingress"]), [[json!("registry")], [json!("debug")]]);
    assert_eq!(volume["egress"], json!([]), "a registry on a volume connects to nothing");

    let identity = spec(S3);
    let expected = [vec![json!(443)], vec![json!(53), json!(53)], vec![json!(80), json!(988)]];
    assert_eq!(ports(&identity["egress"]), expected, "with the metadata servers");
    let secret = spec(&format!("{S3},storage.credentials.existingSecret=bucket"));
    assert_eq!(ports(&secret["egress"]), expected[..2], "without them");

    let few = spec("networkPolicy.from[0].ipBlock.cidr=10.1.0.0/16");
    let from = few["ingress"][0]["from"].as_array().unwrap();
    assert_eq!(from[0], json!({"ipBlock": {"cidr": "10.1.0.0/16"}}));
    let labels = only(&objects(&helm, &[]), "Pod")["metadata"]["labels"].clone();
    assert_eq!(from[1]["podSelector"]["matchLabels"], labels, "the test's pod");
}

#[test]
fn names_are_short_enough_and_say_whose_they_are() {
    let Some(helm) = Helm::find() else { return };
    let name = |release: &str, set: &str| {
        let rendered = helm.text(&["template", release, REGISTRY, "--set", set]);
        let objects = parse(&rendered);
        for object in &objects {
            assert!(
                object["metadata"]["name"].as_str().unwrap().len() <= 63,
                "{}",
                object["metadata"]["name"]
            );
        }
        only(&objects, "Deployment")["metadata"]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(name("registry", "replicas=1"), "registry");
    assert_eq!(name("my-registry", "replicas=1"), "my-registry");
    assert_eq!(name("shelf", "replicas=1"), "shelf-registry");
    assert_eq!(name("shelf", "nameOverride=books"), "shelf-books");
    assert_eq!(name("shelf", "fullnameOverride=bookcase"), "bookcase");
    // The longest that helm allows.
    assert_eq!(name(&"x".repeat(53), "replicas=1").len(), 55);
}

#[test]
fn notes_are_short_and_can_be_followed() {
    let Some(helm) = Helm::find() else { return };
    let notes = |sets: &str| {
        let args =
            ["install", "shelf", REGISTRY, "--namespace", "library", "--dry-run=client", "--set", sets];
        let text = helm.text(&args);
        let notes = text.split_once("\nNOTES:\n").unwrap().1.trim_end().to_owned();
        assert!(notes.lines().count() <= 12, "{notes}");
        notes
    };
    let plain = notes("replicas=1");
    assert!(plain.contains("deployment/shelf-registry in namespace library, on volume claim"), "{plain}");
    assert!(plain.contains("port-forward service/shelf-registry 5000"), "{plain}");
    assert!(plain.contains("docker push localhost:5000/debian:12"), "{plain}");
    assert!(!plain.contains("docker login") && plain.contains("Everyone who reaches it may push"), "{plain}");
    let users = notes(
        "auth.htpasswd.existingSecret=users,ingress.enabled=true,ingress.hosts[0]=registry.example.com",
    );
    assert!(users.contains("docker login registry.example.com\n"), "{users}");
    assert!(!users.contains("Everyone") && !users.contains("port-forward"), "{users}");
    let bucket = notes(&format!("{S3},replicas=2"));
    assert!(bucket.contains("a bucket (s3)"), "{bucket}");
    assert!(bucket.ends_with("helm test shelf --namespace library"), "{bucket}");
}
