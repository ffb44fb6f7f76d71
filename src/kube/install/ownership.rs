//! Ownership: which objects `up` made, by their metadata. Pure. Used before anything is overwritten or
//! deleted: a name alone proves nothing, since a chart or an administrator may have chosen the same one.

use super::names::{MANAGED_BY, MANAGER, RESOURCE};
use super::wire::{Meta, Object};
use crate::seed::{NAME, SEED};

/// Label of the release or namespace that an object is part of.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// Annotation that Helm writes on each object of a release, also on adopted ones.
const HELM_RELEASE: &str = "meta.helm.sh/release-name";

/// Returns why an object that `up` applies by name is not from `up`; nothing if it is.
pub(super) fn foreign(meta: &Meta, namespace: &str) -> Option<String> {
    if let Some(release) = meta.annotations.get(HELM_RELEASE) {
        return Some(format!("belongs to the Helm release {release}"));
    }
    if let Some(owner) = meta.owner_references.first() {
        return Some(format!("belongs to {} {}", owner.kind, owner.name));
    }
    match meta.labels.get(MANAGED_BY) {
        Some(manager) if manager == MANAGER => {}
        Some(manager) => return Some(format!("is managed by {manager}")),
        None => return Some("was not made by `up`".into()),
    }
    match meta.labels.get(INSTANCE) {
        Some(instance) if instance != namespace => Some(format!("belongs to `up` in namespace {instance}")),
        _ => None,
    }
}

/// Returns why a namespace is not from `up`. Its label is all that `up` leaves there.
pub(super) fn foreign_namespace(meta: &Meta) -> Option<String> {
    if let Some(release) = meta.annotations.get(HELM_RELEASE) {
        return Some(format!("belongs to the Helm release {release}"));
    }
    match meta.labels.get(MANAGED_BY) {
        Some(manager) if manager == MANAGER => None,
        Some(manager) => Some(format!("is managed by {manager}")),
        None => Some("was not made by `up`".into()),
    }
}

/// Returns why the resource of `up`'s name is not from `up`: a resource made by hand may have this name too.
/// `seeded`: its specification asks for generation 0.
pub(super) fn foreign_resource(meta: &Meta, seeded: bool) -> Option<String> {
    if let Some(release) = meta.annotations.get(HELM_RELEASE) {
        return Some(format!("belongs to the Helm release {release}"));
    }
    let applied = meta.managed_fields.iter().any(|fields| fields.manager == MANAGER);
    let labelled = meta.labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER);
    if applied || labelled || seeded {
        None
    } else {
        Some("was not made by `up`: it has a bootstrap image and no seed".into())
    }
}

/// Returns true if a `ConfigMap` with the seed's labels is one of its parts: it has a part's name, and no
/// owner but the resource.
pub(super) fn is_part(meta: &Meta, resource_uid: Option<&str>) -> bool {
    let Some(seed) = meta.labels.get(SEED) else { return false };
    let named = meta.labels.get(NAME).is_some_and(|name| name == RESOURCE);
    let suffix = meta.name.strip_prefix(&format!("{RESOURCE}-seed-{seed}-"));
    let is_number = |text: &str| text.len() >= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_part_name = suffix.is_some_and(|suffix| suffix == "stub" || is_number(suffix));
    let owned = meta.owner_references.iter().all(|owner| {
        owner.kind == "Quinistry" && owner.name == RESOURCE && resource_uid.is_none_or(|uid| uid == owner.uid)
    });
    named && is_part_name && owned && !meta.annotations.contains_key(HELM_RELEASE)
}

/// Returns true if the Lease of the operator's name was written by an operator, and by no chart.
pub(super) fn is_lease(meta: &Meta, manager: &str) -> bool {
    !meta.annotations.contains_key(HELM_RELEASE)
        && meta.labels.get(MANAGED_BY).is_none_or(|by| by == MANAGER)
        && meta.owner_references.is_empty()
        && meta.managed_fields.iter().any(|fields| fields.manager == manager)
}

/// Returns the Helm release that an object is part of.
pub(super) fn release(object: &serde_json::Value) -> Option<&str> {
    object["metadata"]["annotations"][HELM_RELEASE].as_str()
}

/// Names the program other than `up` that has a share in the definition, or says that its maker is unknown,
/// as part of a sentence.
pub(super) fn sharer(definition: &Object) -> Option<String> {
    let meta = &definition.metadata;
    if let Some(release) = meta.annotations.get(HELM_RELEASE) {
        return Some(format!("the Helm release {release} has a share in"));
    }
    let mut writers = meta.managed_fields.iter().filter(|fields| fields.subresource.is_empty()).peekable();
    if writers.peek().is_none() {
        return Some("nothing says that `up` made".into());
    }
    let other = writers.find(|fields| fields.manager != MANAGER);
    other.map(|other| format!("{} has a share in", other.manager))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn meta(value: Value) -> Meta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_object_is_ours_by_its_labels_and_not_by_its_name() {
        let ours = json!({"name": "quinistry-operator", "labels": {MANAGED_BY: MANAGER, INSTANCE: "pantry"}});
        assert_eq!(foreign(&meta(ours.clone()), "pantry"), None);
        assert!(foreign(&meta(ours.clone()), "cellar").unwrap().contains("namespace pantry"));
        let mut adopted = ours.clone();
        adopted["annotations"] = json!({HELM_RELEASE: "shelf"});
        assert!(foreign(&meta(adopted), "pantry").unwrap().contains("Helm release shelf"));
        let mut owned = ours;
        owned["ownerReferences"] = json!([{"kind": "Oven", "name": "big", "uid": "1"}]);
        assert!(foreign(&meta(owned), "pantry").unwrap().contains("Oven big"));
        assert!(foreign(&meta(json!({"labels": {MANAGED_BY: "Helm"}})), "pantry").unwrap().contains("Helm"));
        assert!(foreign(&meta(json!({"name": "quinistry-operator"})), "pantry").is_some());
    }

    #[test]
    fn a_part_has_a_parts_name_and_no_other_owner() {
        let part = |name: &str, owners: Value| {
            meta(json!({
                "name": name, "labels": {SEED: "0123456789abcdef", NAME: RESOURCE}, "ownerReferences": owners,
            }))
        };
        let owner = |kind: &str, uid: &str| json!([{"kind": kind, "name": RESOURCE, "uid": uid}]);
        let name = "quinistry-seed-0123456789abcdef-000";
        assert!(is_part(&part(name, owner("Quinistry", "1")), Some("1")));
        assert!(is_part(&part(name, json!([])), None));
        assert!(is_part(&part("quinistry-seed-0123456789abcdef-stub", json!([])), Some("1")));
        assert!(!is_part(&part("recipes", json!([])), None));
        assert!(!is_part(&part("quinistry-seed-fedcba9876543210-000", json!([])), None));
        assert!(!is_part(&part(name, owner("Oven", "1")), Some("1")));
        assert!(!is_part(&part(name, owner("Quinistry", "2")), Some("1")), "of another resource");
        assert!(!is_part(&meta(json!({"name": name, "labels": {NAME: RESOURCE}})), None));
    }

    #[test]
    fn a_resource_made_by_hand_under_the_same_name_is_not_ours() {
        let applied = json!({"managedFields": [{"manager": MANAGER, "operation": "Apply"}]});
        assert_eq!(foreign_resource(&meta(applied), false), None);
        assert_eq!(foreign_resource(&meta(json!({})), true), None);
        let by_hand = json!({"managedFields": [{"manager": "kubectl-create"}]});
        assert!(foreign_resource(&meta(by_hand), false).is_some());
    }

    #[test]
    fn a_definition_is_shared_with_each_other_writer() {
        let told = |fields: Value| {
            sharer(&Object { metadata: meta(json!({"managedFields": fields})) }).unwrap_or_default()
        };
        let status = json!({"manager": "kube-apiserver", "subresource": "status"});
        assert_eq!(told(json!([{"manager": MANAGER}, status])), "");
        assert!(told(json!([{"manager": MANAGER}, {"manager": "helm"}])).contains("helm"));
        assert!(told(json!([])).contains("nothing says"));
        assert!(told(json!([status])).contains("nothing says"));
    }
}
