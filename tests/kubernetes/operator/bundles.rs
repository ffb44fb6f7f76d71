//! Bundles: the `ConfigMap` of names that the operator keeps, and the statuses, by what nodes answer.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use quinistry::oci::Digest;
use quinistry::operator::Settings;
use quinistry::registry::Limits;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::operator::api::{Api, until};
use crate::operator::running::{Running, a_while};

const MAP: &str = "larder-names";

/// Returns an API server with a resource that wants a store.
fn with_store() -> Api {
    let api = Api::new();
    api.resource.lock().unwrap()["spec"]["store"] = json!({"copies": 1});
    api
}

fn digest(number: u8) -> String {
    Digest::sha256(&[number]).to_string()
}

/// A bundle, created in this minute.
fn bundle(name: &str, minute: u8, names: &[(&str, u8)]) -> Value {
    let names: Vec<Value> =
        names.iter().map(|(name, number)| json!({"name": name, "digest": digest(*number)})).collect();
    json!({
        "apiVersion": "quinistry.dev/v1alpha1", "kind": "Bundle",
        "metadata": {"name": name, "namespace": "pantry", "uid": format!("uid-of-{name}"), "generation": 1,
            "resourceVersion": "5", "creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z")},
        "spec": {"names": names, "history": 1},
    })
}

/// Runs an operator until `done`, and for a while longer, so that what it should not do would show.
async fn operate(api: &Api, done: impl Fn(&Api) -> bool) {
    let config = api.serve().await;
    let running = Running::begin(&config, Settings::default());
    until(api, done).await;
    a_while().await;
    running.end().await.unwrap();
}

fn document(api: &Api) -> Option<Value> {
    let maps = api.maps.lock().unwrap();
    serde_json::from_str(maps.get(MAP)?["data"]["names.json"].as_str()?).ok()
}

/// Returns the names with the digests that they mean, and the digests to keep.
fn content(api: &Api) -> (Vec<(String, String)>, Vec<String>) {
    let document = document(api).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names = document["names"].as_array().into_iter().flatten();
    let keep = document["keep"].as_array().into_iter().flatten();
    (
        names.map(|entry| (text(&entry["name"]), text(&entry["digest"]))).collect(),
        keep.map(|entry| text(&entry["digest"])).collect(),
    )
}

fn entry(name: &str, number: u8) -> (String, String) {
    (name.into(), digest(number))
}

/// Returns status and reason of a bundle's condition.
fn condition(api: &Api, name: &str, kind: &str) -> Option<(String, String)> {
    let bundles = api.bundles.lock().unwrap();
    let all = bundles.get(name)?["status"]["conditions"].as_array()?;
    let condition = all.iter().find(|condition| condition["type"] == kind)?;
    Some((condition["status"].as_str()?.into(), condition["reason"].as_str()?.into()))
}

fn is(api: &Api, name: &str, kind: &str, status: &str, reason: &str) -> bool {
    condition(api, name, kind) == Some((status.into(), reason.into()))
}

fn count(api: &Api, write: &str) -> usize {
    api.writes().iter().filter(|one| *one == write).count()
}

#[tokio::test]
async fn names_are_written_once_and_restored_when_another_writer_changes_them() {
    let api = with_store();
    api.put_bundle(bundle("shop", 1, &[("ghcr.io/acme/shop:1", 1), ("ghcr.io/acme/till:1", 2)]));
    operate(&api, |api| is(api, "shop", "Accepted", "True", "Accepted")).await;
    assert_eq!(count(&api, "apply larder-names"), 1, "{:?}", api.writes());
    assert_eq!(count(&api, "status of shop"), 1, "{:?}", api.writes());
    assert!(is(&api, "shop", "Available", "Unknown", "NotAsked"));
    let map = api.maps.lock().unwrap()[MAP].clone();
    let owner = &map["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("Quinistry"), &json!("u1")));
    assert_eq!(map["metadata"]["labels"]["quinistry.dev/names"], "larder");
    assert_eq!(content(&api).0, [entry("ghcr.io/acme/shop:1", 1), entry("ghcr.io/acme/till:1", 2)]);

    // Another operator, as after a restart, finds everything as it should be, until it is changed.
    api.writes.lock().unwrap().clear();
    let config = api.serve().await;
    let running = Running::begin(&config, Settings::default());
    until(&api, |api| is(api, "shop", "Accepted", "True", "Accepted")).await;
    a_while().await;
    assert_eq!(api.writes(), Vec::<String>::new());
    api.change_map(MAP, |map| map["data"]["names.json"] = json!("{}"));
    until(&api, |api| content(api).0.len() == 2).await;
    api.change_map(MAP, |map| map["metadata"]["labels"] = json!({}));
    until(&api, |api| api.maps.lock().unwrap()[MAP]["metadata"]["labels"]["quinistry.dev/names"] == "larder")
        .await;
    running.end().await.unwrap();
    assert_eq!(count(&api, "apply larder-names"), 2, "{:?}", api.writes());
}

#[tokio::test]
async fn a_rollback_is_one_change_and_its_images_were_kept_over_a_restart() {
    let api = with_store();
    let version = |number| bundle("shop", 1, &[("ghcr.io/acme/shop:latest", number)]);
    let mut kept = Vec::new();
    for number in [1, 2, 1] {
        api.put_bundle(version(number));
        operate(&api, |api| content(api).0 == [entry("ghcr.io/acme/shop:latest", number)]).await;
        kept.push(content(&api).1);
    }
    assert_eq!(kept, [vec![], vec![digest(1)], vec![digest(2)]]);
    let previous = api.bundles.lock().unwrap()["shop"]["status"]["previous"].clone();
    assert_eq!(previous, json!([format!("ghcr.io/acme/shop@{}", digest(2))]));
}

#[tokio::test]
async fn a_name_that_is_taken_is_reported_and_passes_on_with_its_holder() {
    let api = with_store();
    api.put_bundle(bundle("old", 1, &[("ghcr.io/acme/shop:1", 1)]));
    api.put_bundle(bundle("new", 2, &[("ghcr.io/acme/shop:1", 2), ("ghcr.io/acme/till:1", 3)]));
    let config = api.serve().await;
    let running = Running::begin(&config, Settings::default());
    until(&api, |api| is(api, "new", "Accepted", "False", "NameTaken")).await;
    until(&api, |api| is(api, "old", "Accepted", "True", "Accepted")).await;
    assert_eq!(content(&api).0, [entry("ghcr.io/acme/shop:1", 1), entry("ghcr.io/acme/till:1", 3)]);
    api.delete_bundle("old");
    until(&api, |api| is(api, "new", "Accepted", "True", "Accepted")).await;
    assert_eq!(content(&api).0, [entry("ghcr.io/acme/shop:1", 2), entry("ghcr.io/acme/till:1", 3)]);
    api.delete_bundle("new");
    until(&api, |api| content(api) == (Vec::new(), Vec::new())).await;
    running.end().await.unwrap();
}

#[tokio::test]
async fn without_the_definition_or_the_right_the_operator_works_and_tries_again_rarely() {
    for code in [404, 403] {
        let api = Api::new();
        api.unserved.lock().unwrap().insert("bundles", code);
        operate(&api, |api| api.writes().iter().any(|write| write == "status") && api.turned_away() > 0)
            .await;
        assert_eq!(api.turned_away(), 1);
        assert!(!api.sets.lock().unwrap().is_empty() && api.maps.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_config_map_of_another_owner_is_left_alone_and_told() {
    let api = with_store();
    let other =
        json!({"metadata": {"name": MAP, "namespace": "pantry", "resourceVersion": "5"}, "data": {"a": "b"}});
    api.maps.lock().unwrap().insert(MAP.into(), other.clone());
    api.put_bundle(bundle("shop", 1, &[("ghcr.io/acme/shop:1", 1)]));
    operate(&api, |api| is(api, "shop", "Accepted", "False", "NamesRejected")).await;
    assert_eq!(api.maps.lock().unwrap()[MAP], other);
    assert_eq!(count(&api, "apply larder-names"), 0);
}

#[tokio::test]
async fn a_refused_config_map_is_told() {
    let api = with_store();
    let running = Running::begin(&api.serve().await, Settings::default());
    until(&api, |api| !api.sets.lock().unwrap().is_empty()).await;
    *api.refusals.lock().unwrap() = vec![(403, "exceeded quota: maps"); 9];
    api.put_bundle(bundle("shop", 1, &[("ghcr.io/acme/shop:1", 1)]));
    until(&api, |api| is(api, "shop", "Accepted", "False", "NamesRejected")).await;
    let text = api.bundles.lock().unwrap()["shop"]["status"]["conditions"].to_string();
    assert!(text.contains("exceeded quota: maps"), "{text}");
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_bundle_without_a_registry_is_told() {
    let api = with_store();
    let mut lost = bundle("lost", 1, &[("ghcr.io/acme/shop:1", 1)]);
    lost["spec"]["registry"] = json!("attic");
    api.put_bundle(lost);
    let mut elsewhere = bundle("elsewhere", 1, &[("ghcr.io/acme/shop:1", 1)]);
    elsewhere["metadata"]["namespace"] = json!("cellar");
    api.put_bundle(elsewhere);
    api.put_bundle(
        json!({"metadata": {"name": "odd", "namespace": "pantry", "uid": "u9"}, "spec": {"names": 5}}),
    );
    operate(&api, |api| {
        ["lost", "elsewhere"].iter().all(|name| is(api, name, "Accepted", "False", "RegistryNotFound"))
            && is(api, "odd", "Accepted", "False", "InvalidSpec")
    })
    .await;
    assert!(api.maps.lock().unwrap().is_empty());
}

/// A pod of generation 1 on a node.
fn pod(node: &str, ip: Ipv4Addr) -> Value {
    json!({
        "metadata": {"name": format!("larder-{node}"), "namespace": "pantry", "uid": format!("uid-of-{node}"),
            "labels": {"quinistry.dev/resource": "u1", "quinistry/generation": "1"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "larder", "uid": "u2", "controller": true}]},
        "spec": {"nodeName": node, "containers": [{"name": "quinistry", "image": "a"}]},
        "status": {"podIP": ip.to_string(), "conditions": [{"type": "Ready", "status": "True",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    })
}

/// Serves manifests with these digests, as a node's generation would.
async fn serve_node(ip: Ipv4Addr, digests: Vec<String>) {
    async fn answer(State(digests): State<Arc<Vec<String>>>, uri: Uri) -> Response {
        let known = uri.path().strip_prefix("/v2/ghcr.io/acme/shop/manifests/");
        match known.filter(|digest| digests.iter().any(|known| known == digest)) {
            Some(digest) => {
                let media_type = "application/vnd.oci.image.manifest.v1+json";
                let headers = [
                    ("content-type", media_type),
                    ("content-length", "2"),
                    ("docker-content-digest", digest),
                ];
                (headers, "{}").into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
    let listener = TcpListener::bind((ip, 8080)).await.unwrap();
    let app = Router::new().fallback(answer).with_state(Arc::new(digests));
    tokio::spawn(quinistry::registry::serve(listener, app, Limits::default(), std::future::pending()));
}

fn shown(api: &Api, name: &str) -> (Value, Value) {
    let status = api.bundles.lock().unwrap()[name]["status"].clone();
    (status["images"].clone(), status["nodes"].clone())
}

#[tokio::test]
async fn nodes_are_asked_and_one_that_cannot_serve_is_named() {
    let (good, bad) = (Ipv4Addr::new(127, 89, 1, 1), Ipv4Addr::new(127, 89, 1, 2));
    serve_node(good, vec![digest(1), digest(2)]).await;
    serve_node(bad, vec![digest(1)]).await;
    let api = with_store();
    *api.pods.lock().unwrap() = vec![pod("node-1", good), pod("node-2", bad)];
    api.put_bundle(bundle("whole", 1, &[("ghcr.io/acme/shop:1", 1)]));
    api.put_bundle(bundle("half", 2, &[("ghcr.io/acme/shop:1-too", 1), ("ghcr.io/acme/shop:2", 2)]));
    api.put_bundle(bundle("none", 3, &[("ghcr.io/acme/shop:3", 3)]));
    // Names that are new may not have reached the nodes.
    operate(&api, |api| {
        is(api, "whole", "Available", "True", "Served") && is(api, "half", "Available", "False", "Spreading")
    })
    .await;
    assert_eq!(shown(&api, "whole"), (json!("1/1"), json!("2/2")));
    assert!(is(&api, "half", "Degraded", "False", "AsExpected"));
    // Another operator does not know when they were written.
    operate(&api, |api| {
        is(api, "whole", "Available", "True", "Served")
            && is(api, "half", "Available", "False", "NodeCannotServe")
            && is(api, "none", "Available", "False", "ContentMissing")
    })
    .await;
    assert_eq!(shown(&api, "half"), (json!("1/2"), json!("1/2")));
    assert!(is(&api, "half", "Degraded", "True", "NodeCannotServe"));
    let deviations = api.bundles.lock().unwrap()["half"]["status"]["deviations"].clone();
    assert_eq!(deviations, json!([{"node": "node-2", "name": "ghcr.io/acme/shop:2", "count": 1}]));
    assert_eq!(shown(&api, "none"), (json!("0/1"), json!("0/2")));
}
