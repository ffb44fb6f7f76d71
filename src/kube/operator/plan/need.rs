//! Steps: what must be asked before a plan is carried out, in which order. Pure.

use k8s_openapi::jiff::Timestamp;

use super::{Missing, ReconcilePlan, plan_as_observed};
use crate::operator::observed::{ObservedState, QueryStage};
use crate::operator::resource::ValidResource;

/// Outcome of planning: what must be asked first, in the order of the variants, or what to do.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::operator) enum PlanNeed {
    /// The images of the pods on these nodes are needed, as no carrier is known there.
    Carriers(Vec<String>),
    /// The Events of these generations and pods are needed.
    Events(Missing),
    /// The bytes that the pods of [`Plan::verify`] serve are needed. If none of them has anything new to say, the plan
    /// stands.
    Fetch(Box<ReconcilePlan>),
    /// Everything is known that can be.
    Ready(Box<ReconcilePlan>),
}

/// Plans, or says what must be asked before. Each question is asked once: [`Observed::asked`] says how far it is.
#[must_use]
pub(in crate::operator) fn plan(
    quinistry: &ValidResource,
    observed: &ObservedState,
    now: Timestamp,
) -> PlanNeed {
    let plan = plan_as_observed(quinistry, observed, now);
    // Nothing will be done with a carrier of a suspended resource.
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
