//! A small API server for the commands: it keeps objects by their paths, says which kinds it serves, and
//! deletes an object only in the version that the request has seen.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::{command, output};
use crate::support::scripted_registry::{Answer, Request, ScriptedRegistry};
use crate::support::server::PROGRAM;

/// Objects of the server, and its answers.
#[derive(Default)]
pub(crate) struct State {
    /// Objects by path, as in `/api/v1/namespaces/pantry`.
    pub(crate) objects: BTreeMap<String, Value>,
    /// Answers to exact paths, in place of what is there: status and body.
    pub(crate) answers: BTreeMap<String, (u16, Value)>,
    /// Status of every answer, if it is not to be a good one.
    pub(crate) broken: Option<u16>,
    pub(crate) deleted: Vec<String>,
    /// Deletions that did not say what they had seen.
    pub(crate) unconditional: Vec<String>,
}

/// The server, and a kubeconfig that leads to it.
pub(crate) struct Api {
    pub(crate) state: Arc<Mutex<State>>,
    folder: TempDir,
}

impl Api {
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let server = ScriptedRegistry::start(move |request| answer(request, &mut shared.lock().unwrap()));
        let folder = TempDir::new().unwrap();
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: pantry\n\
             clusters: [{{name: stove, cluster: {{server: 'http://{}'}}}}]\nusers: [{{name: cook, user: {{}}}}]\n\
             contexts:\n- {{name: pantry, context: {{cluster: stove, user: cook}}}}\n\
             - {{name: attic, context: {{cluster: stove, user: cook}}}}\n",
            server.host
        );
        fs::write(folder.path().join("kubeconfig"), kubeconfig).unwrap();
        let api = Self { state, folder };
        api.answer("/version", json!({"major": "1", "minor": "36"}));
        api.answer("/api", core(&["configmaps", "pods", "secrets", "serviceaccounts"]));
        api.answer("/apis", groups(&[]));
        api
    }

    pub(crate) fn answer(&self, path: &str, body: Value) {
        self.state.lock().unwrap().answers.insert(path.into(), (200, body));
    }

    /// Has an object, which gets what the API server would give it.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let name = path.rsplit('/').next().unwrap();
        let namespace = path.split("/namespaces/").nth(1).and_then(|rest| rest.split_once('/'));
        object["metadata"]["name"] = name.into();
        if let Some((namespace, _)) = namespace {
            object["metadata"]["namespace"] = namespace.into();
        }
        object["metadata"]["uid"] = format!("uid of {path}").into();
        object["metadata"]["resourceVersion"] = "7".into();
        self.state.lock().unwrap().objects.insert(path.into(), object);
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.state.lock().unwrap().objects.contains_key(path)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Runs the program against this server.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        let mut program = command(PROGRAM);
        program.args(args).args(["--kubeconfig".as_ref(), self.kubeconfig().as_os_str()]);
        Outcome::of(&output(program.env_clear().env("HOME", self.folder.path())).unwrap())
    }
}

/// Output of the program, and its exit code.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Outcome {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), error: text(&output.stderr) }
    }
}

/// Returns the core group with these kinds.
pub(crate) fn core(plurals: &[&str]) -> Value {
    let resources: Vec<Value> = plurals.iter().map(|plural| resource(plural)).collect();
    json!({"kind": "APIGroupDiscoveryList", "items": [
        {"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": resources}]},
    ]})
}

/// Returns the other groups: quinistry's, and these.
pub(crate) fn groups(more: &[Value]) -> Value {
    let ours = json!({
        "metadata": {"name": "quinistry.dev"},
        "versions": [{"version": "v1alpha1", "resources": [resource("quinistries")]}],
    });
    let items = [&[ours], more].concat();
    json!({"kind": "APIGroupDiscoveryList", "items": items})
}

pub(crate) fn resource(plural: &str) -> Value {
    json!({"resource": plural, "scope": "Namespaced", "verbs": ["get", "list", "delete"]})
}

fn answer(request: &Request, state: &mut State) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let (status, mut answer) = respond(state, &request.method, path, &body);
    if let Some(items) = answer["items"].as_array_mut() {
        items.retain(|item| is_selected(item, query));
    }
    Answer::new(status).with("content-type", "application/json").body(answer.to_string())
}

fn respond(state: &mut State, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let failure = |code: u16, message: &str| {
        (
            code,
            json!({"kind": "Status", "status": "Failure", "code": code, "message": message, "reason": "a"}),
        )
    };
    if let Some(code) = state.broken {
        return failure(code, "the kitchen is closed");
    }
    if let Some(answer) = state.answers.get(path) {
        return answer.clone();
    }
    let found = state.objects.get(path).cloned();
    match (method, found) {
        ("DELETE", Some(found)) => {
            let seen = &body["preconditions"];
            if seen["uid"].is_null() || seen["resourceVersion"].is_null() {
                state.unconditional.push(path.into());
            }
            let meta = &found["metadata"];
            if seen["uid"] != meta["uid"] || seen["resourceVersion"] != meta["resourceVersion"] {
                return failure(409, "another one");
            }
            state.objects.remove(path);
            state.deleted.push(path.into());
            (200, found)
        }
        ("GET" | "PATCH", Some(found)) => (200, found),
        ("GET", None) if is_list(path) => {
            let inside = |other: &&String| {
                // Objects of one namespace, or of all.
                let (root, plural) = path.rsplit_once('/').unwrap();
                let Some((parent, _)) = other.rsplit_once('/') else { return false };
                let within = parent == path;
                let anywhere = parent.starts_with(&format!("{root}/namespaces/"))
                    && parent.ends_with(&format!("/{plural}"));
                within || anywhere
            };
            let items: Vec<&Value> =
                state.objects.iter().filter(|(other, _)| inside(other)).map(|(_, object)| object).collect();
            (200, json!({"kind": "List", "metadata": {"resourceVersion": "9"}, "items": items}))
        }
        ("POST", _) => {
            let mut answer = body.clone();
            answer["status"] = json!({"allowed": true, "userInfo": {"username": "cook"}});
            (201, answer)
        }
        _ => failure(404, "nothing of that name"),
    }
}

/// Returns true if an object has the labels that a query selects by.
fn is_selected(object: &Value, query: &str) -> bool {
    let selector = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "labelSelector");
    let selector = selector.map(|(_, value)| value.into_owned()).unwrap_or_default();
    selector.split(',').filter(|term| !term.is_empty()).all(|term| {
        let (key, wanted) = term.split_once('=').map_or((term, None), |(key, value)| (key, Some(value)));
        let value = object["metadata"]["labels"][key].as_str();
        value.is_some() && wanted.is_none_or(|wanted| value == Some(wanted))
    })
}

/// Returns true if a path ends in a plural and names no object.
fn is_list(path: &str) -> bool {
    let rest = path
        .split("/namespaces/")
        .nth(1)
        .map_or(path, |rest| rest.split_once('/').map_or("", |(_, rest)| rest));
    let segments = rest.trim_start_matches('/').split('/').count();
    match (path.contains("/namespaces/"), path.starts_with("/apis/")) {
        (true, _) => segments == 1 && !rest.is_empty(),
        (false, true) => segments == 4,
        (false, false) => segments == 3,
    }
}
