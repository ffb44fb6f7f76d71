//! The fields of the rendered objects.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use clap::Parser as _;
use quinistry::cli::Cli;
use quinistry::layout::Layout;
use serde_json::{Value, json};

use crate::chart::helm::{DEFINITION_FILES, EVERYTHING, Helm, of_kind, only, parse_file, root};

fn operator(objects: &[Value]) -> &Value {
    let containers = &only(objects, "Deployment")["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers.as_array().unwrap().len(), 1);
    &containers[0]
}

#[test]
fn the_definitions_are_those_in_crds() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(&[]);
    let rendered = of_kind(&objects, "CustomResourceDefinition");
    assert_eq!(rendered.len(), DEFINITION_FILES.len());
    for (mut rendered, (copy, original)) in rendered.into_iter().cloned().zip(DEFINITION_FILES) {
        // A file and no link, which tools that fetch the chart's folder alone would lose, as Flux does.
        let copy = root().join("charts/quinistry").join(copy);
        assert!(copy.symlink_metadata().unwrap().is_file());
        let bytes = std::fs::read(root().join(original)).unwrap();
        assert!(std::fs::read(&copy).unwrap() == bytes, "copy {original} to {}", copy.display());

        let metadata = rendered["metadata"].as_object_mut().unwrap();
        assert!(metadata.remove("labels").is_some());
        assert_eq!(metadata.remove("annotations").unwrap(), json!({"helm.sh/resource-policy": "keep"}));
        assert_eq!(rendered, parse_file(original));
    }
}

#[test]
fn the_definitions_can_be_left_out_and_can_be_taken_away() {
    let Some(helm) = Helm::find() else { return };
    assert!(of_kind(&helm.objects(&["--set", "crds.enabled=false"]), "CustomResourceDefinition").is_empty());
    let objects = helm.objects(&["--set", "crds.keep=false"]);
    let definitions = of_kind(&objects, "CustomResourceDefinition");
    assert!(definitions.iter().all(|definition| definition["metadata"]["annotations"].is_null()));
}

#[test]
fn there_is_no_resource_beside_its_definition() {
    let Some(helm) = Helm::find() else { return };
    for args in [&[] as &[&str], EVERYTHING] {
        let objects = helm.objects(args);
        for kind in ["Quinistry", "Bundle"] {
            assert!(of_kind(&objects, kind).is_empty(), "{kind} could not be installed in one go");
        }
    }
}

#[test]
fn without_an_election_an_upgrade_stops_the_last_operator_first() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(&["--set", "leaderElection.enabled=false"]);
    let spec = &only(&objects, "Deployment")["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["strategy"], json!({"type": "Recreate"}));
    for kind in ["PodDisruptionBudget", "Role"] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
}

#[test]
fn one_operator_stands_for_election_too() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(&[]);
    assert_eq!(only(&objects, "Deployment")["spec"]["replicas"], 1);
    let arguments = operator(&objects)["args"].clone();
    assert_eq!(arguments, json!(["operator", "--leader-elect", "--lease-name=shelf-quinistry-operator"]));
}

#[test]
fn two_operators_elect_one_and_keep_apart() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(&["--set", "replicas=2"]);
    let spec = &only(&objects, "Deployment")["spec"];
    assert_eq!(spec["replicas"], 2);
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    );
    let container = operator(&objects);
    assert_eq!(
        container["args"],
        json!(["operator", "--leader-elect", "--lease-name=shelf-quinistry-operator"])
    );
    // Two operators of one name would both take the Lease for theirs.
    let name = json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}});
    assert!(container["env"].as_array().unwrap().contains(&name));

    let labels = &spec["selector"]["matchLabels"];
    let budget = &only(&objects, "PodDisruptionBudget")["spec"];
    assert_eq!((&budget["maxUnavailable"], &budget["selector"]["matchLabels"]), (&json!(1), labels));
    let affinity = &spec["template"]["spec"]["affinity"]["podAntiAffinity"];
    let term = &affinity["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
    assert_eq!(term["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(&term["labelSelector"]["matchLabels"], labels);

    // An affinity in the values replaces the default as a whole.
    let own = "replicas=2,affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey=zone";
    let affinity =
        only(&helm.objects(&["--set", own]), "Deployment")["spec"]["template"]["spec"]["affinity"].clone();
    assert_eq!(affinity["podAntiAffinity"].as_object().unwrap().len(), 1, "{affinity}");
}

#[test]
fn a_digest_goes_before_a_tag() {
    let Some(helm) = Helm::find() else { return };
    let digest = format!("sha256:{}", "0".repeat(64));
    for (set, image) in [
        ("replicas=1".into(), concat!("ghcr.io/quinistry/quinistry:", env!("CARGO_PKG_VERSION")).into()),
        ("image.repository=localhost:5000/q,image.tag=x".into(), "localhost:5000/q:x".into()),
        (format!("image.digest={digest}"), format!("ghcr.io/quinistry/quinistry@{digest}")),
        (format!("image.digest={digest},image.tag=x"), format!("ghcr.io/quinistry/quinistry@{digest}")),
    ] as [(String, String); 4]
    {
        let objects = helm.objects(&["--set", &set]);
        assert_eq!(operator(&objects)["image"], image);
        // No other image may be at hand.
        assert_eq!(only(&objects, "Pod")["spec"]["containers"][0]["image"], image);
    }
}

#[test]
fn the_image_that_is_saved_for_nodes_is_the_image_that_is_installed() {
    let Some(helm) = Helm::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.tar");
    let mut quinistry = Command::new(env!("CARGO_BIN_EXE_quinistry"));
    let output = quinistry.args(["image", "save", "--bootstrap"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let layout = Layout::open(&path).unwrap();
    let [saved] = layout.roots() else { panic!("there is one image") };
    let saved = saved.name.as_deref().unwrap();
    assert_eq!(operator(&helm.objects(&[]))["image"], saved);
    // And the one that the first resource asks for.
    assert_eq!(parse_file("e2e/generation.yaml")["spec"]["image"], saved);
}

#[test]
fn what_containers_are_started_with_the_program_understands() {
    let Some(helm) = Helm::find() else { return };
    for set in [&[] as &[&str], &["--set", "watchNamespace=reading-room"], EVERYTHING] {
        let objects = helm.objects(set);
        for container in [operator(&objects), &only(&objects, "Pod")["spec"]["containers"][0]] {
            assert!(container["command"].is_null(), "the image names the program by itself");
            let args: Vec<String> = serde_json::from_value(container["args"].clone()).unwrap();
            let parsed = Cli::try_parse_from([&["quinistry".to_owned()], &args[..]].concat());
            assert!(parsed.is_ok(), "{args:?}: {}", parsed.unwrap_err());
        }
    }
}

#[test]
fn the_operator_is_told_which_namespace_to_watch() {
    let Some(helm) = Helm::find() else { return };
    let arguments = |set: &str| operator(&helm.objects(&["--set", set]))["args"].clone();
    assert_eq!(arguments("leaderElection.enabled=false"), json!(["operator"]));
    assert_eq!(
        arguments("leaderElection.enabled=false,watchNamespace=reading-room"),
        json!(["operator", "--namespace=reading-room"])
    );
}

#[test]
fn probes_and_metrics_share_a_port() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(EVERYTHING);
    let container = operator(&objects);
    assert_eq!(container["ports"], json!([{"name": "metrics", "containerPort": 8081}]));
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "metrics"}));
    }
    let ports = &only(&objects, "Service")["spec"]["ports"];
    assert_eq!(*ports, json!([{"name": "metrics", "port": 8081, "targetPort": "metrics"}]));
    assert_eq!(only(&objects, "ServiceMonitor")["spec"]["endpoints"][0]["port"], "metrics");
}

#[test]
fn nothing_is_switched_on_that_a_plain_cluster_does_not_know() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(&[]);
    for kind in ["NetworkPolicy", "ServiceMonitor", "PrometheusRule"] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
}

#[test]
fn the_network_policy_allows_what_is_needed() {
    let Some(helm) = Helm::find() else { return };
    let spec = |set: &str| {
        let set = format!("networkPolicy.enabled=true,{set}");
        only(&helm.objects(&["--set", &set]), "NetworkPolicy")["spec"].clone()
    };
    let ports = |rule: &Value| -> Vec<i64> {
        rule["ports"].as_array().unwrap().iter().map(|port| port["port"].as_i64().unwrap()).collect()
    };
    let open = spec("replicas=1");
    assert_eq!(open["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(open["ingress"], json!([{"ports": [{"port": "metrics"}]}]));
    let egress = open["egress"].as_array().unwrap();
    assert_eq!(egress.iter().map(ports).collect::<Vec<_>>(), [vec![443, 6443], vec![53, 53], vec![8080]]);
    assert!(egress[0]["to"].is_null());
    let generations = json!({"matchLabels": {"k8s-app": "quinistry"}});
    assert_eq!(egress[2]["to"], json!([{"namespaceSelector": {}, "podSelector": generations}]));

    let one = spec("watchNamespace=reading-room");
    let namespace = json!({"matchLabels": {"kubernetes.io/metadata.name": "reading-room"}});
    assert_eq!(one["egress"][2]["to"], json!([{"namespaceSelector": namespace, "podSelector": generations}]));

    // Two addresses are two peers, not two keys of one.
    let tight = spec("networkPolicy.apiServer.cidrs={10.0.0.1/32,10.0.0.2/32}");
    let peers = json!([{"ipBlock": {"cidr": "10.0.0.1/32"}}, {"ipBlock": {"cidr": "10.0.0.2/32"}}]);
    assert_eq!(tight["egress"][0]["to"], peers);

    // `helm test` may read the metrics, whatever else may.
    let few = spec("networkPolicy.metricsFrom[0].ipBlock.cidr=10.1.0.0/16");
    let from = few["ingress"][0]["from"].as_array().unwrap();
    assert_eq!(from[0], json!({"ipBlock": {"cidr": "10.1.0.0/16"}}));
    let objects = helm.objects(&[]);
    assert_eq!(from[1]["podSelector"]["matchLabels"], only(&objects, "Pod")["metadata"]["labels"]);
    assert_eq!(from.len(), 2);
}

#[test]
fn helm_test_asks_the_operator_through_its_service() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(&[]);
    let pod = only(&objects, "Pod");
    let hook =
        json!({"helm.sh/hook": "test", "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded"});
    assert_eq!(pod["metadata"]["annotations"], hook);
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    assert_eq!(
        pod["spec"]["containers"][0]["args"][2],
        "http://shelf-quinistry-operator.library.svc:8081/readyz"
    );
    let service = only(&objects, "Service");
    assert_eq!(service["metadata"]["name"], "shelf-quinistry-operator");
}

#[test]
fn helm_test_runs_a_command_that_there_is() {
    let Some(helm) = Helm::find() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    });
    let objects = helm.objects(&["--set", &format!("test.url=http://{address}/readyz")]);
    let args: Vec<String> =
        serde_json::from_value(only(&objects, "Pod")["spec"]["containers"][0]["args"].clone()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_quinistry")).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    server.join().unwrap();
}
