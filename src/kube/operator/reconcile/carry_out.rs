//! Carrying out a plan: its actions in order, and the record of what they changed. Called by `reconcile`.

use k8s_openapi::api::apps::v1::DaemonSet as DaemonSetToApply;
use kube::ResourceExt as _;

use super::RESYNC_PERIOD;
use crate::crd::Reason;
use crate::one_line::one_line;
use crate::operator::apply::{Applied, apply, exists};
use crate::operator::metrics::Write;
use crate::operator::observed::{ObservedDaemonSet, ObservedState, Rejection};
use crate::operator::plan::{Action, ReconcilePlan};
use crate::operator::resource::{ResourceIdentity, ValidResource};
use crate::operator::{Operator, OperatorError, build, error, events, observe};

/// Placeholder for the hash of a refused `ConfigMap` of a seed.
const SEED_PART_REJECTION: &str = "piece";

/// Outcome of carrying out a plan.
pub(super) enum ApplyOutcome {
    /// The plan was carried out, as far as it could be.
    Done,
    /// The plan was made for a resource that no longer exists, or has changed.
    Outdated,
    /// Another writer keeps undoing an apply, so the next one is delayed.
    Contested(Rejection),
}

// === impl Operator ===

impl Operator {
    /// Carries out the actions of a plan, up to the first that fails; a label that fails is logged and skipped.
    pub(super) async fn carry_out(
        &self,
        quinistry: &ValidResource,
        plan: &ReconcilePlan,
        observed: &ObservedState,
    ) -> Result<ApplyOutcome, OperatorError> {
        let identity = &quinistry.identity;
        let ResourceIdentity { namespace, name, .. } = identity;
        let own = self.seed_parts.own_seed(quinistry);
        let mut is_checked = false;
        let rejected = observed.rejection.as_ref().map(|rejection| rejection.applied.as_str());
        for action in &plan.actions {
            if let Action::Apply(set) = action
                && let Some(rejection) = self.contested(quinistry, set)
            {
                // Later actions of the plan depend on this one.
                return Ok(ApplyOutcome::Contested(rejection));
            }
            if matches!(action, Action::Restore { .. }) && rejected == Some(SEED_PART_REJECTION) {
                // The part was refused a moment ago, and later actions depend on it.
                return Ok(ApplyOutcome::Done);
            }
            // With an outdated watch of resources, objects would be created again and again that the cluster
            // collects.
            if !is_checked && creates(action, observed) {
                is_checked = true;
                if !exists(&self.client, quinistry).await? {
                    tracing::info!(namespace, name, "resource changed or deleted, planning again");
                    return Ok(ApplyOutcome::Outdated);
                }
            }
            match apply(&self.client, quinistry, own.as_ref(), observed, action).await {
                Ok(applied) => {
                    if let Action::Apply(set) = action {
                        self.histories.record_apply(identity, &set.name_any(), build::applied(set));
                    }
                    self.record_applied(identity, applied).await;
                }
                // A node without its carrier label is no reason to skip the others.
                Err(error) if matches!(action, Action::Label { .. }) => {
                    tracing::warn!(namespace, name, error = one_line(&error), "cannot label node");
                }
                Err(error) => {
                    let applied = match action {
                        Action::Apply(set) => Some(build::applied(set)),
                        // Nothing but this action is left out of the plan.
                        Action::Restore { .. } => Some(SEED_PART_REJECTION),
                        _ => None,
                    };
                    let refused = match (&error, applied) {
                        (OperatorError::Apply { source, .. }, Some(applied)) => {
                            error::rejection(source).map(|refused| (applied, refused))
                        }
                        // The other object may be deleted at any moment, which no watch shows.
                        (OperatorError::Taken { .. }, Some(applied)) => {
                            Some((applied, (Reason::ApplyRejected, one_line(&error), true)))
                        }
                        _ => None,
                    };
                    let Some((applied, (reason, message, passes))) = refused else { return Err(error) };
                    let rejection = Rejection { applied: applied.into(), reason, message };
                    tracing::warn!(
                        namespace,
                        name,
                        reason = %rejection.reason,
                        error = rejection.message,
                        "apply refused by the API server"
                    );
                    self.histories.record_rejection(identity, rejection, passes, RESYNC_PERIOD);
                    // Later actions of the plan depend on this one.
                    return Ok(ApplyOutcome::Done);
                }
            }
        }
        Ok(ApplyOutcome::Done)
    }

    /// Returns the rejection of a set that another writer keeps undoing.
    fn contested(&self, quinistry: &ValidResource, set: &DaemonSetToApply) -> Option<Rejection> {
        let (name, applied) = (set.name_any(), build::applied(set));
        let (times, _) = self.histories.contested(&quinistry.identity, &name, applied)?;
        let message = format!(
            "DaemonSet {name} was applied {times} times, and each time another writer has changed it; is there a second \
             operator? It is tried less and less often"
        );
        Some(Rejection { applied: applied.into(), reason: Reason::Contested, message })
    }

    async fn record_applied(&self, resource: &ResourceIdentity, applied: Applied) {
        match &applied {
            Applied::Set(_, set) => {
                self.metrics.wrote(Write::Apply);
                self.histories.clear_rejection(resource);
                let set = set.as_ref().and_then(|set| observe::daemon_set((**set).clone()));
                if let Some((key, view)) = set {
                    self.daemon_sets.put(key, ObservedDaemonSet { accepted: true, ..view });
                }
            }
            Applied::Deleted(_) => self.metrics.wrote(Write::Delete),
            Applied::Replaced(_) => self.metrics.wrote(Write::Replace),
            Applied::Restored(_) => {
                self.metrics.wrote(Write::Piece);
                self.histories.clear_rejection(resource);
            }
            Applied::Dropped(_) => self.metrics.wrote(Write::Piece),
            Applied::Labelled(..) => self.metrics.wrote(Write::Label),
            Applied::Nothing => return,
        }
        if let Some(event) = events::of_action(&applied) {
            let ResourceIdentity { namespace, name, .. } = resource;
            tracing::info!(namespace, name, "{}", event.note.as_deref().unwrap_or_default());
            events::publish(&self.recorder, &resource.object(), vec![event]).await;
        }
    }
}

/// Returns true if an action creates an object.
fn creates(action: &Action, observed: &ObservedState) -> bool {
    match action {
        Action::Apply(set) => !observed.daemon_sets.iter().any(|live| live.name == set.name_any()),
        Action::Restore { .. } => true,
        _ => false,
    }
}
