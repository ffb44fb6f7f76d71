//! Check for another operator over the namespace: two operators would overwrite each other's changes. Pure.

use super::observe::ObservedCluster;
use super::{InstallRequest, PreflightFinding};

const SUBJECT: &str = "operators";

pub(super) fn findings(observed: &ObservedCluster, request: &InstallRequest<'_>) -> Vec<PreflightFinding> {
    let namespace = request.namespace;
    let mut all = Vec::new();
    match &observed.operators {
        None => all.push(PreflightFinding::note(
            SUBJECT,
            "you may not list Deployments, so whether another operator looks after the namespace is not known",
        )),
        Some(operators) => {
            let others = operators.iter().filter(|one| !one.is_of_up(namespace) && one.looks_after(namespace));
            all.extend(others.map(|other| {
                let name = other.display_name();
                if other.replicas == 0 {
                    let text = format!("{name} has no replicas, and would look after namespace {namespace} too");
                    return PreflightFinding::note(SUBJECT, text);
                }
                PreflightFinding::fail(
                    SUBJECT,
                    format!(
                        "{name} looks after namespace {namespace} already; limit it to other namespaces \
                         (watchNamespace), or uninstall it, or create the resource for it in place of `up`"
                    ),
                )
            }));
        }
    }
    if let Some(holder) = &observed.claim
        && all.iter().all(|finding| finding.level != super::Level::Fail)
    {
        all.push(PreflightFinding::fail(
            SUBJECT,
            format!("operator {holder} has claimed the resource of namespace {namespace}; stop it first"),
        ));
    }
    if all.is_empty() {
        all.push(PreflightFinding::ok(SUBJECT, format!("no other looks after namespace {namespace}")));
    }
    all
}
