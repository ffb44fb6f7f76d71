//! Removal of the bundles that `up` applied. (Client required.)

use kube::core::ObjectMeta;

use super::{UninstallReport, delete_object};
use crate::api::types::Metadata as _;
use crate::install::api::{BUNDLE, Cluster};
use crate::install::error::InstallError;
use crate::install::ownership;

/// Deletes the bundles that `up` alone applied. Their names mean nothing without the generations. A bundle that
/// another writer owns fields of is that writer's: `up` may have added names to it.
pub(super) async fn delete_bundles(
    cluster: &Cluster,
    namespace: &str,
    report: &mut UninstallReport,
) -> Result<(), InstallError> {
    for bundle in cluster.names(BUNDLE, namespace, "").await? {
        if ownership::is_applied(&bundle.metadata) {
            delete_object(cluster, BUNDLE, namespace, bundle.metadata.name(), report, foreign).await?;
        }
    }
    Ok(())
}

/// Returns the reason why a bundle stays, as part of a sentence.
fn foreign(meta: &ObjectMeta) -> Option<String> {
    if ownership::is_applied(meta) { ownership::sharer(meta) } else { Some("was not applied by `up`".into()) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_bundle_stays_if_up_is_not_its_only_writer() {
        let kept = |fields: Value| {
            let meta: ObjectMeta = serde_json::from_value(json!({"managedFields": fields})).unwrap();
            foreign(&meta).unwrap_or_default()
        };
        let up = json!({"manager": "quinistry-up", "operation": "Apply"});
        let status = json!({"manager": "quinistry-operator", "operation": "Update", "subresource": "status"});
        let user = json!({"manager": "kubectl-client-side-apply", "operation": "Update"});
        assert_eq!(kept(json!([up, status])), "", "the operator writes each status");
        assert!(kept(json!([up, status, user])).contains("kubectl-client-side-apply has a share in"));
        assert!(kept(json!([user])).contains("was not applied by `up`"));
    }
}
