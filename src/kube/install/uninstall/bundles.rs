//! Removal of the bundles that `up` applied. (Client required.)

use kube::core::ObjectMeta;

use super::{UninstallReport, delete_object};
use crate::api::types::Metadata as _;
use crate::install::api::{BUNDLE, Cluster};
use crate::install::error::InstallError;
use crate::install::ownership;

/// Deletes the bundles that `up` applied. Their names mean nothing without the generations.
pub(super) async fn delete_bundles(
    cluster: &Cluster,
    namespace: &str,
    report: &mut UninstallReport,
) -> Result<(), InstallError> {
    for bundle in cluster.names(BUNDLE, namespace, "").await? {
        if ownership::is_applied(&bundle.metadata) {
            let foreign =
                |meta: &ObjectMeta| (!ownership::is_applied(meta)).then(|| "was not applied by `up`".into());
            delete_object(cluster, BUNDLE, namespace, bundle.metadata.name(), report, foreign).await?;
        }
    }
    Ok(())
}
