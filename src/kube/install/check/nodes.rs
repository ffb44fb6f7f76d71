//! Check of the nodes: system, architecture and readiness. Pure.

use super::PreflightFinding;
use crate::api::types::{Metadata as _, Node};

/// Number of nodes that a text names.
const MAX_NAMED_NODES: usize = 5;

pub(super) fn findings(nodes: &[Node], architecture: &str) -> Vec<PreflightFinding> {
    let fits = |node: &&Node| {
        let info = &node.status.node_info;
        info.operating_system == "linux" && info.architecture == architecture
    };
    let (ours, others): (Vec<&Node>, Vec<&Node>) = nodes.iter().partition(fits);
    let mut all = Vec::new();
    if ours.is_empty() {
        if nodes.is_empty() {
            all.push(PreflightFinding::fail(
                "nodes",
                "the cluster has no nodes, so nothing can run; add one",
            ));
        } else {
            let text = format!(
                "none of {} runs linux on {architecture}; ship an executable for their architecture with --binary",
                nodes.len()
            );
            all.push(PreflightFinding::fail("nodes", text));
        }
        return all;
    }
    all.push(PreflightFinding::ok("nodes", format!("{} run linux on {architecture}", ours.len())));
    if !others.is_empty() {
        let text = format!("{} are left out, being of another system or architecture", names(&others));
        all.push(PreflightFinding::note("nodes", text));
    }
    let away: Vec<&Node> = ours.iter().copied().filter(|node| !node.is_ready()).collect();
    if !away.is_empty() {
        let text = if away.len() == ours.len() {
            format!("{} not ready: nothing can be raised before one is", names(&away))
        } else {
            format!("{} not ready; the others go on without, and these follow", names(&away))
        };
        all.push(PreflightFinding::note("nodes", text));
    }
    let crio = |node: &&Node| node.status.node_info.container_runtime_version.starts_with("cri-o://");
    let on_crio: Vec<&Node> = ours.iter().copied().filter(crio).collect();
    if !on_crio.is_empty() {
        let text = format!(
            "{} run CRI-O, which must be told that localhost speaks plain HTTP: `insecure = true` for each port, in \
             /etc/containers/registries.conf.d",
            names(&on_crio)
        );
        all.push(PreflightFinding::note("runtime", text));
    }
    all
}

/// Formats the names of the first nodes and the number of the others.
pub(super) fn names(nodes: &[&Node]) -> String {
    let first: Vec<&str> = nodes.iter().take(MAX_NAMED_NODES).map(|node| node.metadata.name()).collect();
    let more = nodes.len().saturating_sub(MAX_NAMED_NODES);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", first.join(", "))
}
