//! Writes of the operator: which objects it applies, and which it leaves alone.

use quinistry::operator::Settings;
use serde_json::json;

use crate::operator::api::{Api, RESOURCE, until};
use crate::operator::running::{Running, a_while};

/// Runs an operator until `done`, and for a while longer, so that what it should not do would show.
pub(crate) async fn operate(api: &Api, done: impl Fn(&Api) -> bool) {
    let config = api.serve().await;
    let running = Running::begin(&config, Settings::default());
    until(api, done).await;
    a_while().await;
    running.end().await.unwrap();
}

pub(crate) fn has_reported(api: &Api) -> bool {
    api.writes().iter().any(|write| write == "status")
}

#[tokio::test]
async fn what_has_not_changed_is_not_written() {
    let api = Api::new();
    operate(&api, has_reported).await;
    let applies = api.writes().iter().filter(|write| write.starts_with("apply")).count();
    assert_eq!(applies, 1, "{:?}", api.writes());
    assert_eq!(api.condition("Progressing"), Some(("True".into(), "RollingOut".into())));
    // Another operator, as after a restart, finds everything as it should be.
    api.writes.lock().unwrap().clear();
    operate(&api, |_| true).await;
    assert_eq!(api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_refusal_is_told_and_not_repeated() {
    for (code, message, reason) in [
        (422, "spec.template.spec.containers[0].image: Required value", "ApplyRejected"),
        (
            403,
            "unable to create new content in namespace pantry because it is being terminated",
            "NamespaceTerminating",
        ),
        (403, "daemonsets.apps is forbidden", "ApplyRejected"),
    ] {
        let api = Api::new();
        *api.refusals.lock().unwrap() = vec![(code, message); 9];
        operate(&api, has_reported).await;
        assert_eq!(api.condition("Degraded"), Some(("True".into(), reason.into())));
        let applies = api.writes().iter().filter(|write| write.starts_with("apply")).count();
        assert_eq!(applies, 1, "{:?}", api.writes());
    }
}

#[tokio::test]
async fn a_conflict_is_tried_again() {
    let api = Api::new();
    *api.refusals.lock().unwrap() = vec![(409, "the object has been modified")];
    operate(&api, |api| !api.sets.lock().unwrap().is_empty()).await;
    let applies = api.writes().iter().filter(|write| write.starts_with("apply")).count();
    assert_eq!(applies, 2, "{:?}", api.writes());
}

/// Its label is what the watch goes by.
#[tokio::test]
async fn a_set_that_lost_its_label_is_brought_back() {
    let api = Api::new();
    operate(&api, has_reported).await;
    let lost = api
        .sets
        .lock()
        .unwrap()
        .get_mut("larder")
        .and_then(|set| set["metadata"]["labels"].as_object_mut().unwrap().remove(RESOURCE));
    assert!(lost.is_some());
    operate(&api, |api| api.sets.lock().unwrap()["larder"]["metadata"]["labels"][RESOURCE].is_string()).await;
}

#[tokio::test]
async fn a_set_of_another_with_the_same_name_is_told_and_left_alone() {
    let api = Api::new();
    let other = json!({"metadata": {"name": "larder", "namespace": "pantry", "resourceVersion": "5"}});
    api.sets.lock().unwrap().insert("larder".into(), other.clone());
    operate(&api, has_reported).await;
    assert_eq!(api.condition("Degraded"), Some(("True".into(), "ApplyRejected".into())));
    let applies = api.writes().iter().filter(|write| write.starts_with("apply")).count();
    assert_eq!(applies, 1, "{:?}", api.writes());
    assert_eq!(api.sets.lock().unwrap()["larder"], other);
}

/// Nodes were ready a while ago, and it is not known whether they still are.
#[tokio::test]
async fn what_stands_on_an_old_picture_is_not_written() {
    let api = Api::new();
    let config = api.serve().await;
    let running = Running::begin(&config, Settings::default());
    until(&api, has_reported).await;
    api.go_away("nodes");
    until(&api, |api| api.turned_away() > 0).await;
    let image = "registry.example.com/larder:2";
    api.change(|resource| {
        resource["spec"]["image"] = json!(image);
        resource["metadata"]["generation"] = json!(2);
    });
    let written = api.writes();
    a_while().await;
    assert_eq!(api.writes(), written);
    api.come_back();
    until(&api, |api| api.sets.lock().unwrap().values().any(|set| set.to_string().contains(image))).await;
    running.end().await.unwrap();
}

/// A stop must not wait for an API server that does not come back.
#[tokio::test]
async fn an_operator_that_sees_nothing_stops_when_asked() {
    let api = Api::new();
    api.go_away("pods");
    let config = api.serve().await;
    let running = Running::begin(&config, Settings::default());
    until(&api, |api| api.turned_away() > 0).await;
    a_while().await;
    running.end().await.unwrap();
    assert_eq!(api.writes(), Vec::<String>::new());
}

/// The first versions of both are those of this API server's objects.
#[tokio::test]
async fn what_is_made_of_an_old_picture_would_be_refused() {
    let api = Api::new();
    operate(&api, has_reported).await;
    let set = api.sets.lock().unwrap().values().next().cloned().unwrap();
    assert_eq!(set["metadata"]["sent"], "1", "a version that no object has: it is to be created");
    api.change(|resource| {
        resource["spec"]["image"] = json!("registry.example.com/larder:2");
        resource["metadata"]["generation"] = json!(2);
    });
    operate(&api, |api| api.writes().iter().filter(|write| write.starts_with("apply")).count() > 1).await;
    let set = api.sets.lock().unwrap().values().next().cloned().unwrap();
    assert_eq!(set["metadata"]["sent"], "7", "the version that was seen");
    assert_eq!(api.resource.lock().unwrap()["metadata"]["sent"], "6", "of the status too");
}

#[tokio::test]
async fn a_failing_webhook_is_told_and_tried_again() {
    let api = Api::new();
    *api.refusals.lock().unwrap() = vec![(500, "failed calling webhook: no endpoints available")];
    operate(&api, |api| api.condition("Degraded") == Some(("True".into(), "ApplyRejected".into()))).await;
    operate(&api, |api| !api.sets.lock().unwrap().is_empty()).await;
}

#[tokio::test]
async fn a_resource_that_cannot_be_read_is_told_to_be_invalid_and_nothing_is_done() {
    let api = Api::new();
    api.change(|resource| resource["spec"]["network"] = json!({"mode": "Tunnel"}));
    operate(&api, has_reported).await;
    assert_eq!(api.condition("Degraded"), Some(("True".into(), "InvalidSpec".into())));
    assert!(api.sets.lock().unwrap().is_empty());
}

/// Nothing is made for a deleted resource when the watch of resources lags behind that of `DaemonSets`.
#[tokio::test]
async fn nothing_is_made_for_a_resource_that_is_gone() {
    let api = Api::new();
    *api.is_gone.lock().unwrap() = true;
    operate(&api, |api| *api.asked.lock().unwrap() > 0).await;
    assert!(api.sets.lock().unwrap().is_empty(), "{:?}", api.writes());
}
