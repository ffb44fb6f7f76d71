//! Assignment of ports to resources.

use super::*;
use crate::crd::QuinistryStatus;
use crate::operator::observed::Holding;

/// Returns an older resource that wants the same ports.
fn older() -> Quinistry {
    let mut rival = pinned();
    rival.metadata.name = Some("cellar".into());
    rival.metadata.namespace = Some("elsewhere".into());
    rival.metadata.uid = Some("uid-cellar".into());
    rival.metadata.creation_timestamp = Some(Time(at(-7200)));
    rival
}

fn blocks(rival: &Quinistry, holdings: &[(&str, i64, bool)]) -> bool {
    let mut cluster = SimulatedCluster::new(1);
    cluster.observed.rivals = vec![super::rival(rival), super::rival(&pinned())];
    let held = |&(uid, since, has_pods): &(&str, i64, bool)| {
        (format!("uid-{uid}"), Holding { since: at(since), has_pods, serves_seed: false })
    };
    cluster.observed.holdings = holdings.iter().map(held).collect();
    let plan = cluster.plan(&pinned());
    let blocked = plan.conditions.ready.reason == Reason::PortConflict;
    assert_eq!(blocked, plan.actions.is_empty());
    if blocked {
        assert!(plan.conditions.ready.message.contains("elsewhere/cellar"), "{:?}", plan.conditions.ready);
    }
    blocked
}

fn refused(reason: Reason) -> Quinistry {
    let status: QuinistryStatus = serde_json::from_value(json!({"observedGeneration": 1, "conditions": [{
        "type": "Ready", "status": "False", "reason": reason.to_string(), "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}))
    .unwrap();
    Quinistry { status: Some(status), ..older() }
}

#[test]
fn the_oldest_of_several_waiting_resources_gets_the_ports() {
    assert!(blocks(&older(), &[]));
    let mut younger = older();
    younger.metadata.creation_timestamp = Some(Time(at(10)));
    assert!(!blocks(&younger, &[]));
}

#[test]
fn a_running_resource_keeps_its_ports_against_an_older_one() {
    assert!(!blocks(&older(), &[("larder", 0, true)]));
    assert!(blocks(&older(), &[("cellar", -100, true), ("larder", 0, true)]));
    assert!(!blocks(&older(), &[("larder", -100, true), ("cellar", 0, true)]));
    let mut younger = older();
    younger.metadata.creation_timestamp = Some(Time(at(10)));
    assert!(blocks(&younger, &[("cellar", 20, true)]));
}

#[test]
fn a_resource_that_cannot_run_keeps_no_ports() {
    let mut suspended = older();
    suspended.spec.suspend = true;
    assert!(!blocks(&suspended, &[]));
    assert!(!blocks(&suspended, &[("cellar", -100, false)]));
    assert!(blocks(&suspended, &[("cellar", -100, true)]), "its pods go on running");
    let mut invalid = older();
    invalid.spec.image = Some("two words".into());
    assert!(!blocks(&invalid, &[]));
    let mut going = older();
    going.metadata.deletion_timestamp = Some(Time(at(0)));
    assert!(!blocks(&going, &[]));
    for reason in [Reason::PodSecurityForbidden, Reason::ApplyRejected, Reason::InvalidSpec] {
        assert!(!blocks(&refused(reason), &[]), "{reason}");
        assert!(!blocks(&refused(reason), &[("cellar", -100, false)]), "{reason}");
        assert!(blocks(&refused(reason), &[("cellar", -100, true)]), "{reason}: some of it runs");
    }
    assert!(blocks(&refused(Reason::RollingOut), &[]));
    let mut mended = refused(Reason::PodSecurityForbidden);
    mended.metadata.generation = Some(2);
    assert!(blocks(&mended, &[]), "that was said of what it was before");
}
