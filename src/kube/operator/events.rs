//! Events of a resource, for `kubectl describe`. They follow from changes of status, so that a lasting state
//! is reported once. A failure to publish is logged and stops nothing.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder};

use super::apply::Applied;
use super::store::StoreKind;
use crate::api::conditions::{AVAILABLE, DEGRADED, PROGRESSING, READY, STORE_READY};
use crate::crd::{BundleStatus, EventReason, QuinistryStatus};
use crate::one_line::one_line;

/// Longest note that the API accepts, in bytes.
const MAX_NOTE_BYTES: usize = 1024;

/// Creates the Event of an operator that leaves a resource to another one.
#[must_use]
pub(super) fn claimed_by_another(holder: &str) -> Event {
    let note = format!(
        "another operator, {holder}, looks after this namespace (Lease quinistry-claim); this one does nothing here: remove \
         one of the two, or give each its own namespace"
    );
    event(EventType::Warning, EventReason::ClaimedByAnother.to_string(), note)
}

/// Creates the Event for an action, if the action changed anything.
#[must_use]
pub(super) fn of_action(applied: &Applied) -> Option<Event> {
    let (reason, note) = match applied {
        Applied::Set(name, _) => (EventReason::GenerationApplied, format!("applied DaemonSet {name}")),
        Applied::Deleted(number) => (EventReason::GenerationDeleted, format!("deleted generation {number}")),
        Applied::Replaced(pod) => (
            EventReason::PodReplaced,
            format!("replaced pod {pod}: what it could not start without is there now"),
        ),
        Applied::Restored(map) => (EventReason::SeedRestored, format!("restored ConfigMap {map}")),
        Applied::Dropped(map) => (EventReason::SeedDropped, format!("deleted ConfigMap {map}")),
        Applied::Labelled(node, Some(label)) => {
            (EventReason::CarrierChosen, format!("labelled node {node} quinistry.dev/carrier={label}"))
        }
        Applied::Labelled(node, None) => {
            (EventReason::CarrierChosen, format!("took node {node}'s label quinistry.dev/carrier away"))
        }
        Applied::Nothing => return None,
    };
    Some(Event { secondary: related(applied), ..event(EventType::Normal, reason.to_string(), note) })
}

/// Creates the Event for an object of the stores that was applied or deleted.
#[must_use]
pub(super) fn of_store(kind: StoreKind, name: &str, is_deleted: bool) -> Event {
    let kind = kind.as_str();
    let (reason, note) = if is_deleted {
        (EventReason::StoreDeleted, format!("deleted {kind} {name}"))
    } else {
        (EventReason::StoreApplied, format!("applied {kind} {name}"))
    };
    let secondary =
        ObjectReference { kind: Some(kind.into()), name: Some(name.into()), ..ObjectReference::default() };
    Event { secondary: Some(secondary), ..event(EventType::Normal, reason.to_string(), note) }
}

/// Creates the Event for a store whose pod was replaced.
#[must_use]
pub(super) fn of_replaced_store(pod: &str, node: &str) -> Event {
    let text = format!("replaced pod {pod} on node {node}: the settings of the stores have changed");
    let secondary =
        ObjectReference { kind: Some("Pod".into()), name: Some(pod.into()), ..ObjectReference::default() };
    Event {
        secondary: Some(secondary),
        ..event(EventType::Normal, EventReason::PodReplaced.to_string(), text)
    }
}

/// Returns the object that an action was about. The recorder merges Events that differ only in their note
/// into one, which then shows the first note and a count.
fn related(applied: &Applied) -> Option<ObjectReference> {
    let (kind, name) = match applied {
        Applied::Set(name, _) => ("DaemonSet", name),
        Applied::Replaced(name) => ("Pod", name),
        Applied::Restored(name) | Applied::Dropped(name) => ("ConfigMap", name),
        Applied::Labelled(name, _) => ("Node", name),
        Applied::Deleted(number) => {
            let path = Some(format!("status.generations{{{number}}}"));
            return Some(ObjectReference { field_path: path, ..ObjectReference::default() });
        }
        Applied::Nothing => return None,
    };
    Some(ObjectReference { kind: Some(kind.into()), name: Some(name.clone()), ..ObjectReference::default() })
}

/// Creates the Events for a change of a resource's status: a new Ready, and new problems.
#[must_use]
pub(super) fn of_change(before: Option<&QuinistryStatus>, after: &QuinistryStatus) -> Vec<Event> {
    let before = before.map_or(&[][..], |before| &before.conditions);
    let mut events = Vec::new();
    let kinds = [(READY, None), (PROGRESSING, Some("False")), (DEGRADED, Some("True")), (STORE_READY, None)];
    for (kind, bad) in kinds {
        let Some((status, reason, message)) = changed(before, &after.conditions, kind) else { continue };
        match bad {
            None if status == "True" => events.push(event(EventType::Normal, reason, message)),
            // Stores that start, or are replaced, are no problem.
            None if kind == STORE_READY
                && status == "False"
                && !matches!(reason.as_str(), "WaitingForGeneration" | "StoresNotReady") =>
            {
                events.push(event(EventType::Warning, reason, message));
            }
            // Ready reports the end of progress, and a requested pause is no warning.
            Some("False") if status == "False" && matches!(reason.as_str(), "ProgressDeadlineExceeded") => {
                events.push(event(EventType::Warning, reason, message));
            }
            Some("True") if status == "True" => events.push(event(EventType::Warning, reason, message)),
            _ => {}
        }
    }
    events
}

/// Creates the Events for a change of a bundle's status: it is available, or something has to be done.
#[must_use]
pub(super) fn of_bundle_change(before: Option<&BundleStatus>, after: &BundleStatus) -> Vec<Event> {
    let before = before.map_or(&[][..], |before| &before.conditions);
    let mut events = Vec::new();
    for (kind, type_) in [(AVAILABLE, EventType::Normal), (DEGRADED, EventType::Warning)] {
        let Some((status, reason, message)) = changed(before, &after.conditions, kind) else { continue };
        if status == "True" {
            events.push(event(type_, reason, message));
        }
    }
    events
}

/// Returns status, reason and message of a condition whose status or reason has changed.
fn changed(before: &[Condition], after: &[Condition], kind: &str) -> Option<(String, String, String)> {
    let now = after.iter().find(|condition| condition.type_ == kind)?;
    let earlier = before.iter().find(|condition| condition.type_ == kind);
    let is_same = earlier.is_some_and(|earlier| earlier.status == now.status && earlier.reason == now.reason);
    (!is_same).then(|| (now.status.clone(), now.reason.clone(), now.message.clone()))
}

fn event(type_: EventType, reason: String, note: String) -> Event {
    let mut note = note;
    if note.len() > MAX_NOTE_BYTES {
        let end = (0..=MAX_NOTE_BYTES).rev().find(|end| note.is_char_boundary(*end)).unwrap_or_default();
        note.truncate(end);
    }
    Event { type_, action: "Reconcile".into(), reason, note: Some(note), secondary: None }
}

/// Publishes Events about an object. (Client required.)
pub(super) async fn publish(recorder: &Recorder, about: &ObjectReference, events: Vec<Event>) {
    for event in events {
        if let Err(error) = recorder.publish(&event, about).await {
            tracing::warn!(reason = event.reason, error = one_line(&error), "cannot publish event");
        }
    }
}

#[cfg(test)]
mod tests;
