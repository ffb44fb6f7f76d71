//! Diagnosis of a failed story: resources, `DaemonSets`, pods, the ends of their logs, and Events.

use std::fmt::Write as _;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt as _};
use quinistry::crd::Quinistry;

use super::daemon_sets;
use super::operator::{NAMESPACE, SharedOperator};
use super::world::World;

/// Lines printed of each container's log.
const LOG_LINES: i64 = 30;

/// Describes a story's namespace and the operator.
pub async fn of_story(world: &World, namespace: &str, operator: Option<&SharedOperator>) -> String {
    let mut out = of_namespace(world, namespace).await;
    if operator.is_some() {
        out += &of_operator(world, operator).await;
    }
    out
}

/// Describes the operator alone: its log, or its namespace when it runs in the cluster.
pub async fn of_operator(world: &World, operator: Option<&SharedOperator>) -> String {
    match operator.and_then(SharedOperator::log) {
        Some(log) => format!("--- log of the operator\n{log}\n"),
        None => of_namespace(world, NAMESPACE).await,
    }
}

/// Describes the objects of a namespace.
pub async fn of_namespace(world: &World, namespace: &str) -> String {
    let mut out = format!("--- namespace {namespace}\n");
    let all = ListParams::default();
    if let Ok(list) = Api::<Quinistry>::namespaced(world.client.clone(), namespace).list(&all).await {
        for one in list {
            let status = serde_json::to_string_pretty(&one.status).unwrap_or_default();
            let _ = writeln!(
                out,
                "Quinistry {} generation {:?}: {status}",
                one.name_any(),
                one.metadata.generation
            );
        }
    }
    if let Ok(list) = Api::<DaemonSet>::namespaced(world.client.clone(), namespace).list(&all).await {
        for one in list {
            let status = serde_json::to_string(&one.status).unwrap_or_default();
            let _ = writeln!(out, "DaemonSet {} {}: {status}", one.name_any(), daemon_sets::image(&one));
        }
    }
    let pods = Api::<Pod>::namespaced(world.client.clone(), namespace);
    for pod in pods.list(&all).await.into_iter().flatten() {
        out += &of_pod(&pods, &pod).await;
    }
    if let Ok(list) = Api::<Event>::namespaced(world.client.clone(), namespace).list(&all).await {
        for one in list {
            let (kind, name) =
                (one.involved_object.kind.unwrap_or_default(), one.involved_object.name.unwrap_or_default());
            let _ = writeln!(
                out,
                "Event {kind} {name}: {} {}",
                one.reason.unwrap_or_default(),
                one.message.unwrap_or_default()
            );
        }
    }
    out
}

async fn of_pod(pods: &Api<Pod>, pod: &Pod) -> String {
    let name = pod.name_any();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node");
    let status = pod.status.clone().unwrap_or_default();
    let mut out = format!("Pod {name} on {node}: {}\n", status.phase.unwrap_or_default());
    for one in status.conditions.into_iter().flatten().filter(|one| one.status != "True") {
        let _ = writeln!(
            out,
            "  {} {}: {}",
            one.type_,
            one.reason.unwrap_or_default(),
            one.message.unwrap_or_default()
        );
    }
    let containers = [status.init_container_statuses, status.container_statuses];
    for one in containers.into_iter().flatten().flatten() {
        let state = serde_json::to_string(&one.state).unwrap_or_default();
        let last = serde_json::to_string(&one.last_state).unwrap_or_default();
        let _ = writeln!(
            out,
            "  {} ready {} restarts {} imageID {} state {state} before {last}",
            one.name, one.ready, one.restart_count, one.image_id
        );
        for previous in [true, false] {
            let container = Some(one.name.clone());
            let parameters =
                LogParams { container, tail_lines: Some(LOG_LINES), previous, ..LogParams::default() };
            if let Ok(log) = pods.logs(&name, &parameters).await {
                for line in log.lines() {
                    let _ = writeln!(out, "  | {line}");
                }
            }
        }
    }
    out
}
