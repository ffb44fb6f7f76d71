//! Ownership of objects by their metadata. Pure. Asked before an object is overwritten or deleted: its name
//! alone proves nothing, since a chart or an administrator may use the same name.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::core::ObjectMeta;

use crate::api::names::annotations::HELM_RELEASE;
use crate::api::names::labels::{APP_INSTANCE, APP_MANAGED_BY, NAME, SEED};
use crate::api::names::{KIND, RESOURCE, managers};
use crate::api::types::Metadata as _;

/// Returns the reason why an object under a name of `up` is not from `up`; `None` if it is.
pub(super) fn foreign(meta: &ObjectMeta, namespace: &str) -> Option<String> {
    if let Some(release) = meta.annotation(HELM_RELEASE) {
        return Some(format!("belongs to the Helm release {release}"));
    }
    if let Some(owner) = meta.owners().first() {
        return Some(format!("belongs to {} {}", owner.kind, owner.name));
    }
    match meta.label(APP_MANAGED_BY) {
        Some(manager) if manager == managers::UP => {}
        Some(manager) => return Some(format!("is managed by {manager}")),
        None => return Some("was not made by `up`".into()),
    }
    match meta.label(APP_INSTANCE) {
        Some(instance) if instance != namespace => Some(format!("belongs to `up` in namespace {instance}")),
        _ => None,
    }
}

/// Returns the reason why a namespace is not from `up`. `up` marks namespaces by one label only.
pub(super) fn foreign_namespace(meta: &ObjectMeta) -> Option<String> {
    if let Some(release) = meta.annotation(HELM_RELEASE) {
        return Some(format!("belongs to the Helm release {release}"));
    }
    match meta.label(APP_MANAGED_BY) {
        Some(manager) if manager == managers::UP => None,
        Some(manager) => Some(format!("is managed by {manager}")),
        None => Some("was not made by `up`".into()),
    }
}

/// Returns the reason why the resource is not from `up`: one made by hand may have the same name. `seeded`:
/// its specification has a seed.
pub(super) fn foreign_resource(meta: &ObjectMeta, seeded: bool) -> Option<String> {
    if let Some(release) = meta.annotation(HELM_RELEASE) {
        return Some(format!("belongs to the Helm release {release}"));
    }
    let labelled = meta.label(APP_MANAGED_BY).is_some_and(|manager| manager == managers::UP);
    if is_applied(meta) || labelled || seeded {
        None
    } else {
        Some("was not made by `up`: it has a bootstrap image and no seed".into())
    }
}

/// Returns true if `up` has applied fields of an object, and no chart holds it.
pub(super) fn is_applied(meta: &ObjectMeta) -> bool {
    meta.annotation(HELM_RELEASE).is_none()
        && meta.managed_fields().iter().any(|fields| fields.manager.as_deref() == Some(managers::UP))
}

/// Returns true if `up` owns the field at this path.
pub(super) fn owns(meta: &ObjectMeta, path: &[&str]) -> bool {
    let is_listed = |fields: &serde_json::Value| {
        path.iter().try_fold(fields, |inner, key| inner.get(format!("f:{key}"))).is_some()
    };
    let by_up = |fields: &&ManagedFieldsEntry| {
        fields.manager.as_deref() == Some(managers::UP) && fields.subresource.is_none()
    };
    let mut fields = meta.managed_fields().iter().filter(by_up).filter_map(|one| one.fields_v1.as_ref());
    fields.any(|fields| is_listed(&fields.0))
}

/// Returns true if a `ConfigMap` with the seed's labels is one of its parts: it has a part's name, and no
/// owner but the resource.
pub(super) fn is_part(meta: &ObjectMeta, resource_uid: Option<&str>) -> bool {
    let Some(seed) = meta.label(SEED) else { return false };
    let named = meta.label(NAME).is_some_and(|name| name == RESOURCE);
    let suffix = meta.name().strip_prefix(&format!("{RESOURCE}-seed-{seed}-"));
    let is_number = |text: &str| text.len() >= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_part_name = suffix.is_some_and(|suffix| suffix == "stub" || is_number(suffix));
    let owned = meta.owners().iter().all(|owner| {
        owner.kind == KIND && owner.name == RESOURCE && resource_uid.is_none_or(|uid| uid == owner.uid)
    });
    named && is_part_name && owned && meta.annotation(HELM_RELEASE).is_none()
}

/// Returns true if the Lease of the operator's name was written by an operator, and by no chart.
pub(super) fn is_lease(meta: &ObjectMeta, manager: &str) -> bool {
    meta.annotation(HELM_RELEASE).is_none()
        && meta.label(APP_MANAGED_BY).is_none_or(|by| by == managers::UP)
        && meta.owners().is_empty()
        && meta.managed_fields().iter().any(|fields| fields.manager.as_deref() == Some(manager))
}

/// Returns the Helm release that an object is part of.
pub(super) fn release(object: &serde_json::Value) -> Option<&str> {
    object["metadata"]["annotations"][HELM_RELEASE].as_str()
}

/// Returns the writer other than `up` that owns fields of an object, or the fact that the writers are unknown,
/// as part of a sentence. A writer of a subresource, such as the status, does not count.
pub(super) fn sharer(meta: &ObjectMeta) -> Option<String> {
    if let Some(release) = meta.annotation(HELM_RELEASE) {
        return Some(format!("the Helm release {release} has a share in"));
    }
    let mut managed_fields =
        meta.managed_fields().iter().filter(|fields| fields.subresource.is_none()).peekable();
    if managed_fields.peek().is_none() {
        return Some("nothing says that `up` made".into());
    }
    let other = managed_fields.find(|fields| fields.manager.as_deref() != Some(managers::UP))?;
    Some(format!("{} has a share in", other.manager.as_deref().unwrap_or("a writer without a name")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn meta(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_object_is_ours_by_its_labels_and_not_by_its_name() {
        let ours = json!({"name": "quinistry-operator", "labels": {APP_MANAGED_BY: managers::UP, APP_INSTANCE: "pantry"}});
        assert_eq!(foreign(&meta(ours.clone()), "pantry"), None);
        assert!(foreign(&meta(ours.clone()), "cellar").unwrap().contains("namespace pantry"));
        let mut adopted = ours.clone();
        adopted["annotations"] = json!({HELM_RELEASE: "shelf"});
        assert!(foreign(&meta(adopted), "pantry").unwrap().contains("Helm release shelf"));
        let mut owned = ours;
        owned["ownerReferences"] = json!([{"kind": "Oven", "name": "big", "uid": "1"}]);
        assert!(foreign(&meta(owned), "pantry").unwrap().contains("Oven big"));
        assert!(
            foreign(&meta(json!({"labels": {APP_MANAGED_BY: "Helm"}})), "pantry").unwrap().contains("Helm")
        );
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
        let applied = json!({"managedFields": [{"manager": managers::UP, "operation": "Apply"}]});
        assert_eq!(foreign_resource(&meta(applied), false), None);
        assert_eq!(foreign_resource(&meta(json!({})), true), None);
        let by_hand = json!({"managedFields": [{"manager": "kubectl-create"}]});
        assert!(foreign_resource(&meta(by_hand), false).is_some());
    }

    #[test]
    fn a_field_is_ours_if_up_applied_it() {
        let path = ["spec", "store", "copies"];
        let is_ours = |manager: &str, fields: Value| {
            owns(&meta(json!({"managedFields": [{"manager": manager, "fieldsV1": fields}]})), &path)
        };
        let copies = json!({"f:spec": {"f:store": {"f:copies": {}}}});
        assert!(is_ours(managers::UP, copies.clone()));
        assert!(!is_ours("kubectl", copies));
        assert!(!is_ours(managers::UP, json!({"f:spec": {"f:store": {"f:path": {}}}})));
        assert!(!owns(&meta(json!({})), &path));
    }

    #[test]
    fn an_object_is_shared_with_each_other_writer() {
        let sharer_of = |fields: Value| sharer(&meta(json!({"managedFields": fields}))).unwrap_or_default();
        let status = json!({"manager": "kube-apiserver", "subresource": "status"});
        assert_eq!(sharer_of(json!([{"manager": managers::UP}, status])), "");
        assert!(sharer_of(json!([{"manager": managers::UP}, {"manager": "helm"}])).contains("helm"));
        assert!(
            sharer_of(json!([{"manager": managers::UP}, {"operation": "Update"}])).contains("without a name")
        );
        assert!(sharer_of(json!([])).contains("nothing says"));
        assert!(sharer_of(json!([status])).contains("nothing says"));
    }
}
