//! `up --with`, repeated on a cluster that runs: what it applies, loads and waits for.

use std::collections::BTreeMap;
use std::fs;

use quinistry::seed::SEED_PART_BYTES;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{DIGEST, PROGRAM, archive, executable};
use crate::support::api_server::{ApiServer, Forward, NAMESPACE, UID, kubeconfig, pod};
use crate::support::process::{command, output};
use crate::support::server::{SERVE, Server};

const IMAGE: &str = "ghcr.io/acme/shop";
const CARRIER: &str = "registry.k8s.io/pause:3.10";
const RESOURCE: &str = "/apis/quinistry.dev/v1alpha1/namespaces/pantry/quinistries/quinistry";
const BUNDLE: &str = "/apis/quinistry.dev/v1alpha1/namespaces/pantry/bundles/shop-1";

/// Returns the objects of a cluster on which `up` was run.
fn objects() -> BTreeMap<String, Value> {
    let established = json!({"status": {"conditions": [{"type": "Established", "status": "True"}]}});
    let labels = json!({
        "app.kubernetes.io/managed-by": "quinistry-up", "app.kubernetes.io/instance": NAMESPACE,
        "pod-security.kubernetes.io/enforce": "privileged",
    });
    let node = json!({
        "metadata": {"name": "n1", "labels": {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"}},
        "status": {
            "nodeInfo": {"architecture": "amd64", "operatingSystem": "linux"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "images": [{"names": [CARRIER]}],
        },
    });
    let operator = json!({"metadata": {"labels": labels}, "status": {"availableReplicas": 1}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    [
        ("/version".to_owned(), json!({"major": "1", "minor": "36"})),
        (format!("{definitions}/quinistries.quinistry.dev"), established.clone()),
        (format!("{definitions}/bundles.quinistry.dev"), established),
        (format!("/api/v1/namespaces/{NAMESPACE}"), json!({"metadata": {"labels": labels}})),
        (format!("/api/v1/namespaces/{NAMESPACE}-operator"), json!({"metadata": {"labels": labels}})),
        (format!("/apis/apps/v1/namespaces/{NAMESPACE}-operator/deployments/quinistry-operator"), operator),
        ("/api/v1/nodes/n1".to_owned(), node),
    ]
    .into()
}

/// Returns a resource all of whose generations are proven, with stores on these nodes.
fn resource(nodes: &[&str]) -> Value {
    let zero = json!({"generation": 0, "daemonSet": "d", "port": 5099, "image": "i", "state": "Ready", "desired": 0,
        "updated": 0, "available": 0, "verified": 0, "digest": DIGEST});
    let condition = |kind: &str, status: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": "R", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    json!({
        "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry",
        "metadata": {"name": "quinistry", "namespace": NAMESPACE, "uid": UID, "generation": 1},
        "spec": {"seed": {"executable": DIGEST}, "digest": DIGEST, "basePort": 5100, "store": {"copies": 5}},
        "status": {
            "observedGeneration": 1, "digest": DIGEST, "generations": [zero], "store": {"copies": "0/5", "nodes": nodes},
            "conditions": [
                condition("Ready", "True", ""), condition("StoreReady", "False", "the oven is cold"),
            ],
        },
    })
}

/// Runs `up --with`. Returns the exit code and standard error.
fn up(folder: &TempDir, api: &ApiServer, path: &str, more: &[&str]) -> (Option<i32>, String) {
    let file = folder.path().join("quinistry");
    fs::write(&file, executable(SEED_PART_BYTES + 5)).unwrap();
    let config = kubeconfig(folder.path(), api.address);
    let mut program = command(PROGRAM);
    program.args(["up", "-n", NAMESPACE, "--digest", DIGEST, "--carrier", CARRIER, "--with", path]);
    program.args(["--kubeconfig", &config]).args(["--binary".as_ref(), file.as_os_str()]).args(more);
    let done = output(program.env_clear().env("HOME", folder.path())).unwrap();
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn an_archive_is_loaded_and_named_and_a_second_run_sends_nothing() {
    let folder = TempDir::new().unwrap();
    let (path, digest) = archive(folder.path(), [format!("{IMAGE}:1")]);
    let registry = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", "memory"]));
    let to = registry.peer.0;
    let mut objects = objects();
    // As the operator leaves it, with a name of another writer.
    let names =
        json!([{"name": format!("{IMAGE}:1"), "digest": digest}, {"name": "a.lan/b:1", "digest": DIGEST}]);
    let available = json!([{"type": "Available", "status": "True"}]);
    objects.insert(
        BUNDLE.into(),
        json!({"metadata": {"generation": 1}, "spec": {"names": names},
            "status": {"observedGeneration": 1, "conditions": available}}),
    );
    let pods = vec![pod("store-a", false)];
    let api = ApiServer::start_with(objects, resource(&["n1"]), pods, move |_, _| Forward::To(to));
    let (code, said) = up(&folder, &api, &path, &["--wait"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(
            "done  store of pantry/quinistry (pod store-a on node node-of-store-a): 1 image; 0 B of"
        ),
        "{said}"
    );
    assert!(said.contains("done  Bundle pantry/shop-1") && said.contains("which stay: a.lan/b:1"), "{said}");
    let manifest = registry.peer.ask("GET", &format!("/v2/{IMAGE}/manifests/{digest}"), &[], b"");
    assert_eq!(manifest.status, 200);
    let applied = api.body(BUNDLE).unwrap();
    assert_eq!(applied["spec"]["names"], json!([{"name": format!("{IMAGE}:1"), "digest": digest}]));
    assert_eq!(applied["spec"]["registry"], "quinistry");
    assert!(api.requests(BUNDLE).iter().all(|request| !request.contains("force=true")), "of another writer");
    let wanted = api.body(RESOURCE).unwrap();
    assert!(wanted["spec"]["store"].is_null(), "another writer asked for the stores of the resource");

    let (code, said) = up(&folder, &api, &path, &[]);
    let total = said.lines().find(|line| line.starts_with("done  store")).unwrap_or_default();
    let (there, all) = total.split_once("1 image; ").unwrap().1.split_once(" of ").unwrap();
    assert_eq!((code, format!("{there} were there")), (Some(0), all.to_owned()), "{said}");
}

#[test]
fn what_keeps_the_stores_from_taking_a_load_is_said() {
    let folder = TempDir::new().unwrap();
    let (path, _) = archive(folder.path(), [format!("{IMAGE}:1")]);
    let api = ApiServer::start_with(objects(), resource(&["n1"]), vec![], |_, _| Forward::Garbled);
    let (code, said) = up(&folder, &api, &path, &["--timeout", "1"]);
    assert_eq!(code, Some(1), "{said}");
    let why = "0 of 1 run; R: the oven is cold";
    assert!(said.contains(&format!("waiting for the stores: {why}")), "{said}");
    assert!(said.contains(&format!("no store runs after 1 second: {why}")), "{said}");
    assert!(api.body(BUNDLE).is_none(), "names come after the images");
}
