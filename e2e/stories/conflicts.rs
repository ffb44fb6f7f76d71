//! Competing writers: each write of the operator is refused once as a conflict, and another field manager
//! forcibly edits each `DaemonSet` right after the operator has written it. The resource's specification wins
//! in the end, in order, and without a storm of writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::TryStreamExt as _;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::support::fault_proxy::{Fault, FaultProxy};
use super::support::observer::{Observer, is_image_owned_by_operator, version};
use super::support::{Stage, Story, When, daemon_sets, serving};

const DEADLINE: Duration = Duration::from_mins(4);
const OPERATOR_PORT: u16 = 18084;
/// Edits of each `DaemonSet`.
const EDITS_PER_SET: usize = 3;
const GENERATIONS: i32 = 3;
/// Image that the other manager writes; no node can pull it.
const OTHER_IMAGE: &str = "localhost:1/meddled:1";

pub fn story() -> Story {
    Story { name: "conflicts", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.can_run_operators() {
        return Ok(());
    }
    stage.operator().stop_shared(&stage.world).await?;
    let proxy = FaultProxy::start(&stage).await?;
    proxy.set(Fault::Conflicts);
    let process = proxy.operator(&stage.world, OPERATOR_PORT, |_| {})?;
    check(&stage, &proxy).await.with_context(|| format!("log of the operator:\n{}", process.log()))
}

async fn check(stage: &Stage, proxy: &FaultProxy) -> Result<()> {
    let observer = Observer::start(stage).await?;
    let other = tokio::spawn(edit_sets(stage.daemon_sets()));
    stage.apply(&stage.resource("rope", GENERATIONS)).await?;
    let edits = tokio::time::timeout(DEADLINE, other)
        .await
        .context("the operator did not write all sets in time")??;
    stage.log(format_args!("edited by another manager: {:?}", edits?));
    stage.until_ready("rope", DEADLINE).await?;
    for set in stage.daemon_sets().list(&ListParams::default()).await? {
        let name = set.name_any();
        let image = daemon_sets::image(&set);
        ensure!(image != OTHER_IMAGE, "{name} still has the other image");
        ensure!(max_unavailable(&set) == Some(IntOrString::Int(1)), "{name}: {:?}", max_unavailable(&set));
        let label = set.labels().get("k8s-app").map(String::as_str);
        ensure!(label == Some("quinistry"), "{name} is labelled {label:?}");
    }
    let writes = proxy.writes();
    stage.log(format_args!("forwarded {:?}, refused {:?}", writes.forwarded, writes.refused));
    // One write per generation and one per edit; a few more, as edits and conflicts overlap.
    let expected = usize::try_from(GENERATIONS)? * (EDITS_PER_SET + 1);
    let sets = writes.matching("daemonsets");
    ensure!(
        sets >= expected && sets <= expected * 2,
        "{sets} writes of DaemonSets, expected about {expected}"
    );
    let statuses = writes.matching("quinistries/status");
    ensure!(statuses <= expected * 8, "{statuses} writes of status");
    let digest = &stage.world.first.digest;
    serving::check_all_nodes(stage, stage.base_port..stage.base_port + GENERATIONS, digest).await?;
    observer.check_chain_rule(stage).await
}

/// Edits each `DaemonSet` as soon as the operator has written it, `EDITS_PER_SET` times. Returns the edits by
/// name.
async fn edit_sets(api: Api<DaemonSet>) -> Result<BTreeMap<String, usize>> {
    let mut edits = BTreeMap::<String, usize>::new();
    let mut edited = 0;
    let mut changes = std::pin::pin!(watcher(api.clone(), Config::default()).applied_objects());
    while let Some(set) = changes.try_next().await? {
        let name = set.name_any();
        let edits_of_set = edits.entry(name.clone()).or_default();
        // Objects older than the last edit do not contain it yet.
        if *edits_of_set < EDITS_PER_SET && is_image_owned_by_operator(&set) && version(&set) > edited {
            *edits_of_set += 1;
            edited = edit(&api, &name).await?;
        }
        let all = usize::try_from(GENERATIONS)?;
        if edits.len() == all && edits.values().all(|edits_of_set| *edits_of_set == EDITS_PER_SET) {
            break;
        }
    }
    Ok(edits)
}

/// Forces an edit, and returns the resulting version.
async fn edit(api: &Api<DaemonSet>, name: &str) -> Result<u64> {
    let patch = json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "labels": {"k8s-app": "meddled"}},
        "spec": {
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}},
            "template": {"spec": {"containers": [{"name": "quinistry", "image": OTHER_IMAGE}]}},
        },
    });
    let set = api.patch(name, &PatchParams::apply("meddler").force(), &Patch::Apply(&patch)).await?;
    Ok(version(&set))
}

fn max_unavailable(set: &DaemonSet) -> Option<IntOrString> {
    set.spec.as_ref()?.update_strategy.as_ref()?.rolling_update.as_ref()?.max_unavailable.clone()
}
