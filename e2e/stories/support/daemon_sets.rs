//! `DaemonSets`: made by hand, and watched in the order in which the API server saw them change.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, anyhow};
use futures_util::TryStreamExt as _;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::{Stage, wait};

/// A generation as somebody without an operator would write it.
pub fn by_hand(name: &str, image: &str, port: i32, digest: &str) -> DaemonSet {
    let labels = json!({"story-daemon-set": name});
    serde_json::from_value(json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 5,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{
                        "name": "quinistry",
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["serve", "--expect-digest", digest],
                        "ports": [{"containerPort": 8080, "hostPort": port, "hostIP": "127.0.0.1"}],
                        "readinessProbe": {
                            "httpGet": {"host": "127.0.0.1", "port": port, "path": format!("/v2/quinistry/manifests/{digest}")},
                            "periodSeconds": 1,
                        },
                    }],
                },
            },
        },
    }))
    .expect("a DaemonSet")
}

/// Whether every pod is of the newest template and available, and there is at least one.
pub fn is_rolled_out(set: &DaemonSet) -> bool {
    let Some(status) = &set.status else { return false };
    status.desired_number_scheduled > 0
        && status.observed_generation == set.metadata.generation
        && status.updated_number_scheduled == Some(status.desired_number_scheduled)
        && status.number_available == Some(status.desired_number_scheduled)
}

/// Waits for a rollout on all nodes.
pub async fn until_rolled_out(stage: &Stage, name: &str, deadline: Duration) -> Result<DaemonSet> {
    let size = stage.world.size();
    wait::until(&stage.daemon_sets(), name, deadline, &format!("DaemonSet {name} is rolled out"), |set| {
        is_rolled_out(set)
            && set.status.as_ref().is_some_and(|status| status.desired_number_scheduled == size)
    })
    .await
}

/// The image of a set's only container.
pub fn image(set: &DaemonSet) -> &str {
    let template = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    template.and_then(|pod| pod.containers.first()).and_then(|one| one.image.as_deref()).unwrap_or_default()
}

/// What happened to a set.
#[derive(Clone, Debug)]
pub enum Change {
    Applied(Box<DaemonSet>),
    Deleted(String),
}

/// All changes of `DaemonSets` in a namespace since it began, in order.
pub struct Record {
    changes: Arc<Mutex<Vec<Change>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Record {
    /// Begins to watch; what is there already comes first.
    pub fn begin(api: Api<DaemonSet>) -> Self {
        let changes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&changes);
        let task = tokio::spawn(async move {
            let stream = watcher::watcher(api, watcher::Config::default());
            let _ = stream
                .try_for_each(|event| {
                    let change = match event {
                        Event::Apply(set) | Event::InitApply(set) => Some(Change::Applied(Box::new(set))),
                        Event::Delete(set) => Some(Change::Deleted(set.name_any())),
                        Event::Init | Event::InitDone => None,
                    };
                    sink.lock().expect("nothing panics with it").extend(change);
                    std::future::ready(Ok(()))
                })
                .await;
        });
        Self { changes, task }
    }

    /// What happened so far.
    pub fn changes(&self) -> Vec<Change> {
        self.changes.lock().expect("nothing panics with it").clone()
    }

    /// The first change of set `name` that satisfies a condition: its place in the order.
    pub fn place(&self, name: &str, what: &str, condition: impl Fn(&DaemonSet) -> bool) -> Result<usize> {
        let found = self.changes().iter().position(|change| match change {
            Change::Applied(set) => set.name_any() == name && condition(set),
            Change::Deleted(_) => false,
        });
        found.ok_or_else(|| anyhow!("DaemonSet {name} was never seen {what}"))
    }

    /// Names of the sets that were deleted, in order.
    pub fn deleted(&self) -> Vec<String> {
        let deleted = self.changes().into_iter().filter_map(|change| match change {
            Change::Deleted(name) => Some(name),
            Change::Applied(_) => None,
        });
        deleted.collect()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.task.abort();
    }
}
