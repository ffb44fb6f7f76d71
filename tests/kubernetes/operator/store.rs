//! Stores of a resource: which objects the operator creates, and which it leaves alone.

use serde_json::{Value, json};

use crate::operator::api::Api;
use crate::operator::writes::{has_reported, operate};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const STORE_SERVICE: &str = "services/larder-store";

const STORE_POLICY: &str = "networkpolicies/larder-store";

/// Returns an API server with a resource that wants one store.
fn with_store() -> Api {
    let api = Api::new();
    api.resource.lock().unwrap()["spec"] = json!({"image": "registry.example.com/larder:1", "generations": 1, "digest": DIGEST, "store": {"copies": 1}});
    api
}

/// Returns the pod of generation 1, as its `DaemonSet` makes it.
fn pod_of_generation_1(api: &Api) -> Value {
    let mut template = api.sets.lock().unwrap()["larder"]["spec"]["template"].clone();
    let metadata = template["metadata"].as_object_mut().unwrap();
    metadata.extend(
        json!({"name": "larder-x", "namespace": "pantry", "uid": "u9", "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "larder", "uid": "u2",
                "controller": true}]})
        .as_object()
        .unwrap()
        .clone(),
    );
    template["spec"]["nodeName"] = json!("node-1");
    template["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "quinistry", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]});
    template
}

fn arguments(api: &Api, set: &str) -> String {
    api.sets.lock().unwrap()[set]["spec"]["template"]["spec"]["containers"][0]["args"].to_string()
}

/// Runs operators until the store exists.
async fn raise(api: &Api) {
    operate(api, has_reported).await;
    *api.pods.lock().unwrap() = vec![pod_of_generation_1(api)];
    operate(api, |api| api.condition("StoreReady") == Some(("False".into(), "StoresNotReady".into()))).await;
    assert!(api.sets.lock().unwrap().contains_key("larder-store"), "{:?}", api.writes());
}

fn changes(api: &Api) -> Vec<String> {
    let is_change = |write: &String| write.starts_with("apply") || write.starts_with("delete");
    api.writes().into_iter().filter(is_change).collect()
}

#[tokio::test]
async fn the_service_comes_first_and_the_stores_follow_generation_1() {
    let api = with_store();
    operate(&api, has_reported).await;
    assert_eq!(
        changes(&api),
        ["apply services/larder-store", "apply larder", "apply networkpolicies/larder-store"]
    );
    assert_eq!(api.condition("StoreReady"), Some(("False".into(), "WaitingForGeneration".into())));
    assert!(arguments(&api, "larder").contains(r#""--peers","http://10.96.0.7:8080""#));
    raise(&api).await;
    assert!(arguments(&api, "larder-store").contains(r#""--peers","http://10.96.0.7:8080""#));
    assert_eq!(
        api.resource.lock().unwrap()["status"]["store"],
        json!({"copies": "0/1", "nodes": ["node-1"]})
    );
    let service = api.objects.lock().unwrap()[STORE_SERVICE].clone();
    assert_eq!(service["metadata"]["annotations"]["quinistry.dev/store-nodes"], "node-1");
    // Another operator, as after a restart, finds everything as it should be.
    api.writes.lock().unwrap().clear();
    operate(&api, |_| true).await;
    assert_eq!(changes(&api), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_gone_or_edited_is_restored() {
    let api = with_store();
    raise(&api).await;
    api.writes.lock().unwrap().clear();
    api.objects.lock().unwrap().get_mut(STORE_POLICY).unwrap()["spec"]["ingress"] = json!([{}]);
    api.sets.lock().unwrap().remove("larder-store");
    operate(&api, |api| api.sets.lock().unwrap().contains_key("larder-store")).await;
    assert_eq!(changes(&api), ["apply networkpolicies/larder-store", "apply larder-store"]);
    assert_eq!(api.objects.lock().unwrap()[STORE_POLICY]["spec"]["ingress"][0]["ports"][0]["port"], 8080);
}

#[tokio::test]
async fn without_rights_generations_are_raised_and_the_condition_names_the_value_of_the_chart() {
    let api = with_store();
    *api.denies_services.lock().unwrap() = true;
    operate(&api, has_reported).await;
    assert_eq!(changes(&api), ["apply larder"]);
    assert!(!arguments(&api, "larder").contains("--peers"));
    assert_eq!(api.condition("StoreReady"), Some(("False".into(), "RightsMissing".into())));
    assert!(api.resource.lock().unwrap()["status"].to_string().contains("store.enabled=true"));
}

#[tokio::test]
async fn generations_keep_the_address_that_they_have_when_the_rights_go() {
    let api = with_store();
    operate(&api, has_reported).await;
    *api.denies_services.lock().unwrap() = true;
    api.writes.lock().unwrap().clear();
    operate(&api, |api| api.condition("StoreReady") == Some(("False".into(), "RightsMissing".into()))).await;
    assert_eq!(changes(&api), Vec::<String>::new());
}

#[tokio::test]
async fn a_service_of_another_owner_is_reported_and_left_alone() {
    let api = with_store();
    let other = json!({"metadata": {"name": "larder-store", "namespace": "pantry", "uid": "u7", "resourceVersion": "5"},
        "spec": {"clusterIP": "10.96.0.99"}});
    api.objects.lock().unwrap().insert(STORE_SERVICE.into(), other.clone());
    operate(&api, has_reported).await;
    assert_eq!(changes(&api), ["apply larder"]);
    assert_eq!(api.condition("StoreReady"), Some(("False".into(), "NameTaken".into())));
    assert_eq!(api.objects.lock().unwrap()[STORE_SERVICE], other);
    assert!(!arguments(&api, "larder").contains("--peers"));
}

/// The address of a Service cannot be changed.
#[tokio::test]
async fn a_headless_service_is_created_again() {
    let api = with_store();
    operate(&api, has_reported).await;
    api.objects.lock().unwrap().get_mut(STORE_SERVICE).unwrap()["spec"]["clusterIP"] = json!("None");
    api.writes.lock().unwrap().clear();
    let has_address = |api: &Api| {
        let objects = api.objects.lock().unwrap();
        objects.get(STORE_SERVICE).is_some_and(|service| service["spec"]["clusterIP"] == "10.96.0.7")
    };
    operate(&api, has_address).await;
    assert_eq!(changes(&api), ["delete services/larder-store", "apply services/larder-store"]);
}

#[tokio::test]
async fn a_refusal_of_a_store_is_told_and_generations_are_raised() {
    let api = with_store();
    *api.refusals.lock().unwrap() = vec![(422, "spec.clusterIP: Invalid value")];
    operate(&api, has_reported).await;
    assert_eq!(api.condition("StoreReady"), Some(("False".into(), "ApplyRejected".into())));
    assert_eq!(changes(&api), ["apply services/larder-store", "apply larder"]);
}

#[tokio::test]
async fn stores_that_are_no_longer_wanted_are_deleted_and_no_others() {
    let api = with_store();
    raise(&api).await;
    {
        let mut resource = api.resource.lock().unwrap();
        resource["spec"].as_object_mut().unwrap().remove("store");
        resource["metadata"]["generation"] = json!(2);
    }
    api.writes.lock().unwrap().clear();
    operate(&api, |api| !api.sets.lock().unwrap().contains_key("larder-store")).await;
    let deleted: Vec<_> = changes(&api).into_iter().filter(|write| write.starts_with("delete")).collect();
    assert_eq!(
        deleted,
        ["delete services/larder-store", "delete networkpolicies/larder-store", "delete larder-store"]
    );
    assert!(api.sets.lock().unwrap().contains_key("larder"));
    assert!(!arguments(&api, "larder").contains("--peers"));
    assert_eq!(api.condition("StoreReady"), None);
}

#[tokio::test]
async fn a_suspended_resource_gets_no_stores() {
    let api = with_store();
    api.resource.lock().unwrap()["spec"]["suspend"] = json!(true);
    operate(&api, has_reported).await;
    assert_eq!(changes(&api), Vec::<String>::new());
}
