//! A namespace is deleted while generations are raised in it. Everything in it is deleted, the operator does
//! not retry in vain, and continues with other namespaces.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::TryStreamExt as _;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, watcher};
use kube::{Api, ResourceExt as _};
use quinistry::crd::Quinistry;
use serde_json::json;

use super::support::stage::condition;
use super::support::{Stage, Story, When, wait};

const DEADLINE: Duration = Duration::from_mins(4);
/// Tolerated number of refused writes: one for each missed `DaemonSet`, each status, and each step between
/// them.
const MAX_REFUSALS: u64 = 12;

pub fn story() -> Story {
    // The story counts the operator's requests at the API server.
    Story { name: "namespace_deleted", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let client = || stage.world.client.clone();
    let namespaces = Api::<Namespace>::all(client());
    let labels = json!({"pod-security.kubernetes.io/enforce": "privileged"});
    let deleted_namespace =
        serde_json::from_value(json!({"metadata": {"generateName": "e2e-doomed-", "labels": labels}}))?;
    let deleted_namespace = namespaces.create(&PostParams::default(), &deleted_namespace).await?.name_any();
    let resources = Api::<Quinistry>::namespaced(client(), &deleted_namespace);
    let resource = stage.resource("ship", 4);
    resources.patch("ship", &PatchParams::apply("story"), &Patch::Apply(&resource)).await?;
    let sets = Api::<DaemonSet>::namespaced(client(), &deleted_namespace);
    wait::until(&sets, "ship-gen2", DEADLINE, "generation 2 exists", |_| true).await?;

    let before = count_refusals(&stage).await?;
    let reasons = Arc::<Mutex<BTreeSet<String>>>::default();
    let recorder = tokio::spawn(record_reasons(resources.clone(), Arc::clone(&reasons)));
    namespaces.delete(&deleted_namespace, &DeleteParams::default()).await?;
    let selection = ListParams::default().fields(&format!("metadata.name={deleted_namespace}"));
    wait::until_none(&namespaces, &selection, DEADLINE, "the namespace is gone").await?;
    recorder.abort();
    // It is a race whether the operator reports the reason before the resource is gone.
    let reasons = reasons.lock().expect("nothing panics with it").clone();
    stage.log(format_args!("the namespace is gone; reasons of Degraded: {reasons:?}"));

    // The same ports at once.
    stage.apply(&stage.resource("boat", 2)).await?;
    stage.until_ready("boat", DEADLINE).await?;
    let refused = count_refusals(&stage).await? - before;
    stage.log(format_args!("{refused} writes were refused"));
    ensure!(refused <= MAX_REFUSALS, "the operator retries in vain: {refused} writes were refused");
    Ok(())
}

/// Records the reasons of Degraded until the task is aborted.
async fn record_reasons(api: Api<Quinistry>, reasons: Arc<Mutex<BTreeSet<String>>>) {
    let mut changes = std::pin::pin!(watcher(api, Config::default()).touched_objects());
    while let Ok(Some(resource)) = changes.try_next().await {
        let degraded = condition(&resource, "Degraded").filter(|found| found.status == "True");
        reasons.lock().expect("nothing panics with it").extend(degraded.map(|found| found.reason.clone()));
    }
}

/// Returns the number of an operator's writes that the API server has refused. The cluster's own controllers
/// write by other verbs.
async fn count_refusals(stage: &Stage) -> Result<u64> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let text = stage.world.client.request_text(request).await?;
    let refused = |line: &&str| {
        let has = |part: &str| line.contains(part);
        line.starts_with("apiserver_request_total{")
            && has("code=\"4")
            && ["APPLY", "PATCH", "DELETE"].iter().any(|verb| has(&format!("verb=\"{verb}\"")))
            && (has("resource=\"quinistries\"") || has("resource=\"daemonsets\""))
    };
    let counts = text.lines().filter(refused).filter_map(|line| line.rsplit_once(' '));
    counts.map(|(_, count)| count.parse::<u64>().context("a counter is a number")).sum()
}
