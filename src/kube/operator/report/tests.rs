//! Status: conditions keep their times, and nothing else comes from the old status.

use serde_json::json;

use super::super::plan::{Conditions, PlannedCondition, plan_as_observed as plan};
use super::super::store::StoreReport;
use super::*;
use crate::crd::{GenerationState, Reason, StoreStatus};
use crate::operator::observed::ObservedState;
use crate::operator::resource::ValidResource;

fn quinistry() -> ValidResource {
    let object = json!({
        "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry",
        "metadata": {"name": "larder", "namespace": "pantry", "uid": "u1", "generation": 7},
        "spec": {"image": "registry.example.com/larder:1", "generations": 3},
    });
    ValidResource::parse(&serde_json::from_value(object).unwrap()).unwrap()
}

/// Returns the status that the report writes.
fn status(
    resource: &ValidResource,
    plan: &ReconcilePlan,
    before: Option<&QuinistryStatus>,
    now: Timestamp,
) -> QuinistryStatus {
    super::status(&resource.identity, resource.spec.generations, plan, before, now)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn a_condition_keeps_its_time_until_its_status_flips() {
    let quinistry = quinistry();
    let nothing = ReconcilePlan::default();
    let first = status(&quinistry, &nothing, None, at(100));
    assert_eq!(first.conditions.len(), 5, "all are set at the first visit");
    assert!(first.conditions.iter().all(|one| one.status == "Unknown" && one.observed_generation == Some(7)));
    assert_eq!(
        status(&quinistry, &nothing, Some(&first), at(200)),
        first,
        "the same plan gives the same conditions"
    );

    let mut conditions = Conditions::default();
    conditions.ready.message = "another message".into();
    conditions.degraded.status = "True";
    let changed =
        status(&quinistry, &ReconcilePlan { conditions, ..ReconcilePlan::default() }, Some(&first), at(300));
    for (condition, second) in [("Ready", 100), ("Degraded", 300)] {
        let found = changed.conditions.iter().find(|one| one.type_ == condition).unwrap();
        assert_eq!(found.last_transition_time, Time(at(second)), "{condition}");
    }
}

#[test]
fn status_has_the_observed_generation_and_the_headline() {
    let quinistry = quinistry();
    let plan = plan(&quinistry, &ObservedState::default(), at(0));
    let status = status(&quinistry, &plan, None, at(0));
    assert_eq!((status.observed_generation, status.ready.as_str()), (7, "0/3"));
    assert_eq!(status.generations.len(), 3);
}

#[test]
fn stores_have_a_condition_and_a_part_of_the_status_where_there_are_any() {
    let quinistry = quinistry();
    let nothing = status(&quinistry, &ReconcilePlan::default(), None, at(0));
    assert_eq!(nothing.store, None);
    let condition = PlannedCondition { status: "True", reason: Reason::StoresReady, message: "all".into() };
    let store = StoreStatus { copies: "1/1".into(), nodes: vec!["a".into()] };
    let report = StoreReport { condition, status: store.clone() };
    let plan = ReconcilePlan { store: Some(report), ..ReconcilePlan::default() };
    let status = status(&quinistry, &plan, None, at(0));
    assert_eq!(status.store, Some(store));
    let last = status.conditions.last().unwrap();
    assert_eq!((last.type_.as_str(), last.reason.as_str()), (STORE_READY, "StoresReady"));
}

#[test]
fn numbers_alone_are_progress_and_anything_else_is_news() {
    let quinistry = quinistry();
    let before = status(&quinistry, &plan(&quinistry, &ObservedState::default(), at(0)), None, at(0));
    let mut further = before.clone();
    further.generations[0].available = 7;
    further.generations[0].updated = 8;
    further.conditions[0].message = "generation 1 is on 7 of 9 nodes".into();
    assert!(differs_only_in_counts(&before, &further));
    let mut news = [further.clone(), further.clone(), further.clone()];
    news[0].conditions[0].status = "True".into();
    news[1].generations[0].state = GenerationState::Failed;
    news[2].ready = "1/3".into();
    assert!(news.iter().all(|news| !differs_only_in_counts(&before, news)));
}
