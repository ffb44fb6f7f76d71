//! The installation. An earlier run that was interrupted, or another run at the same moment, may have done
//! any step already. (Client required.)
//!
//! The operator comes last: its image comes from generation 0, which the installer raises only while no
//! operator does. In an upgrade the existing operator raises the new generation 0; then it is replaced, and
//! the new operator raises the other generations.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Resource as _;
use serde_json::Value;
use tokio::time::sleep;

use super::api::{CRD, Cluster, DEPLOYMENT, LEASE, NAMESPACE, QUINISTRY};
use super::error::InstallError;
use super::manifests::{self, OperatorParameters};
use super::status::{self, StatusSnapshot};
use super::{InstallRequest, ownership, seed_parts, tree, version};
use crate::api::conditions::ESTABLISHED;
use crate::api::names::labels::APP_MANAGED_BY;
use crate::api::names::{OPERATOR, RESOURCE, managers, operator_namespace};
use crate::api::types::{self, Metadata as _};
use crate::crd::{GenerationState, Quinistry};
use crate::operator::{Category, generation_zero};

/// Interval of the passes over generation 0 while no operator does them.
const SEED_PASS_INTERVAL: Duration = Duration::from_secs(1);

/// Interval at which objects are read while waiting.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Time limit for the API server to serve a new definition.
const DEFINITION_TIMEOUT: Duration = Duration::from_secs(30);

/// Age of the operator's Lease up to which the operator counts as alive. It renews the Lease every two
/// seconds.
const MAX_RENEWAL_AGE: SignedDuration = SignedDuration::from_secs(15);

/// Progress of an installation.
#[derive(Debug)]
pub enum InstallProgress<'a> {
    /// A step is done.
    StepDone(String),
    /// A step is running.
    StepRunning(String),
    /// A step waits for the cluster.
    Waiting(String),
    /// State of the generations.
    Snapshot(&'a StatusSnapshot),
}

/// Function that receives the progress of an installation.
pub type InstallProgressFn<'a> = &'a mut dyn FnMut(InstallProgress<'_>);

/// Installs everything, and waits until generation 0 serves, for as long as `timeout`. The operator raises the rest.
pub async fn install(
    cluster: &Cluster,
    request: &InstallRequest<'_>,
    timeout: Duration,
    report: InstallProgressFn<'_>,
) -> Result<(), InstallError> {
    for (name, definition) in version::definitions() {
        apply_definition(cluster, name, &definition).await?;
    }
    report(InstallProgress::StepDone("definitions".into()));
    apply_namespaces(cluster, request.namespace).await?;
    for object in manifests::rights(request.namespace) {
        cluster.apply(&object).await?;
    }
    report(InstallProgress::StepDone("namespaces, account and rights".into()));
    let resource = ensure_resource(cluster, request).await?;
    let split = &request.payload.split;
    let owned = owner_reference(&resource);
    let written = seed_parts::write_all(cluster, split, request.namespace, &owned, |done, all| {
        report(InstallProgress::StepRunning(format!("parts of the executable: {done} of {all}")));
    });
    let written = written.await?;
    report(InstallProgress::StepDone(format!(
        "{} parts of the executable, {written} of them written",
        split.share_count() + 1
    )));
    let quinistry = apply_resource(cluster, request).await?;
    report(InstallProgress::StepDone(format!("Quinistry {}/{RESOURCE}", request.namespace)));
    raise_generation_zero(cluster, request, &quinistry, timeout, report).await?;
    report(InstallProgress::StepDone("generation 0".into()));
    let parameters = OperatorParameters {
        namespace: request.namespace,
        architecture: request.payload.architecture,
        port: *request.options.ports(Some(&quinistry)).start(),
        digest: &request.payload.digest,
        version: request.payload.version.as_deref(),
    };
    cluster.apply(&manifests::operator(&parameters)).await?;
    report(InstallProgress::StepDone("operator".into()));
    Ok(())
}

/// Applies a definition, and waits until the API server serves it.
async fn apply_definition(cluster: &Cluster, name: &str, definition: &Value) -> Result<(), InstallError> {
    let there: Option<Value> = cluster.get(CRD, "", name).await?;
    if needs_definition(there.as_ref(), definition) {
        cluster.apply(definition).await?;
    }
    let began = Instant::now();
    loop {
        let found: Option<Value> = cluster.get(CRD, "", name).await?;
        let conditions = found.as_ref().and_then(|found| found["status"]["conditions"].as_array());
        if conditions
            .is_some_and(|all| all.iter().any(|one| one["type"] == ESTABLISHED && one["status"] == "True"))
        {
            return Ok(());
        }
        if began.elapsed() > DEFINITION_TIMEOUT {
            let why = format!("kubectl describe crd {name} says why; then run this again");
            return Err(InstallError::Timeout {
                what: format!("the definition {name} is not served"),
                after: DEFINITION_TIMEOUT,
                why,
            });
        }
        sleep(POLL_INTERVAL / 5).await;
    }
}

/// Returns true if a definition must be applied. A newer definition is never lowered; one of a Helm release
/// is left alone if it has every field that this program needs.
fn needs_definition(there: Option<&Value>, own: &Value) -> bool {
    let Some(there) = there else { return true };
    let is_helms = ownership::release(there).is_some();
    let is_enough = is_helms && version::covers(there, own);
    !version::is_newer_definition(there) && !is_enough
}

async fn apply_namespaces(cluster: &Cluster, namespace: &str) -> Result<(), InstallError> {
    for (name, level) in manifests::namespaces(namespace) {
        let found: Option<types::Object> = cluster.get(NAMESPACE, "", &name).await?;
        if found.as_ref().is_some_and(|found| found.metadata.is_terminating()) {
            let text = format!("namespace {name} is being deleted; run this again when it is gone");
            return Err(InstallError::Refused(text));
        }
        let ours = found.is_none_or(|found| found.metadata.label(APP_MANAGED_BY) == Some(managers::UP));
        cluster.apply(&manifests::namespace(&name, level, ours)).await?;
    }
    Ok(())
}

/// Returns the existing resource, or creates one. An existing resource is changed only after the new seed
/// parts are complete.
async fn ensure_resource(cluster: &Cluster, request: &InstallRequest<'_>) -> Result<Quinistry, InstallError> {
    let began = Instant::now();
    loop {
        if let Some(found) = read_resource(cluster, request.namespace).await? {
            return Ok(found);
        }
        let wanted = request.options.resource(request.namespace, request.payload, None);
        let body = serde_json::to_vec(&wanted).expect("a value is JSON");
        match cluster.create::<Value>(QUINISTRY, request.namespace, RESOURCE, body).await {
            Ok(made) => return parse_resource(made),
            Err(error) if error.is_conflict() => {}
            // One of several API servers may not serve the definition yet.
            Err(error) if error.is_missing() && began.elapsed() < DEFINITION_TIMEOUT => {
                sleep(POLL_INTERVAL).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Applies the requested specification and keeps the other settings of the resource.
async fn apply_resource(cluster: &Cluster, request: &InstallRequest<'_>) -> Result<Quinistry, InstallError> {
    let before = read_resource(cluster, request.namespace).await?;
    if let Some(text) = request.options.contradiction(before.as_ref()) {
        return Err(InstallError::Refused(text));
    }
    let wanted = request.options.resource(request.namespace, request.payload, before.as_ref());
    parse_resource(cluster.apply(&wanted).await?)
}

pub(super) async fn read_resource(
    cluster: &Cluster,
    namespace: &str,
) -> Result<Option<Quinistry>, InstallError> {
    let found: Option<Value> = cluster.get(QUINISTRY, namespace, RESOURCE).await?;
    found.map(parse_resource).transpose()
}

fn parse_resource(object: Value) -> Result<Quinistry, InstallError> {
    status::read(object).ok_or_else(|| {
        InstallError::Refused(format!(
            "Quinistry {RESOURCE} has a specification that this version does not understand; use a newer quinistry"
        ))
    })
}

/// Waits until generation 0 serves; raises it unless an operator does.
async fn raise_generation_zero(
    cluster: &Cluster,
    request: &InstallRequest<'_>,
    quinistry: &Quinistry,
    timeout: Duration,
    report: InstallProgressFn<'_>,
) -> Result<(), InstallError> {
    let began = Instant::now();
    let mut renewal = None;
    let (mut snapshot, mut trouble) = (StatusSnapshot::of(quinistry), None);
    while began.elapsed() < timeout {
        let pass = Instant::now();
        // An operator may have deleted the new parts: before the resource names their executable they look
        // like old ones.
        if !seed_parts::exist(cluster, &request.payload.split, request.namespace).await? {
            seed_parts::write_all(
                cluster,
                &request.payload.split,
                request.namespace,
                &owner_reference(quinistry),
                |_, _| {},
            )
            .await?;
        }
        let (rolled_out, seen) = if is_operator_alive(cluster, request.namespace, &mut renewal).await? {
            let Some(now) = read_resource(cluster, request.namespace).await? else {
                return Err(resource_deleted(request.namespace));
            };
            (is_generation_zero_ready(&now), StatusSnapshot::of(&now))
        } else {
            match generation_zero::raise(cluster.client(), quinistry).await {
                Ok(zero) => {
                    trouble = None;
                    (zero.rolled_out, StatusSnapshot::of_zero(quinistry, &zero))
                }
                // Another run of `up`, or a short outage of the API server.
                Err(error) if matches!(error.category(), Category::Conflict | Category::Unreachable) => {
                    trouble = Some(error);
                    (false, snapshot.clone())
                }
                Err(error) => return Err(error.into()),
            }
        };
        snapshot = status::with_nodes(cluster, quinistry, seen).await?;
        report(InstallProgress::Snapshot(&snapshot));
        if rolled_out {
            return Ok(());
        }
        sleep(SEED_PASS_INTERVAL.saturating_sub(pass.elapsed())).await;
    }
    if let Some(error) = trouble {
        return Err(error.into());
    }
    Err(InstallError::Timeout {
        what: "generation 0 does not serve on all nodes".into(),
        after: timeout,
        why: tree::summary(&snapshot),
    })
}

fn owner_reference(quinistry: &Quinistry) -> OwnerReference {
    quinistry.controller_owner_ref(&()).expect("the API server gives names and UIDs")
}

/// Returns true if the status reports generation 0 as ready, with the digest of the current specification.
fn is_generation_zero_ready(quinistry: &Quinistry) -> bool {
    let Some(status) = &quinistry.status else { return false };
    let zero = status.generations.iter().find(|one| one.generation == 0);
    status.observed_generation >= quinistry.metadata.generation.unwrap_or_default()
        && zero
            .is_some_and(|zero| zero.state == GenerationState::Ready && zero.digest == quinistry.spec.digest)
}

/// Returns true if the operator of `up` is alive: its Deployment is available, or its Lease is renewed.
/// Clocks may differ, so a Lease that changes between two calls counts too.
pub(super) async fn is_operator_alive(
    cluster: &Cluster,
    namespace: &str,
    renewal: &mut Option<String>,
) -> Result<bool, InstallError> {
    let home = operator_namespace(namespace);
    let deployment = cluster.get::<Value>(DEPLOYMENT, &home, OPERATOR);
    let lease = cluster.get::<Value>(LEASE, &home, OPERATOR);
    let (deployment, lease) = tokio::try_join!(deployment, lease)?;
    if deployment.is_some_and(|one| one["status"]["availableReplicas"].as_i64() >= Some(1)) {
        return Ok(true);
    }
    Ok(lease.is_some_and(|lease| is_lease_renewed(&lease["spec"], renewal, Timestamp::now())))
}

fn is_lease_renewed(lease: &Value, before: &mut Option<String>, now: Timestamp) -> bool {
    // The last holder released the Lease.
    if lease["holderIdentity"].as_str().unwrap_or_default().is_empty() {
        return false;
    }
    let Some(renewal) = lease["renewTime"].as_str() else { return false };
    let changed = before.as_ref().is_some_and(|before| before != renewal);
    *before = Some(renewal.into());
    let fresh = renewal.parse::<Timestamp>().is_ok_and(|at| now.duration_since(at).abs() <= MAX_RENEWAL_AGE);
    changed || fresh
}

pub(super) fn resource_deleted(namespace: &str) -> InstallError {
    InstallError::Refused(format!(
        "Quinistry {namespace}/{RESOURCE} was deleted during this run; run this again to restore it"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::names::annotations;

    #[test]
    fn a_definition_is_never_lowered_and_a_releases_is_left_alone() {
        let own = version::definition();
        let needs_definition = |there: Option<&Value>| needs_definition(there, &own);
        assert!(needs_definition(None));
        let ours = version::definition();
        assert!(needs_definition(Some(&ours)));
        let mut newer = ours.clone();
        newer["metadata"]["annotations"][annotations::VERSION] = "999.0.0".into();
        assert!(!needs_definition(Some(&newer)));
        let mut helms = ours;
        helms["metadata"]["annotations"] = json!({"meta.helm.sh/release-name": "shelf"});
        assert!(!needs_definition(Some(&helms)));
        let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        helms.pointer_mut(schema).unwrap().as_object_mut().unwrap().remove("suspend");
        assert!(needs_definition(Some(&helms)), "it lacks a field");
    }

    #[test]
    fn a_lease_that_is_renewed_tells_of_an_operator() {
        let now: Timestamp = "2025-01-01T12:00:00Z".parse().unwrap();
        let lease = |time: &str| json!({"holderIdentity": "cook", "renewTime": time});
        let renewed = |time: &str| is_lease_renewed(&lease(time), &mut None, now);
        assert!(renewed("2025-01-01T11:59:50.123456Z"));
        assert!(!renewed("2025-01-01T11:59:40.000000Z"));
        // A clock that is an hour late, and runs.
        let mut before = None;
        assert!(!is_lease_renewed(&lease("2025-01-01T11:00:00.000000Z"), &mut before, now));
        assert!(is_lease_renewed(&lease("2025-01-01T11:00:02.000000Z"), &mut before, now));
        assert!(!is_lease_renewed(&lease("2025-01-01T11:00:02.000000Z"), &mut before, now));
        let free = json!({"holderIdentity": "", "renewTime": "2025-01-01T12:00:00.000000Z"});
        assert!(!is_lease_renewed(&free, &mut None, now));
        assert!(!is_lease_renewed(&json!({}), &mut None, now));
    }
}
