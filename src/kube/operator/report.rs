//! Report: turns a plan into status, and writes it if anything is new.
//!
//! [`status`] is pure; [`write()`] takes a client. The old status has two uses: to keep the transition times
//! of conditions, and to skip a write that changes nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::error::OperatorError;
use super::plan::ReconcilePlan;
use super::resource::ResourceIdentity;
use crate::api::conditions::STORE_READY;
use crate::api::names::{API_VERSION, KIND, managers};
use crate::api::types;
use crate::crd::{GenerationStatus, MAX_DEVIATIONS, QuinistryStatus};

/// Returns the status of a resource that wants this number of generations.
#[must_use]
pub(super) fn status(
    resource: &ResourceIdentity,
    generations: i32,
    plan: &ReconcilePlan,
    before: Option<&QuinistryStatus>,
    now: Timestamp,
) -> QuinistryStatus {
    let generation = resource.generation;
    let store = plan.store.as_ref().map(|report| (STORE_READY, &report.condition));
    let conditions = plan.conditions.all().into_iter().chain(store).map(|(kind, condition)| {
        let earlier = before
            .and_then(|status| status.conditions.iter().find(|condition| condition.type_ == kind))
            .filter(|earlier| earlier.status == condition.status);
        Condition {
            type_: kind.into(),
            status: condition.status.into(),
            reason: condition.reason.to_string(),
            message: condition.message.clone(),
            observed_generation: Some(generation),
            last_transition_time: earlier.map_or(Time(now), |earlier| earlier.last_transition_time.clone()),
        }
    });
    QuinistryStatus {
        observed_generation: generation,
        ready: QuinistryStatus::headline(&plan.generations, generations),
        digest: plan.digest.clone(),
        conditions: conditions.collect(),
        generations: plan.generations.clone(),
        deviations: plan.deviations.iter().take(MAX_DEVIATIONS).cloned().collect(),
        store: plan.store.as_ref().map(|report| report.status.clone()),
    }
}

/// Returns true if only numbers and messages differ, which change with every pod of a rollout.
#[must_use]
pub(super) fn differs_only_in_counts(before: &QuinistryStatus, now: &QuinistryStatus) -> bool {
    let outline = |status: &QuinistryStatus| QuinistryStatus {
        conditions: status
            .conditions
            .iter()
            .map(|one| Condition { message: String::new(), ..one.clone() })
            .collect(),
        generations: status
            .generations
            .iter()
            .map(|one| GenerationStatus { updated: 0, available: 0, verified: 0, ..one.clone() })
            .collect(),
        ..status.clone()
    };
    outline(before) == outline(now)
}

/// Writes status upon a version of the resource, and returns the resulting version. (Client required.)
pub(super) async fn write(
    client: &Client,
    resource: &ResourceIdentity,
    status: &QuinistryStatus,
    version: Option<String>,
) -> Result<Option<String>, OperatorError> {
    let api: Api<types::Quinistry> = Api::namespaced(client.clone(), &resource.namespace);
    let patch = json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        // The UID keeps the status from a namesake that was created after the plan.
        "metadata": {"uid": resource.uid, "resourceVersion": version},
        "status": status,
    });
    let parameters = PatchParams::apply(managers::OPERATOR).force();
    api.patch_status(&resource.name, &parameters, &Patch::Apply(&patch))
        .await
        .map(|written| written.metadata.resource_version)
        .map_err(|error| OperatorError::Report(Box::new(error)))
}

#[cfg(test)]
mod tests;
