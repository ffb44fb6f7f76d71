//! The operator against an API server that only remembers: what it writes, what it leaves alone, and what it does when
//! it is refused. What plans hold is tested beside them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use quinistry::operator::Operator;
use quinistry::registry::Limits;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// As much of an API server as it takes: lists, watches in which nothing happens, and writes.
#[derive(Clone, Default)]
struct Api {
    resource: Arc<Mutex<Value>>,
    sets: Arc<Mutex<BTreeMap<String, Value>>>,
    writes: Arc<Mutex<Vec<String>>>,
    /// Answers to the next applies: status codes and messages.
    refusals: Arc<Mutex<Vec<(u16, &'static str)>>>,
}

impl Api {
    fn new() -> Self {
        let api = Self::default();
        *api.resource.lock().unwrap() = json!({
            "apiVersion": "quinistry.dev/v1alpha1",
            "kind": "Quinistry",
            "metadata": {"name": "larder", "namespace": "pantry", "uid": "u1", "generation": 1, "resourceVersion": "5",
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"image": "registry.example.com/larder:1"},
        });
        api
    }

    fn writes(&self) -> Vec<String> {
        self.writes.lock().unwrap().clone()
    }

    fn condition(&self, kind: &str) -> Option<(String, String)> {
        let resource = self.resource.lock().unwrap();
        let all = resource["status"]["conditions"].as_array()?;
        let condition = all.iter().find(|condition| condition["type"] == kind)?;
        Some((condition["status"].as_str()?.into(), condition["reason"].as_str()?.into()))
    }

    fn list(&self, path: &str) -> Value {
        let items: Vec<Value> = match path.rsplit('/').next() {
            Some("quinistries") => vec![self.resource.lock().unwrap().clone()],
            Some("daemonsets") => self.sets.lock().unwrap().values().cloned().collect(),
            Some("nodes") => vec![json!({
                "metadata": {"name": "node-1", "labels": {"kubernetes.io/os": "linux",
                    "kubernetes.io/arch": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            })],
            _ => Vec::new(),
        };
        json!({"metadata": {"resourceVersion": "9"}, "items": items})
    }

    fn write(&self, path: &str, mut object: Value) -> Response {
        let name = path.rsplit('/').next().unwrap().to_owned();
        if path.contains("/events") {
            self.writes.lock().unwrap().push("event".into());
            return json_answer(&object);
        }
        if name == "status" {
            self.writes.lock().unwrap().push("status".into());
            let mut resource = self.resource.lock().unwrap();
            resource["status"] = object["status"].take();
            resource["metadata"]["resourceVersion"] = json!("6");
            return json_answer(&resource);
        }
        self.writes.lock().unwrap().push(format!("apply {name}"));
        if let Some((code, message)) = self.refusals.lock().unwrap().pop() {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                "message": message, "reason": "Refused", "metadata": {}});
            return (StatusCode::from_u16(code).unwrap(), json_answer(&status)).into_response();
        }
        object["metadata"]["uid"] = json!("u2");
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["resourceVersion"] = json!("7");
        object["metadata"]["creationTimestamp"] = json!("2099-01-01T00:00:00Z");
        self.sets.lock().unwrap().insert(name, object.clone());
        json_answer(&object)
    }
}

fn json_answer(value: &Value) -> Response {
    ([("content-type", "application/json")], value.to_string()).into_response()
}

async fn answer(State(api): State<Api>, method: Method, uri: Uri, body: Bytes) -> Response {
    if method != Method::GET {
        return api.write(uri.path(), serde_json::from_slice(&body).unwrap());
    }
    if uri.query().is_some_and(|query| query.contains("watch=true")) {
        return Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>())
            .into_response();
    }
    json_answer(&api.list(uri.path()))
}

/// Runs an operator until `done`, and for a while longer, so that what it should not do would show.
async fn operate(api: &Api, done: impl Fn(&Api) -> bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let app = Router::new().fallback(answer).with_state(api.clone());
    let server =
        tokio::spawn(quinistry::registry::serve(listener, app, Limits::default(), std::future::pending()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let operator = Operator::new(client, None).unwrap();
    let running = tokio::spawn(operator.run(async {
        let _ = stopped.await;
    }));
    let waiting = async {
        while !done(api) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap_or_else(|_| panic!("never done: {:?}, {}", api.writes(), api.resource.lock().unwrap()));
    tokio::time::sleep(Duration::from_millis(700)).await;
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), running)
        .await
        .expect("it stops when it is asked to")
        .unwrap();
    server.abort();
}

fn has_reported(api: &Api) -> bool {
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
