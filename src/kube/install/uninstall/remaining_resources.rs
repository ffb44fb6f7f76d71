//! Resources of quinistry that remain in the cluster. (Client required.)

use serde_json::Value;

use crate::api::names::GROUP;
use crate::api::types;
use crate::install::api::{CRD, Cluster, ResourceKind};
use crate::install::error::InstallError;

/// Resources of one kind of quinistry's that remain in the cluster. As JSON, since one that cannot be decoded counts as
/// well.
pub(super) enum RemainingResources {
    Known(Vec<Value>),
    /// The definition exists, but the API server does not serve its resources: some may exist.
    NotServed,
}

// === impl RemainingResources ===

impl RemainingResources {
    pub(super) async fn list(cluster: &Cluster, kind: ResourceKind) -> Result<Self, InstallError> {
        // The first page by itself: `list` would take an answer without items for an empty list.
        let first = format!("/apis/{}/{}?limit=1", kind.version, kind.plural);
        match cluster.read_as_sent(&first, None).await {
            Ok(page) if page.get("items").is_none() => Err(InstallError::Refused(format!(
                "the API server does not answer {first} with a list, so that other resources cannot be seen"
            ))),
            Ok(_) => Ok(Self::Known(cluster.list(kind, "", "").await?)),
            Err(error) if error.is_missing() => {
                let name = format!("{}.{GROUP}", kind.plural);
                let definition: Option<types::Object> = cluster.get(CRD, "", &name).await?;
                Ok(if definition.is_some() { Self::NotServed } else { Self::Known(Vec::new()) })
            }
            Err(error) => Err(error),
        }
    }
}
