//! As much of an API server as the operator takes: it remembers what is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use quinistry::registry::Limits;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

/// Label of all that is the resource's.
pub(crate) const RESOURCE: &str = "quinistry.dev/resource";

/// Label of `ConfigMaps` of names.
const NAMES: &str = "quinistry.dev/names";

/// As much of an API server as it takes: lists, watches in which happens what it is told to say, and writes.
#[derive(Clone, Default)]
pub(crate) struct Api {
    pub(crate) resource: Arc<Mutex<Value>>,
    pub(crate) sets: Arc<Mutex<BTreeMap<String, Value>>>,
    /// Services and network policies, by kind and name as in `services/larder-store`.
    pub(crate) objects: Arc<Mutex<BTreeMap<String, Value>>>,
    pub(crate) pods: Arc<Mutex<Vec<Value>>>,
    /// True if Services may be neither read nor written.
    pub(crate) denies_services: Arc<Mutex<bool>>,
    pub(crate) writes: Arc<Mutex<Vec<String>>>,
    /// Answers to the next applies: status codes and messages.
    pub(crate) refusals: Arc<Mutex<Vec<(u16, &'static str)>>>,
    /// The Lease of the election.
    pub(crate) lease: Arc<Mutex<Option<Value>>>,
    /// The Lease by which the namespace is claimed.
    pub(crate) claim: Arc<Mutex<Option<Value>>>,
    /// True if the resource is deleted although no watch has told.
    pub(crate) is_gone: Arc<Mutex<bool>>,
    pub(crate) asked: Arc<Mutex<u32>>,
    /// Bundles by name.
    pub(crate) bundles: Arc<Mutex<BTreeMap<String, Value>>>,
    /// `ConfigMaps` by name.
    pub(crate) maps: Arc<Mutex<BTreeMap<String, Value>>>,
    /// Kinds that it does not serve, with the status of the answer.
    pub(crate) unserved: Arc<Mutex<BTreeMap<&'static str, u16>>>,
    watches: Watches,
    /// Kinds that it does not tell of at the moment, and how often it was asked for one.
    away: Arc<Mutex<BTreeSet<&'static str>>>,
    turned_away: Arc<Mutex<u32>>,
}

/// Channel to the open watches of a kind: an event, or the end of the watch.
#[derive(Clone)]
struct Watches(broadcast::Sender<(&'static str, Option<String>)>);

impl Default for Watches {
    fn default() -> Self {
        Self(broadcast::Sender::new(8))
    }
}

impl Api {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn writes(&self) -> Vec<String> {
        self.writes.lock().unwrap().clone()
    }

    pub(crate) fn condition(&self, kind: &str) -> Option<(String, String)> {
        let resource = self.resource.lock().unwrap();
        let all = resource["status"]["conditions"].as_array()?;
        let condition = all.iter().find(|condition| condition["type"] == kind)?;
        Some((condition["status"].as_str()?.into(), condition["reason"].as_str()?.into()))
    }

    /// Has its watches say that the resource is another one now.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut resource = self.resource.lock().unwrap();
        change(&mut resource);
        let event = json!({"type": "MODIFIED", "object": *resource});
        let _ = self.watches.0.send(("quinistries", Some(format!("{event}\n"))));
    }

    /// Puts a bundle, and tells the watches.
    pub(crate) fn put_bundle(&self, bundle: Value) {
        let name = bundle["metadata"]["name"].as_str().unwrap().to_owned();
        self.tell("bundles", "MODIFIED", &bundle);
        self.bundles.lock().unwrap().insert(name, bundle);
    }

    /// Deletes a bundle, and tells the watches.
    pub(crate) fn delete_bundle(&self, name: &str) {
        let bundle = self.bundles.lock().unwrap().remove(name).unwrap();
        self.tell("bundles", "DELETED", &bundle);
    }

    /// Changes a `ConfigMap`, as another writer would, and tells the watches.
    pub(crate) fn change_map(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut maps = self.maps.lock().unwrap();
        let map = maps.get_mut(name).unwrap();
        change(map);
        raise_version(map);
        self.tell("configmaps", "MODIFIED", map);
    }

    fn tell(&self, kind: &'static str, type_: &str, object: &Value) {
        let event = json!({"type": type_, "object": object});
        let _ = self.watches.0.send((kind, Some(format!("{event}\n"))));
    }

    /// Writes a `ConfigMap` as server-side apply does: an object of another version is a conflict.
    fn write_map(&self, name: &str, mut map: Value) -> Response {
        self.writes.lock().unwrap().push(format!("apply {name}"));
        if let Some((code, message)) = self.refusals.lock().unwrap().pop() {
            return failure(code, message);
        }
        let mut maps = self.maps.lock().unwrap();
        let there = maps.get(name).map(|map| map["metadata"]["resourceVersion"].clone());
        if there.is_some_and(|version| version != map["metadata"]["resourceVersion"]) {
            return failure(409, "the object has been modified");
        }
        raise_version(&mut map);
        maps.insert(name.to_owned(), map.clone());
        self.tell("configmaps", "MODIFIED", &map);
        json_answer(&map)
    }

    fn write_bundle_status(&self, name: &str, mut applied: Value) -> Response {
        let mut bundles = self.bundles.lock().unwrap();
        let Some(bundle) = bundles.get_mut(name) else { return failure(404, "there is no such bundle") };
        self.writes.lock().unwrap().push(format!("status of {name}"));
        bundle["status"] = applied["status"].take();
        self.tell("bundles", "MODIFIED", bundle);
        json_answer(bundle)
    }

    /// Ends the watches of a kind, and does not tell of it any more.
    pub(crate) fn go_away(&self, kind: &'static str) {
        self.away.lock().unwrap().insert(kind);
        let _ = self.watches.0.send((kind, None));
    }

    pub(crate) fn come_back(&self) {
        self.away.lock().unwrap().clear();
    }

    pub(crate) fn turned_away(&self) -> u32 {
        *self.turned_away.lock().unwrap()
    }

    fn is_away(&self, path: &str) -> bool {
        let away = self.away.lock().unwrap().iter().any(|kind| path.ends_with(kind));
        *self.turned_away.lock().unwrap() += u32::from(away);
        away
    }

    fn watch(&self, path: &str) -> Response {
        let (heard, path) = (self.watches.0.subscribe(), path.to_owned());
        let events = futures_util::stream::unfold((heard, path), async |(mut heard, path)| {
            loop {
                let (kind, event) = heard.recv().await.ok()?;
                if path.ends_with(kind) {
                    return event.map(|event| (Ok::<_, std::io::Error>(event), (heard, path)));
                }
            }
        });
        Body::from_stream(events).into_response()
    }

    fn list(&self, path: &str) -> Value {
        let items: Vec<Value> = match path.rsplit('/').next() {
            Some("quinistries") => vec![self.resource.lock().unwrap().clone()],
            // As the operator asks for them, which is by this label.
            Some("daemonsets") => {
                let sets = self.sets.lock().unwrap();
                sets.values().filter(|set| set["metadata"]["labels"][RESOURCE].is_string()).cloned().collect()
            }
            Some("pods") => self.pods.lock().unwrap().clone(),
            Some("nodes") => vec![json!({
                "metadata": {"name": "node-1", "labels": {"kubernetes.io/os": "linux",
                    "kubernetes.io/arch": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            })],
            Some("bundles") => self.bundles.lock().unwrap().values().cloned().collect(),
            // As the operator asks for those of names, which is by this label.
            Some("configmaps") => {
                let maps = self.maps.lock().unwrap();
                maps.values().filter(|map| map["metadata"]["labels"][NAMES].is_string()).cloned().collect()
            }
            _ => Vec::new(),
        };
        json!({"metadata": {"resourceVersion": "9"}, "items": items})
    }

    fn write(&self, path: &str, mut object: Value) -> Response {
        let name = path.rsplit('/').next().unwrap().to_owned();
        if path.contains("/leases") {
            let is_claim = object["metadata"]["name"] == "quinistry-claim";
            return write_lease(if is_claim { &self.claim } else { &self.lease }, object);
        }
        if path.contains("/events") {
            self.writes.lock().unwrap().push("event".into());
            return json_answer(&object);
        }
        if let Some((_, name)) = path.split_once("/bundles/") {
            return self.write_bundle_status(name.trim_end_matches("/status"), object);
        }
        if path.contains("/configmaps/") {
            return self.write_map(&name, object);
        }
        if name == "status" {
            self.writes.lock().unwrap().push("status".into());
            let mut resource = self.resource.lock().unwrap();
            resource["status"] = object["status"].take();
            resource["metadata"]["resourceVersion"] = json!("6");
            resource["metadata"]["sent"] = object["metadata"]["resourceVersion"].take();
            return json_answer(&resource);
        }
        let name = name_of(path);
        self.writes.lock().unwrap().push(format!("apply {name}"));
        if let Some((code, message)) = self.refusals.lock().unwrap().pop() {
            return failure(code, message);
        }
        let kept = if path.contains("/daemonsets/") { &self.sets } else { &self.objects };
        let there = kept.lock().unwrap().get(&name).cloned();
        if there
            .is_some_and(|set| set["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"])
        {
            return failure(409, "the object has been modified");
        }
        object["metadata"]["sent"] = object["metadata"]["resourceVersion"].take();
        object["metadata"]["uid"] = json!("u2");
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["resourceVersion"] = json!("7");
        object["metadata"]["creationTimestamp"] = json!("2099-01-01T00:00:00Z");
        if name.starts_with("services/") {
            object["spec"]["clusterIP"] = json!("10.96.0.7");
        }
        kept.lock().unwrap().insert(name, object.clone());
        json_answer(&object)
    }

    fn delete(&self, path: &str) -> Response {
        let name = name_of(path);
        self.writes.lock().unwrap().push(format!("delete {name}"));
        let kept = if path.contains("/daemonsets/") { &self.sets } else { &self.objects };
        let deleted = kept.lock().unwrap().remove(&name);
        deleted.map_or_else(|| failure(404, "there is no such object"), |object| json_answer(&object))
    }

    /// Who holds the Lease.
    pub(crate) fn holder(&self) -> Option<String> {
        let lease = self.lease.lock().unwrap();
        lease.as_ref()?["spec"]["holderIdentity"].as_str().map(str::to_owned)
    }

    /// Listens, until the runtime ends; how to reach it.
    pub(crate) async fn serve(&self) -> kube::Config {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(quinistry::registry::serve(listener, app, Limits::default(), std::future::pending()));
        let _ = rustls::crypto::ring::default_provider().install_default();
        kube::Config::new(url.parse().unwrap())
    }
}

/// Writes a Lease as the API server does: a version that is not the last one is refused.
fn write_lease(kept: &Mutex<Option<Value>>, mut lease: Value) -> Response {
    let mut now = kept.lock().unwrap();
    let version = now.as_ref().and_then(|now| now["metadata"]["resourceVersion"].as_str()).map(str::to_owned);
    if version.as_deref() != lease["metadata"]["resourceVersion"].as_str() {
        return failure(409, "the object has been modified");
    }
    let next = version.and_then(|version| version.parse::<u64>().ok()).unwrap_or_default() + 1;
    lease["metadata"]["resourceVersion"] = json!(next.to_string());
    *now = Some(lease.clone());
    json_answer(&lease)
}

/// Gives an object the next version.
fn raise_version(object: &mut Value) {
    let version =
        object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse::<u64>().ok());
    object["metadata"]["resourceVersion"] = json!((version.unwrap_or_default() + 1).to_string());
}

fn failure(code: u16, message: &str) -> Response {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        _ => "Invalid",
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": message, "reason": reason, "metadata": {}});
    (StatusCode::from_u16(code).unwrap(), json_answer(&status)).into_response()
}

fn json_answer(value: &Value) -> Response {
    ([("content-type", "application/json")], value.to_string()).into_response()
}

/// Returns the name of an object; for Services and network policies also the kind.
fn name_of(path: &str) -> String {
    let at = ["/services/", "/networkpolicies/"].iter().find_map(|kind| path.find(kind));
    at.map_or_else(|| path.rsplit('/').next().unwrap().into(), |at| path[at + 1..].into())
}

async fn answer(State(api): State<Api>, method: Method, uri: Uri, body: Bytes) -> Response {
    if *api.denies_services.lock().unwrap() && uri.path().contains("/services/") {
        return failure(
            403,
            "services is forbidden: User \"o\" cannot get resource \"services\" in API group \"\"",
        );
    }
    if method == Method::DELETE {
        return api.delete(uri.path());
    }
    if method != Method::GET {
        return api.write(uri.path(), serde_json::from_slice(&body).unwrap());
    }
    let unserved = api
        .unserved
        .lock()
        .unwrap()
        .iter()
        .find(|(kind, _)| uri.path().ends_with(**kind))
        .map(|(_, code)| *code);
    if let Some(code) = unserved {
        *api.turned_away.lock().unwrap() += 1;
        return failure(code, "the server could not find the requested resource");
    }
    if api.is_away(uri.path()) {
        return failure(503, "not now");
    }
    if uri.query().is_some_and(|query| query.contains("watch=true")) {
        return api.watch(uri.path());
    }
    if uri.path().ends_with("/quinistries/larder") {
        *api.asked.lock().unwrap() += 1;
        if *api.is_gone.lock().unwrap() {
            return failure(404, "there is no such resource");
        }
        return json_answer(&api.resource.lock().unwrap());
    }
    if let Some((_, name)) = uri.path().split_once("/configmaps/") {
        let map = api.maps.lock().unwrap().get(name).cloned();
        return map.map_or_else(|| failure(404, "there is no such ConfigMap"), |map| json_answer(&map));
    }
    if let Some((_, name)) = uri.path().split_once("/daemonsets/") {
        let set = api.sets.lock().unwrap().get(name).cloned();
        return set.map_or_else(|| failure(404, "there is no such DaemonSet"), |set| json_answer(&set));
    }
    if ["/services/", "/networkpolicies/"].iter().any(|kind| uri.path().contains(kind)) {
        let object = api.objects.lock().unwrap().get(&name_of(uri.path())).cloned();
        return object.map_or_else(|| failure(404, "there is no such object"), |object| json_answer(&object));
    }
    if uri.path().contains("/leases/") {
        let is_claim = uri.path().ends_with("/quinistry-claim");
        let lease = if is_claim { &api.claim } else { &api.lease }.lock().unwrap().clone();
        return lease.map_or_else(|| failure(404, "there is no such Lease"), |lease| json_answer(&lease));
    }
    json_answer(&api.list(uri.path()))
}

/// Waits for something to be so.
pub(crate) async fn until(api: &Api, done: impl Fn(&Api) -> bool) {
    let waiting = async {
        while !done(api) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting)
        .await
        .unwrap_or_else(|_| panic!("never done: {:?}, {}", api.writes(), api.resource.lock().unwrap()));
}
