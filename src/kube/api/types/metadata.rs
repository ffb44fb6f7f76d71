//! Access to the metadata of objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, OwnerReference};
use kube::core::ObjectMeta;

/// Metadata in which absent values are empty.
pub(crate) trait Metadata {
    /// Returns the name.
    fn name(&self) -> &str;

    /// Returns the namespace; empty for a cluster-wide object.
    fn namespace(&self) -> &str;

    /// Returns the value of a label.
    fn label(&self, key: &str) -> Option<&str>;

    /// Returns the value of an annotation.
    fn annotation(&self, key: &str) -> Option<&str>;

    /// Returns the owners.
    fn owners(&self) -> &[OwnerReference];

    /// Returns the owner that controls the object.
    fn controller(&self) -> Option<&OwnerReference> {
        self.owners().iter().find(|owner| owner.controller == Some(true))
    }

    /// Returns the record of field managers and their fields.
    fn managed_fields(&self) -> &[ManagedFieldsEntry];

    /// Returns true if the object is being deleted.
    fn is_terminating(&self) -> bool;
}

// === impl Metadata ===

impl Metadata for ObjectMeta {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn owners(&self) -> &[OwnerReference] {
        self.owner_references.as_deref().unwrap_or_default()
    }

    fn managed_fields(&self) -> &[ManagedFieldsEntry] {
        self.managed_fields.as_deref().unwrap_or_default()
    }

    fn is_terminating(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}
