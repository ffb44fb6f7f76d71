//! Announcement of new names to pods. Takes a client, decides nothing.
//!
//! A kubelet brings a changed `ConfigMap` into a pod when it looks at the pod next, which may take a minute and a half. A
//! changed annotation of the pod lets it look at once.

use futures_util::{TryStreamExt as _, stream};
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::plan::WantedNames;
use crate::api::names::annotations::ANNOUNCED;
use crate::api::names::labels::RESOURCE;
use crate::one_line::one_line;
use crate::operator::build::hash;
use crate::operator::error::{Category, OperatorError};

type Pod = k8s_openapi::api::core::v1::Pod;

/// Most pods that are told, so that names cost an API server little in a large cluster, whose other pods get them when
/// their kubelet looks.
const MAX_PODS: u32 = 300;

/// Patches that are under way at once.
const AT_ONCE: usize = 8;

/// Lets the kubelets of a registry's pods read the `ConfigMap` that was just written. A failure is logged: the names come
/// without it, too, only later. (Client required.)
pub(super) async fn announce(client: &Client, wanted: &WantedNames) {
    if let Err(error) = patch_all(client, wanted).await {
        let identity = &wanted.registry.identity;
        tracing::warn!(
            namespace = identity.namespace,
            name = identity.name,
            error = one_line(&error),
            "cannot tell pods of new names, which come within two minutes"
        );
    }
}

async fn patch_all(client: &Client, wanted: &WantedNames) -> Result<(), OperatorError> {
    let identity = &wanted.registry.identity;
    let api: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), &identity.namespace);
    let selection = ListParams::default().labels(&format!("{RESOURCE}={}", identity.uid)).limit(MAX_PODS);
    let pods =
        api.list_metadata(&selection).await.map_err(|error| OperatorError::Observe(Box::new(error)))?;
    let hash = hash(&wanted.data);
    stream::iter(pods.items.iter().map(Ok))
        .try_for_each_concurrent(AT_ONCE, |pod| {
            let name = pod.name_any();
            let (api, hash) = (&api, &hash);
            async move {
                // The UID keeps the annotation from a namesake.
                let patch = json!({"metadata": {"uid": pod.metadata.uid, "annotations": {ANNOUNCED: hash}}});
                match api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                    Ok(_) => Ok(()),
                    Err(error) if matches!(Category::of(&error), Category::NotFound | Category::Conflict) => {
                        Ok(())
                    }
                    Err(source) => Err(OperatorError::Apply {
                        what: format!("annotate pod {name}"),
                        source: Box::new(source),
                    }),
                }
            }
        })
        .await
}
