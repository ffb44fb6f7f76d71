//! Obstacle: a `DaemonSet` with the name of one that is to be created, and that the watch does not show as
//! the resource's own. Pure; used by `apply`.

use std::collections::BTreeSet;

use kube::core::ObjectMeta;

use crate::api::names::KIND;
use crate::api::names::labels::RESOURCE;
use crate::api::types::Metadata as _;

/// Kind of obstacle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The resource's own set without its label or its owner, at this version: the operator takes it back.
    Stray(Option<String>),
    /// A set that is being deleted, or that the watch is about to show: the operator tries again.
    Passing,
    /// A set of another owner, described here. An apply would not make it the resource's own, as selectors
    /// are immutable.
    Foreign(String),
}

/// Judges the metadata of a `DaemonSet` with the name of one of a resource's sets, by the resource's UID.
/// `living` has the UIDs of all resources that are not being deleted: the names of two resources may differ
/// by an ending such as `-store`, which is also that of an object.
pub(super) fn judge(found: &ObjectMeta, uid: &str, living: &BTreeSet<String>) -> Obstacle {
    if found.deletion_timestamp.is_some() {
        return Obstacle::Passing;
    }
    let is_labelled = found.label(RESOURCE) == Some(uid);
    match found.controller() {
        Some(owner) if owner.uid == uid && is_labelled => Obstacle::Passing,
        Some(owner) if owner.uid == uid => Obstacle::Stray(found.resource_version.clone()),
        // The set belongs to a deleted resource of this name: the cluster collects it.
        Some(owner) if owner.kind == KIND && !living.contains(&owner.uid) => Obstacle::Passing,
        Some(owner) => Obstacle::Foreign(format!("belongs to {} {}", owner.kind, owner.name)),
        None if is_labelled => Obstacle::Stray(found.resource_version.clone()),
        None => Obstacle::Foreign("was not made for this resource".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(metadata: Value) -> Obstacle {
        judge(&serde_json::from_value(metadata).unwrap(), "u", &["u", "v"].map(String::from).into())
    }

    fn owner(kind: &str, uid: &str) -> Value {
        json!([{"apiVersion": "v1", "kind": kind, "name": "pantry", "uid": uid, "controller": true}])
    }

    #[test]
    fn a_set_that_lost_its_label_or_its_owner_is_brought_back() {
        let stray = Obstacle::Stray(Some("7".into()));
        assert_eq!(
            judged(json!({"resourceVersion": "7", "ownerReferences": owner("Quinistry", "u")})),
            stray
        );
        assert_eq!(judged(json!({"resourceVersion": "7", "labels": {RESOURCE: "u"}})), stray);
    }

    #[test]
    fn a_set_that_the_watch_will_show_or_that_goes_away_is_waited_for() {
        for metadata in [
            json!({"labels": {RESOURCE: "u"}, "ownerReferences": owner("Quinistry", "u")}),
            json!({"labels": {RESOURCE: "old"}, "ownerReferences": owner("Quinistry", "old")}),
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        ] {
            assert_eq!(judged(metadata.clone()), Obstacle::Passing, "{metadata}");
        }
    }

    #[test]
    fn a_foreign_set_is_reported_with_its_owner() {
        let belongs = judged(json!({"ownerReferences": owner("Oven", "o")}));
        assert_eq!(belongs, Obstacle::Foreign("belongs to Oven pantry".into()));
        let of_another = judged(json!({"ownerReferences": owner("Quinistry", "v")}));
        assert_eq!(of_another, Obstacle::Foreign("belongs to Quinistry pantry".into()));
        for metadata in [json!({}), json!({"labels": {RESOURCE: "old"}})] {
            assert!(matches!(judged(metadata.clone()), Obstacle::Foreign(_)), "{metadata}");
        }
    }
}
