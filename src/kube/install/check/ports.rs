//! Check of the host ports: other pods and resources that use them. Pure. The API server knows no processes
//! of nodes.

use super::observe::ObservedCluster;
use super::{InstallRequest, PreflightFinding};
use crate::api::names::labels::{NODE_ARCHITECTURE, RESOURCE};
use crate::api::types::{ContainerPort, Metadata as _, Pod};
use crate::crd::Quinistry;

/// Number of pods that a text names.
const MAX_NAMED_HOLDERS: usize = 5;

pub(super) fn findings(
    observed: &ObservedCluster,
    request: &InstallRequest<'_>,
    before: Option<&Quinistry>,
) -> Vec<PreflightFinding> {
    let ports = request.options.ports(before);
    let uid = before.and_then(|before| before.metadata.uid.as_deref());
    let mut holders = Vec::new();
    for pod in observed.pods.iter().filter(|pod| !pod.has_ended()) {
        if uid.is_some() && pod.metadata.label(RESOURCE) == uid {
            continue;
        }
        let theirs = held(pod).filter(|port| ports.contains(&port.host));
        let mut theirs: Vec<String> = theirs.map(|port| port.host.to_string()).collect();
        theirs.dedup();
        if !theirs.is_empty() {
            let (meta, node) = (&pod.metadata, &pod.spec.node_name);
            let location =
                node.as_ref().map_or_else(|| "waiting for a node".into(), |node| format!("on {node}"));
            holders.push(format!(
                "{} ({}/{} {location})",
                theirs.join(" and "),
                meta.namespace(),
                meta.name()
            ));
        }
    }
    let range = format!("{} to {}", ports.start(), ports.end());
    let mut all = Vec::new();
    if holders.is_empty() {
        all.push(PreflightFinding::ok(
            "ports",
            format!("{range}: no {} has them", if before.is_some() { "other pod" } else { "pod" }),
        ));
    } else {
        let more = holders.len().saturating_sub(MAX_NAMED_HOLDERS);
        holders.truncate(MAX_NAMED_HOLDERS);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let text = format!(
            "{range} are needed, and other pods have {}{more}; remove them, or choose another --base-port",
            holders.join(", ")
        );
        all.push(PreflightFinding::fail("ports", text));
    }
    all.extend(observed.resources.iter().filter_map(|other| {
        let theirs = other.spec.ports();
        let apart = theirs.end() < ports.start() || ports.end() < theirs.start();
        if other.metadata.uid.as_deref() == uid && uid.is_some() || apart {
            return None;
        }
        let selector = &other.spec.node_selector;
        let arch = selector.get(NODE_ARCHITECTURE);
        if arch.is_some_and(|arch| arch != request.payload.architecture) {
            return None;
        }
        let name = format!("{}/{}", other.metadata.namespace(), other.metadata.name());
        let text = format!("Quinistry {name} has {} to {}", theirs.start(), theirs.end());
        Some(if selector.keys().all(|key| key == NODE_ARCHITECTURE) {
            PreflightFinding::fail("ports", format!("{text}; delete it, or choose another --base-port"))
        } else {
            PreflightFinding::note(
                "ports",
                format!("{text}, on the nodes that it selects; there it is in the way"),
            )
        })
    }));
    all
}

/// Returns the pod's TCP host ports on all addresses or on loopback, which conflict with a generation's.
fn held(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    let containers = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    containers.flat_map(|container| &container.ports).filter(|port| {
        matches!(port.host_ip.as_str(), "" | "0.0.0.0" | "::" | "127.0.0.1")
            && matches!(port.protocol.as_str(), "" | "TCP")
    })
}
