//! Store of a resource: its pods, and the way from this machine to their write listener. Called by `quinistry load`.

mod arrival;
mod copies;
mod failure;
mod pods;
mod route;
mod tunnel;

use serde_json::Value;

use self::pods::{choose, running};
use super::api::{Cluster, POD, QUINISTRY};
use super::bundle;
use super::error::InstallError;
use crate::api::names::{STORE_ROLE, labels};
use crate::api::types::{Pod, Quinistry};
use crate::crd::DEFAULT_BASE_PORT;

pub use self::arrival::wait_for_stores;
pub use self::copies::usual_copies;
pub use self::pods::StorePod;
pub use self::tunnel::{StoreTunnel, TunnelEvent};

/// Store of a resource, found in a cluster.
#[derive(Clone, Debug)]
pub struct Store {
    cluster: Cluster,
    namespace: String,
    name: String,
    /// Selector of the store's pods.
    selector: String,
    base_port: i32,
}

// === impl Store ===

impl Store {
    /// Finds the store of a resource.
    pub async fn find(cluster: &Cluster, namespace: &str, name: &str) -> Result<Self, InstallError> {
        Self::of(cluster, (namespace, name), &Self::read(cluster, namespace, name).await?)
    }

    /// Reads the resource.
    async fn read(cluster: &Cluster, namespace: &str, name: &str) -> Result<Quinistry, InstallError> {
        let found = cluster.get::<Quinistry>(QUINISTRY, namespace, name).await;
        let resource = found.map_err(|error| needing("get quinistries.quinistry.dev", namespace, error))?;
        resource.ok_or_else(|| {
            InstallError::Refused(format!(
                "there is no Quinistry {namespace}/{name} in {}; name another one with --namespace and --name, or raise it \
                 with `quinistry up --with FILE`",
                cluster.identity()
            ))
        })
    }

    /// Returns the store of a resource that was read.
    fn of(
        cluster: &Cluster,
        (namespace, name): (&str, &str),
        Quinistry { metadata, spec, .. }: &Quinistry,
    ) -> Result<Self, InstallError> {
        if !spec["store"].is_object() {
            return Err(InstallError::Refused(format!(
                "Quinistry {namespace}/{name} has no store for applications (no spec.store); `kubectl --namespace \
                 {namespace} patch quinistry {name} --type merge --patch '{{\"spec\":{{\"store\":{{\"copies\":3}}}}}}'` adds \
                 one, or name a registry to load into"
            )));
        }
        let base_port = spec["basePort"].as_i64().and_then(|port| port.try_into().ok());
        Ok(Self {
            cluster: cluster.clone(),
            namespace: namespace.into(),
            name: name.into(),
            selector: format!(
                "{}={},{}={STORE_ROLE}",
                labels::RESOURCE,
                metadata.uid.as_deref().unwrap_or_default(),
                labels::ROLE
            ),
            base_port: base_port.unwrap_or(DEFAULT_BASE_PORT),
        })
    }

    /// Namespace of the resource.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Name of the resource.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Port of generation 1, from which nodes pull.
    #[must_use]
    pub const fn base_port(&self) -> i32 {
        self.base_port
    }

    /// Returns true if the cluster has all names of a `Bundle`, in whichever bundles. False without the right to list them.
    pub async fn has_names(&self, bundle: &Value) -> bool {
        bundle::is_applied(&self.cluster, bundle).await
    }

    /// Returns all pods of the store that run.
    pub async fn running_pods(&self) -> Result<Vec<StorePod>, InstallError> {
        Ok(running(&self.pods().await?))
    }

    /// Returns the pod to load through: one that is ready, or another one that runs. `failed` has the pods that failed, the
    /// last one last.
    async fn pod(&self, failed: &[String]) -> Result<Option<StorePod>, InstallError> {
        Ok(choose(&self.pods().await?, failed))
    }

    async fn pods(&self) -> Result<Vec<Pod>, InstallError> {
        let pods = self.cluster.list::<Pod>(POD, &self.namespace, &self.selector).await;
        pods.map_err(|error| needing("list pods", &self.namespace, error))
    }
}

/// Adds the right that a refused request needs to its error.
fn needing(right: &str, namespace: &str, error: InstallError) -> InstallError {
    match error {
        InstallError::Api { what, why, code: Some(403) } => {
            let why = format!(
                "{why}; your user needs the right to {right} in namespace {namespace}: a cluster administrator can grant it by \
                 the Role in docs/bundles.md"
            );
            InstallError::Api { what, why, code: Some(403) }
        }
        error => error,
    }
}
