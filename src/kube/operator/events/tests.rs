//! Events for changes of status: their content and number.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::*;

fn status(conditions: &[(&str, &str, &str)]) -> QuinistryStatus {
    QuinistryStatus { conditions: self::conditions(conditions), ..QuinistryStatus::default() }
}

fn conditions(all: &[(&str, &str, &str)]) -> Vec<Condition> {
    let conditions = all.iter().map(|(kind, status, reason)| Condition {
        type_: (*kind).into(),
        status: (*status).into(),
        reason: (*reason).into(),
        message: "in words".into(),
        observed_generation: None,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    });
    conditions.collect()
}

fn reported(before: Option<&QuinistryStatus>, after: &QuinistryStatus) -> Vec<String> {
    of_change(before, after).into_iter().map(|event| format!("{:?} {}", event.type_, event.reason)).collect()
}

#[test]
fn a_lasting_state_is_reported_once() {
    let wrong = status(&[("Ready", "False", "CrashLoop"), ("Degraded", "True", "CrashLoop")]);
    assert_eq!(reported(None, &wrong), ["Warning CrashLoop"]);
    assert!(reported(Some(&wrong), &wrong).is_empty());
    let worse = status(&[("Ready", "False", "DigestMismatch"), ("Degraded", "True", "DigestMismatch")]);
    assert_eq!(reported(Some(&wrong), &worse), ["Warning DigestMismatch"]);
    let well = status(&[("Ready", "True", "AllProven"), ("Degraded", "False", "AsExpected")]);
    assert_eq!(reported(Some(&worse), &well), ["Normal AllProven"]);
}

#[test]
fn a_pause_is_no_warning_and_a_missed_deadline_is() {
    let suspended = status(&[("Progressing", "False", "Suspended")]);
    assert!(reported(None, &suspended).is_empty());
    let stuck = status(&[("Progressing", "False", "ProgressDeadlineExceeded")]);
    assert_eq!(reported(Some(&suspended), &stuck), ["Warning ProgressDeadlineExceeded"]);
}

#[test]
fn stores_that_start_are_no_warning_and_what_is_in_their_way_is() {
    let starting = status(&[("StoreReady", "False", "StoresNotReady")]);
    assert!(reported(None, &starting).is_empty());
    let ready = status(&[("StoreReady", "True", "StoresReady")]);
    assert_eq!(reported(Some(&starting), &ready), ["Normal StoresReady"]);
    let taken = status(&[("StoreReady", "False", "NameTaken")]);
    assert_eq!(reported(Some(&ready), &taken), ["Warning NameTaken"]);
    assert!(reported(Some(&taken), &taken).is_empty());
}

#[test]
fn notes_are_as_long_as_the_api_takes_and_cut_between_letters() {
    let long = event(EventType::Normal, "Reason".into(), "é".repeat(MAX_NOTE_BYTES));
    let note = long.note.unwrap();
    assert!(note.len() <= MAX_NOTE_BYTES && note.chars().all(|letter| letter == 'é'));
}

#[test]
fn events_about_two_objects_are_not_merged_into_one() {
    let related = |applied: Applied| of_action(&applied).unwrap().secondary;
    let names = |make: fn(String) -> Applied| (related(make("a".into())), related(make("b".into())));
    for make in [Applied::Replaced, Applied::Restored, Applied::Dropped] {
        let (one, other) = names(make);
        assert!(one.is_some() && one != other, "{one:?}");
    }
    assert_ne!(related(Applied::Deleted(2)), related(Applied::Deleted(3)));
    assert_ne!(related(Applied::Labelled("a".into(), None)), related(Applied::Labelled("b".into(), None)));
}

#[test]
fn a_bundle_reports_that_it_is_available_and_what_has_to_be_done() {
    let status = |available: (&str, &str), degraded: (&str, &str)| BundleStatus {
        conditions: conditions(&[
            ("Accepted", "True", "Accepted"),
            ("Available", available.0, available.1),
            ("Degraded", degraded.0, degraded.1),
        ]),
        ..BundleStatus::default()
    };
    let reported = |before, after: &BundleStatus| -> Vec<String> {
        let events = of_bundle_change(before, after);
        events.into_iter().map(|event| format!("{:?} {}", event.type_, event.reason)).collect()
    };
    let new = status(("Unknown", "NotAsked"), ("Unknown", "NotAsked"));
    let spreading = status(("False", "Spreading"), ("False", "AsExpected"));
    let served = status(("True", "Served"), ("False", "AsExpected"));
    let broken = status(("False", "NodeCannotServe"), ("True", "NodeCannotServe"));
    let missing = status(("False", "ContentMissing"), ("True", "ContentMissing"));
    assert!(reported(None, &new).is_empty() && reported(Some(&new), &spreading).is_empty());
    assert_eq!(reported(Some(&spreading), &served), ["Normal Served"]);
    assert_eq!(reported(Some(&served), &broken), ["Warning NodeCannotServe"]);
    assert!(reported(Some(&broken), &broken).is_empty(), "a lasting state is reported once");
    assert_eq!(reported(Some(&broken), &missing), ["Warning ContentMissing"]);
    assert_eq!(reported(Some(&missing), &served), ["Normal Served"]);
    let cut = status(("True", "Served"), ("True", "HistoryCut"));
    assert_eq!(reported(Some(&served), &cut), ["Warning HistoryCut"]);
}
