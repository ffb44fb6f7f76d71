//! Steps: what must be asked before a plan is carried out, in which order. Pure.

use k8s_openapi::jiff::Timestamp;

use super::{Missing, Plan, with_what_is_known};
use crate::operator::observed::{Asked, Observed};
use crate::operator::resource::Resource;

/// Outcome of planning: what must be asked first, in the order of the variants, or what to do.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::operator) enum Step {
    /// The images of the pods on these nodes are needed, as no carrier is known there.
    Carriers(Vec<String>),
    /// The Events of these generations and pods are needed.
    Events(Missing),
    /// The bytes that the pods of [`Plan::verify`] serve are needed. If none of them has anything new to say, the plan
    /// stands.
    Fetch(Box<Plan>),
    /// Everything is known that can be.
    Ready(Box<Plan>),
}

/// Plans, or says what must be asked before. Each question is asked once: [`Observed::asked`] says how far it is.
#[must_use]
pub(in crate::operator) fn plan(quinistry: &Resource, observed: &Observed, now: Timestamp) -> Step {
    let plan = with_what_is_known(quinistry, observed, now);
    // Nothing will be done with a carrier of a suspended resource.
    if observed.asked < Asked::Carriers && !plan.strangers.is_empty() && !quinistry.spec.suspend {
        return Step::Carriers(plan.strangers);
    }
    if observed.asked < Asked::Events && !plan.missing.is_empty() {
        return Step::Events(plan.missing);
    }
    if observed.asked < Asked::Pods && !plan.verify.is_empty() {
        return Step::Fetch(Box::new(plan));
    }
    Step::Ready(Box::new(plan))
}
