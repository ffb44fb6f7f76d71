//! Report about the stores: a condition, and a part of the status. Pure.

use std::fmt::Write as _;

use super::plan::{StoreInput, StorePlan, StoreProblem, own_pods, ready_nodes, written_nodes};
use super::replacement;
use crate::api::names::annotations::TEMPLATE;
use crate::crd::{Reason, StoreStatus};
use crate::operator::plan::{PlannedCondition, counted, names, shorten};

/// Report about the stores of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operator) struct StoreReport {
    /// The condition `StoreReady`.
    pub condition: PlannedCondition,
    /// `status.store`.
    pub status: StoreStatus,
}

/// Derives the report. `problem` is what kept the plan from being carried out.
pub(super) fn report(input: &StoreInput<'_>, plan: &StorePlan, problem: Option<StoreProblem>) -> StoreReport {
    let ready = ready_nodes(input, &plan.choice);
    let wanted = usize::try_from(input.store.copies).unwrap_or_default();
    // A choice that could not be written down is none: its nodes hold nothing.
    let nodes = match &problem {
        Some(_) => written_nodes(input.live).into_iter().collect(),
        None => plan.choice.nodes.clone(),
    };
    let status = StoreStatus { copies: format!("{}/{wanted}", ready.len()), nodes };
    let (is_ready, reason, message) = match problem {
        Some(problem) => (false, problem.reason, problem.message),
        None => verdict(input, plan, ready.len(), wanted),
    };
    let status_word = if is_ready { "True" } else { "False" };
    let condition = PlannedCondition { status: status_word, reason, message: shorten(&message) };
    StoreReport { condition, status }
}

fn verdict(input: &StoreInput<'_>, plan: &StorePlan, ready: usize, wanted: usize) -> (bool, Reason, String) {
    let chosen = plan.choice.nodes.len();
    let too_few = || {
        format!(
            "{} of {wanted} wanted can hold a store: add nodes, lower store.copies, or look at store.nodeSelector, \
             nodeSelector and tolerations",
            counted(chosen, "node")
        )
    };
    if plan.is_waiting && chosen > 0 {
        let message = "no store can be started before generation 1 serves its digest on a node, from where the \
                       stores pull their image";
        return (false, Reason::WaitingForGeneration, message.into());
    }
    let contested = replacement::contested(input);
    if !contested.is_empty() {
        let message = format!(
            "pods of stores do not stay as they were made on {}: they keep coming without their annotation \
             {TEMPLATE}; look for an admission webhook that removes annotations. They are replaced less and less often; \
             delete them yourself when it leaves the annotation alone",
            names(contested.into_iter().collect())
        );
        return (false, Reason::Contested, message);
    }
    if ready < chosen {
        let served = ready_nodes(input, &plan.choice);
        let lacking = plan.choice.nodes.iter().map(String::as_str).filter(|node| !served.contains(node));
        let lacking: Vec<&str> = lacking.collect();
        let mut message = format!(
            "{} of {} are ready; not yet on {}",
            ready,
            counted(chosen, "store"),
            names(lacking.clone())
        );
        let problem = own_pods(input).find_map(|pod| {
            let node = pod.node.as_deref().filter(|node| lacking.contains(node))?;
            Some(format!("; {node}: {}", pod.problem.as_deref()?))
        });
        message.extend(problem);
        let is_down = |node: &str| input.nodes.iter().any(|one| one.name == node && !one.ready);
        if let Some(down) = lacking.iter().find(|node| is_down(node)) {
            let _ = write!(
                message,
                "; node {down} is not Ready: delete it from the cluster if it does not come back"
            );
        }
        if chosen < wanted {
            message.push_str("; ");
            message.push_str(&too_few());
        }
        return (false, Reason::StoresNotReady, message);
    }
    if chosen < wanted {
        return (false, Reason::TooFewNodes, too_few());
    }
    let nodes: Vec<&str> = plan.choice.nodes.iter().map(String::as_str).collect();
    (
        true,
        Reason::StoresReady,
        format!(
            "{} ready on {}",
            if chosen == 1 { "the only store is".into() } else { format!("all {chosen} stores are") },
            names(nodes)
        ),
    )
}
