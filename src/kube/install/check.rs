//! Checks before an installation: what prevents generation 0, and which nodes it leaves out. Changes nothing.
//!
//! `observe` reads the cluster; the rest is pure and returns findings with advice. The command line calls
//! this for `check`, and as the first step of `up`.

mod carriers;
mod nodes;
mod objects;
mod observe;
mod operators;
mod ports;
mod rights;

use kube::ResourceExt as _;
use observe::ObservedCluster;
use serde::Serialize;

use super::InstallRequest;
use super::api::Cluster;
use super::error::InstallError;
use crate::api::names::RESOURCE;
use crate::crd::{OLDEST_KUBERNETES, Quinistry};

/// Number of missing permissions that the text names; the details have all.
const MAX_NAMED_PERMISSIONS: usize = 3;

/// Subject of the finding about the API server, which needs no permissions.
const API_SERVER_SUBJECT: &str = "API server";

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing prevents the installation.
    Ok,
    /// The installation works with a limit that the text names.
    Note,
    /// The installation cannot work.
    Fail,
}

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PreflightFinding {
    /// Severity.
    pub level: Level,
    /// Subject of the check, in one or two words.
    pub subject: &'static str,
    /// Observation and advice.
    pub text: String,
    /// Complete list of what the text names in part.
    pub details: Vec<String>,
}

// === impl PreflightFinding ===

impl PreflightFinding {
    fn new(level: Level, subject: &'static str, text: impl Into<String>) -> Self {
        Self { level, subject, text: text.into(), details: Vec::new() }
    }

    fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Ok, subject, text)
    }

    fn note(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Note, subject, text)
    }

    fn fail(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Fail, subject, text)
    }
}

/// Runs all checks and returns the findings, the most important first. (Client required.)
pub async fn check(
    cluster: &Cluster,
    request: &InstallRequest<'_>,
    allows_downgrade: bool,
) -> Result<Vec<PreflightFinding>, InstallError> {
    let observed = observe::observe(cluster, request).await?;
    Ok(findings(&observed, request, allows_downgrade))
}

fn findings(
    observed: &ObservedCluster,
    request: &InstallRequest<'_>,
    allows_downgrade: bool,
) -> Vec<PreflightFinding> {
    let before = current_resource(observed, request.namespace);
    let mut all =
        vec![PreflightFinding::ok("cluster", observed.cluster.as_str()), version(&observed.version)];
    all.extend([rights(observed), resource(observed, request)]);
    all.extend(objects::ownership(observed));
    all.extend(objects::versions(observed, request, allows_downgrade));
    all.extend(operators::findings(observed, request));
    all.push(pod_security(observed, request.namespace));
    if !observed.missing.iter().any(|right| right.verb == "list" && right.resource == "nodes") {
        all.extend(nodes::findings(&observed.nodes, request.payload.architecture));
    }
    all.extend(carriers::findings(observed, request, before));
    all.push(pulls(observed));
    all.extend(ports::findings(observed, request, before));
    if !observed.missing.is_empty() {
        // Without permissions a check may have read nothing, so its `Ok` proves nothing.
        all.retain(|finding| {
            finding.level != Level::Ok || matches!(finding.subject, API_SERVER_SUBJECT | "cluster")
        });
    }
    all
}

/// Returns the existing resource of this installation.
fn current_resource<'a>(observed: &'a ObservedCluster, namespace: &str) -> Option<&'a Quinistry> {
    let mut resources = observed.resources.iter();
    resources.find(|one| one.name_any() == RESOURCE && one.namespace().as_deref() == Some(namespace))
}

fn version(version: &(String, String)) -> PreflightFinding {
    // Some vendors append a plus.
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
    let (major, minor) = (number(&version.0), number(&version.1));
    let version = format!("Kubernetes {}.{}", version.0, version.1);
    let (oldest_major, oldest_minor) = OLDEST_KUBERNETES;
    if (major, minor) >= OLDEST_KUBERNETES {
        PreflightFinding::ok(API_SERVER_SUBJECT, version)
    } else {
        let text = format!("{version} is too old: {oldest_major}.{oldest_minor} or newer is needed");
        PreflightFinding::fail(API_SERVER_SUBJECT, text)
    }
}

fn rights(observed: &ObservedCluster) -> PreflightFinding {
    let who = if observed.user.is_empty() { "you" } else { &observed.user };
    if observed.missing.is_empty() {
        return PreflightFinding::ok("rights", format!("{who} may do all of it"));
    }
    let all = rights::summaries(&observed.missing);
    let named = &all[..all.len().min(MAX_NAMED_PERMISSIONS)];
    let more = all.len() - named.len();
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more (`quinistry check -o json` lists them)")
    };
    let text = format!(
        "{who} may not {}{more}; ask for these rights, or for the role cluster-admin",
        named.join(", ")
    );
    PreflightFinding { details: all, ..PreflightFinding::fail("rights", text) }
}

fn resource(observed: &ObservedCluster, request: &InstallRequest<'_>) -> PreflightFinding {
    let namespace = request.namespace;
    let before = current_resource(observed, namespace);
    if let Some(text) = request.options.contradiction(before) {
        return PreflightFinding::fail("resource", text);
    }
    let Some(before) = before else {
        return PreflightFinding::ok("resource", format!("{namespace}/{RESOURCE} will be made"));
    };
    let new = request.payload.digest.as_str();
    if before.spec.digest.as_deref() == Some(new) {
        PreflightFinding::ok("resource", format!("{namespace}/{RESOURCE} is there, with this executable"))
    } else {
        let old = before.spec.digest.as_deref().unwrap_or("another digest");
        PreflightFinding::ok(
            "resource",
            format!("{namespace}/{RESOURCE} is there, and goes from {old} to {new}"),
        )
    }
}

fn pod_security(observed: &ObservedCluster, namespace: &str) -> PreflightFinding {
    let Some(level) = &observed.level else {
        return PreflightFinding::ok(
            "Pod Security",
            format!("namespace {namespace} will be made, as privileged"),
        );
    };
    match level.as_str() {
        "privileged" => PreflightFinding::ok("Pod Security", format!("namespace {namespace} is privileged")),
        "" => PreflightFinding::note(
            "Pod Security",
            format!(
                "namespace {namespace} enforces the cluster's default level; `up` labels it privileged, for host ports"
            ),
        ),
        level => PreflightFinding::note(
            "Pod Security",
            format!(
                "namespace {namespace} enforces {level}, which forbids host ports; `up` labels it privileged. Name another \
                 with --namespace if that level is meant"
            ),
        ),
    }
}

fn pulls(observed: &ObservedCluster) -> PreflightFinding {
    match &observed.policy {
        Ok(policy) if policy == "Always" => PreflightFinding::fail(
            "admission",
            "a plugin turns every pull policy into Always (AlwaysPullImages), so that no image that is there already can \
             be used; except the namespace from it",
        ),
        Ok(_) => PreflightFinding::ok("admission", "images that are there already may be used"),
        Err(why) => PreflightFinding::note(
            "admission",
            format!("whether images that are there may be used is not known: {why}"),
        ),
    }
}

#[cfg(test)]
mod tests;
