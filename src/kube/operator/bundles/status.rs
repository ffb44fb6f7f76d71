//! Status of a bundle, from its plan and what nodes answered. Pure. The old status has one use: to keep the
//! transition times of conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::plan::{BundlePlan, Verdict};
use super::proof::ProofSummary;
use crate::api::conditions::{ACCEPTED, AVAILABLE, DEGRADED};
use crate::crd::{BundleDeviation, BundleReason, BundleStatus, MAX_BUNDLE_DEVIATIONS};

/// A condition before it has times.
type Judged = (&'static str, Verdict);

/// Facts about a bundle beside its plan.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Reason why the `ConfigMap` of names could not be written.
    pub rejection: Option<Verdict>,
    /// True if the operator cannot ask the pods.
    pub is_unreachable: bool,
    /// Answers of nodes about the bundle's names.
    pub proof: ProofSummary,
}

/// Returns the status of a bundle at this generation of its specification.
pub(super) fn status(
    generation: i64,
    plan: &BundlePlan,
    known: &Known,
    before: Option<&BundleStatus>,
    now: Timestamp,
) -> BundleStatus {
    let proof = &known.proof;
    let refusal = known.rejection.as_ref().or(plan.refusal.as_ref());
    let accepted = match refusal {
        Some(refusal) => ("False", refusal.clone()),
        None => ("True", verdict(BundleReason::Accepted, "all names count")),
    };
    let available = available(plan, known, refusal);
    let degraded = degraded(plan, &available, refusal);
    let conditions = [(ACCEPTED, accepted), (AVAILABLE, available), (DEGRADED, degraded)];
    BundleStatus {
        observed_generation: generation,
        images: format!("{}/{}", proof.served_names, plan.total),
        nodes: format!("{}/{}", proof.serving, proof.asked),
        previous: plan.previous.clone(),
        conditions: conditions.map(|(kind, judged)| condition(kind, judged, generation, before, now)).into(),
        deviations: proof
            .absent
            .iter()
            .take(MAX_BUNDLE_DEVIATIONS)
            .map(|absent| BundleDeviation {
                node: absent.node.clone(),
                name: absent.first.clone(),
                count: i32::try_from(absent.count).unwrap_or(i32::MAX),
            })
            .collect(),
    }
}

fn available(plan: &BundlePlan, known: &Known, refusal: Option<&Verdict>) -> Judged {
    let proof = &known.proof;
    if let Some(refusal) = refusal {
        return ("False", refusal.clone());
    }
    if let Some(first) = proof.absent.first() {
        let (failing, others) = (proof.absent.len(), proof.absent.len() - 1);
        let more = if others == 0 { String::new() } else { format!(" and {others} more nodes") };
        if proof.serving == 0 && proof.served_names < plan.names.len() && failing >= proof.asked {
            let text = format!(
                "no node that was asked can serve {} ({}{more}); put its content into the stores: quinistry load FILE",
                first.first, first.node
            );
            return ("False", verdict(BundleReason::ContentMissing, text));
        }
        let text = format!(
            "node {}{more} cannot serve {} of {} names, such as {}; look at the Quinistry's pod on that node, and at its \
             way to the stores",
            first.node,
            first.count,
            plan.names.len(),
            first.first
        );
        return ("False", verdict(BundleReason::NodeCannotServe, text));
    }
    if known.is_unreachable {
        let text = "the pods listen on their nodes' loopback (network.mode HostNetwork), where the operator cannot ask them";
        return ("Unknown", verdict(BundleReason::NodesUnreachable, text));
    }
    if proof.spreading > 0 {
        let text = format!(
            "{} nodes have not read the changed names, which takes them two minutes",
            proof.spreading
        );
        return ("False", verdict(BundleReason::Spreading, text));
    }
    if proof.asked == 0 {
        return ("Unknown", verdict(BundleReason::NotAsked, "no node has answered for all names yet"));
    }
    let text = format!("all {} nodes that were asked can serve all names", proof.asked);
    ("True", verdict(BundleReason::Served, text))
}

fn degraded(plan: &BundlePlan, available: &Judged, refusal: Option<&Verdict>) -> Judged {
    if let Some(refusal) = refusal {
        return ("True", refusal.clone());
    }
    match (available.0, available.1.reason) {
        ("False", BundleReason::NodeCannotServe | BundleReason::ContentMissing) => {
            ("True", available.1.clone())
        }
        _ if plan.complaint.is_some() => ("True", plan.complaint.clone().expect("was found")),
        ("Unknown", _) => ("Unknown", available.1.clone()),
        _ => ("False", verdict(BundleReason::AsExpected, "nothing is wrong")),
    }
}

fn verdict(reason: BundleReason, message: impl Into<String>) -> Verdict {
    Verdict { reason, message: message.into() }
}

fn condition(
    kind: &str,
    (status, verdict): Judged,
    generation: i64,
    before: Option<&BundleStatus>,
    now: Timestamp,
) -> Condition {
    let earlier = before
        .and_then(|before| before.conditions.iter().find(|condition| condition.type_ == kind))
        .filter(|earlier| earlier.status == status);
    Condition {
        type_: kind.into(),
        status: status.into(),
        reason: verdict.reason.to_string(),
        message: verdict.message,
        observed_generation: Some(generation),
        last_transition_time: earlier.map_or(Time(now), |earlier| earlier.last_transition_time.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::bundles::parse::parse;
    use crate::operator::bundles::proof::AbsentNames;

    fn plan() -> BundlePlan {
        let digest = quinistry_oci::Digest::sha256(b"").to_string();
        let name = |name: &str| crate::crd::BundleName { name: name.into(), digest: digest.clone() };
        let names = vec![name("ghcr.io/shop:1"), name("ghcr.io/till:1")];
        let spec = crate::crd::BundleSpec { registry: None, names, digest: None, history: 1 };
        BundlePlan {
            uid: "u".into(),
            registry: Some("r".into()),
            total: 2,
            names: parse(&spec).unwrap().names,
            refusal: None,
            complaint: None,
            previous: vec!["ghcr.io/shop@sha256:0".into()],
        }
    }

    fn absent(node: &str) -> AbsentNames {
        AbsentNames { node: node.into(), first: "ghcr.io/till:1".into(), count: 1 }
    }

    /// Judges: status and reason of Available and of Degraded, and the message of Available.
    fn judged(plan: &BundlePlan, known: &Known) -> ([String; 2], [String; 2], String) {
        let status = status(3, plan, known, None, Timestamp::UNIX_EPOCH);
        assert_eq!(status.observed_generation, 3);
        let of = |kind: &str| status.conditions.iter().find(|one| one.type_ == kind).unwrap().clone();
        let short = |kind: &str| [of(kind).status, of(kind).reason];
        (short(AVAILABLE), short(DEGRADED), of(AVAILABLE).message)
    }

    fn two(status: &str, reason: BundleReason) -> [String; 2] {
        [status.into(), reason.to_string()]
    }

    #[test]
    fn nothing_is_known_before_nodes_were_asked() {
        let (available, degraded, _) = judged(&plan(), &Known::default());
        assert_eq!(available, two("Unknown", BundleReason::NotAsked));
        assert_eq!(degraded, two("Unknown", BundleReason::NotAsked));
        let known = Known { is_unreachable: true, ..Known::default() };
        assert_eq!(judged(&plan(), &known).0, two("Unknown", BundleReason::NodesUnreachable));
    }

    #[test]
    fn a_bundle_is_available_if_all_asked_nodes_can_serve_it() {
        let proof = ProofSummary { asked: 5, serving: 5, served_names: 2, ..ProofSummary::default() };
        let known = Known { proof, ..Known::default() };
        let (available, degraded, _) = judged(&plan(), &known);
        assert_eq!(available, two("True", BundleReason::Served));
        assert_eq!(degraded, two("False", BundleReason::AsExpected));
        let status = status(1, &plan(), &known, None, Timestamp::UNIX_EPOCH);
        assert_eq!((status.images.as_str(), status.nodes.as_str()), ("2/2", "5/5"));
        assert_eq!(status.previous, plan().previous);
    }

    #[test]
    fn a_node_that_cannot_serve_is_named_with_what_to_do() {
        let proof = ProofSummary {
            asked: 5,
            serving: 3,
            served_names: 1,
            absent: vec![absent("node-1"), absent("node-2")],
            spreading: 0,
        };
        let (available, degraded, text) = judged(&plan(), &Known { proof, ..Known::default() });
        assert_eq!(available, two("False", BundleReason::NodeCannotServe));
        assert_eq!(degraded, two("True", BundleReason::NodeCannotServe));
        assert!(text.contains("node-1 and 1 more nodes") && text.contains("ghcr.io/till:1"), "{text}");
    }

    #[test]
    fn content_that_no_node_has_must_be_loaded() {
        let proof = ProofSummary {
            asked: 2,
            served_names: 1,
            absent: vec![absent("node-1"), absent("node-2")],
            ..ProofSummary::default()
        };
        let (available, degraded, text) = judged(&plan(), &Known { proof, ..Known::default() });
        assert_eq!(available, two("False", BundleReason::ContentMissing));
        assert_eq!(degraded, two("True", BundleReason::ContentMissing));
        assert!(text.contains("quinistry load"), "{text}");
    }

    #[test]
    fn nodes_that_read_the_names_are_waited_for() {
        let proof = ProofSummary { asked: 2, serving: 1, spreading: 1, ..ProofSummary::default() };
        let (available, degraded, _) = judged(&plan(), &Known { proof, ..Known::default() });
        assert_eq!(available, two("False", BundleReason::Spreading));
        assert_eq!(degraded, two("False", BundleReason::AsExpected));
    }

    #[test]
    fn a_refusal_is_in_all_conditions_and_a_complaint_in_degraded_alone() {
        let refusal = verdict(BundleReason::NameTaken, "one name");
        let refused = BundlePlan { refusal: Some(refusal), ..plan() };
        let (available, degraded, _) = judged(&refused, &Known::default());
        assert_eq!(available, two("False", BundleReason::NameTaken));
        assert_eq!(degraded, two("True", BundleReason::NameTaken));
        let rejection = Some(verdict(BundleReason::NamesRejected, "quota"));
        let known = Known { rejection, ..Known::default() };
        assert_eq!(judged(&refused, &known).0, two("False", BundleReason::NamesRejected));

        let complaint = Some(verdict(BundleReason::HistoryCut, "0 of 1"));
        let proof = ProofSummary { asked: 1, serving: 1, served_names: 2, ..ProofSummary::default() };
        let cut = BundlePlan { complaint, ..plan() };
        let (available, degraded, _) = judged(&cut, &Known { proof, ..Known::default() });
        assert_eq!(available, two("True", BundleReason::Served));
        assert_eq!(degraded, two("True", BundleReason::HistoryCut));
    }

    #[test]
    fn a_condition_that_stays_keeps_its_time() {
        let known = Known::default();
        let first = status(1, &plan(), &known, None, Timestamp::UNIX_EPOCH);
        let later = Timestamp::from_second(60).unwrap();
        let second = status(1, &plan(), &known, Some(&first), later);
        assert_eq!(second, first);
        let proof = ProofSummary { asked: 1, serving: 1, served_names: 2, ..ProofSummary::default() };
        let third = status(1, &plan(), &Known { proof, ..known }, Some(&second), later);
        let times: Vec<_> = third.conditions.iter().map(|one| one.last_transition_time.0).collect();
        assert_eq!(times, [Timestamp::UNIX_EPOCH, later, later]);
    }
}
