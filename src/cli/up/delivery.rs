//! `quinistry up --with`: loads the images of an archive into the stores, and gives them their names.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::super::cluster::LiveText;
use super::super::load::report::{LoadDestination, LoadTotal};
use super::super::load::{bundle_object, into_store, read_bundle};
use super::super::sanitize;
use super::show;
use crate::client::Bundle;
use crate::install::api::Cluster;
use crate::install::store::wait_for_stores;
use crate::install::{apply_bundle, names, wait_until_available};

/// Images to deliver, read before anything is changed in the cluster.
pub(super) struct Delivery {
    bundle: Bundle,
    namespace: String,
    /// Name of the `Bundle`.
    name: String,
    object: Value,
}

// === impl Delivery ===

impl Delivery {
    /// Reads the manifests of an archive. Fails unless it is whole, and one `Bundle` takes all names of its images.
    pub(super) fn read(path: &Path, namespace: &str) -> anyhow::Result<Self> {
        let bundle = read_bundle(path)?;
        let name = bundle_object::name_of(path);
        let mut object = bundle_object::bundle_object(&name, Some(namespace), bundle.images())?;
        // The namespace may have other resources with stores.
        object["spec"]["registry"] = names::RESOURCE.into();
        Ok(Self { bundle, namespace: namespace.into(), name, object })
    }

    pub(super) const fn object(&self) -> &Value {
        &self.object
    }

    /// Loads the images into the stores, as soon as these can take them, and applies the `Bundle`.
    pub(super) async fn run(
        &self,
        cluster: &Cluster,
        timeout: Duration,
        live: &mut LiveText,
    ) -> anyhow::Result<()> {
        let resource = (self.namespace.as_str(), names::RESOURCE);
        let store = wait_for_stores(cluster, resource, timeout, &mut |progress| show(live, progress)).await;
        // The bars of the load have the terminal for themselves.
        live.finish();
        let store = store?;
        let (report, pod) = into_store::load(&self.bundle, &store, false).await?;
        let total = LoadTotal {
            images: self.bundle.images().len(),
            bytes: self.bundle.blob_bytes(),
            sent_bytes: report.sent_bytes,
        };
        *live = LiveText::new();
        let destination = LoadDestination::store(&store, pod);
        live.print_line(&format!("done  {}: {total}", sanitize(&destination.to_string())));
        let others = apply_bundle(cluster, &self.object).await?;
        if !others.is_empty() {
            live.print_line(&sanitize(&format!(
                "note  Bundle {}/{} also has names of another writer, which stay: {}",
                self.namespace,
                self.name,
                others.join(", ")
            )));
        }
        live.print_line(&format!("done  Bundle {}/{}", self.namespace, self.name));
        Ok(())
    }

    /// Waits until all nodes can serve the images, unless the operator cannot ask them.
    pub(super) async fn wait(
        &self,
        cluster: &Cluster,
        timeout: Duration,
        live: &mut LiveText,
    ) -> anyhow::Result<()> {
        let bundle = (self.namespace.as_str(), self.name.as_str());
        let unknown =
            wait_until_available(cluster, bundle, timeout, &mut |progress| show(live, progress)).await?;
        if let Some(why) = unknown {
            live.print_line(&sanitize(&format!(
                "note  Bundle {}/{}: not known whether all nodes can serve it: {why}",
                self.namespace, self.name
            )));
        }
        Ok(())
    }
}
