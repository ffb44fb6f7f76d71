//! The information that a plan needs before it is carried out, in order. Pure.

use k8s_openapi::jiff::Timestamp;

use super::{Missing, ReconcilePlan, plan_as_observed};
use crate::operator::observed::{ObservedState, QueryStage};
use crate::operator::resource::ValidResource;

/// Outcome of planning: information that is needed first, in the order of the variants, or a plan.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::operator) enum PlanNeed {
    /// Images of the pods on these nodes, where no carrier is known.
    Carriers(Vec<String>),
    /// Events of these generations and pods.
    Events(Missing),
    /// The content that the pods of [`ReconcilePlan::verify`] serve. If no result is due, the plan is final.
    Fetch(Box<ReconcilePlan>),
    /// Nothing more: the plan is final.
    Ready(Box<ReconcilePlan>),
}

/// Plans, or returns what is needed first. Each query is made once: [`ObservedState::queried`] holds the last
/// one.
#[must_use]
pub(in crate::operator) fn plan(
    quinistry: &ValidResource,
    observed: &ObservedState,
    now: Timestamp,
) -> PlanNeed {
    let plan = plan_as_observed(quinistry, observed, now);
    // A suspended resource gets no carrier.
    if observed.queried < QueryStage::Carriers
        && !plan.nodes_without_carrier.is_empty()
        && !quinistry.spec.suspend
    {
        return PlanNeed::Carriers(plan.nodes_without_carrier);
    }
    if observed.queried < QueryStage::Events && !plan.missing.is_empty() {
        return PlanNeed::Events(plan.missing);
    }
    if observed.queried < QueryStage::Pods && !plan.verify.is_empty() {
        return PlanNeed::Fetch(Box::new(plan));
    }
    PlanNeed::Ready(Box::new(plan))
}
