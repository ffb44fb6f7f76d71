//! The objects that `up` would apply, for review, or to apply them from a repository. Changes nothing.

use serde_json::Value;

use super::api::{Cluster, QUINISTRY};
use super::error::InstallError;
use super::manifests::{self, OperatorParameters};
use super::{InstallRequest, status};
use crate::api::names::RESOURCE;
use crate::crd::Quinistry;
use crate::operator::generation_zero;

/// Returns all objects but the definition, in an order in which they can be created after it. With a cluster,
/// the carriers are chosen for its nodes, and an existing resource keeps its settings. (Client required, if
/// there is a cluster.)
pub async fn render(
    cluster: Option<&Cluster>,
    request: &InstallRequest<'_>,
) -> Result<Vec<Value>, InstallError> {
    let InstallRequest { namespace, options, payload, .. } = *request;
    let before: Option<Quinistry> = match cluster {
        None => None,
        Some(cluster) => cluster.get(QUINISTRY, namespace, RESOURCE).await?.and_then(status::read),
    };
    if let Some(text) = options.contradiction(before.as_ref()) {
        return Err(InstallError::Refused(text));
    }
    let resource = options.resource(namespace, payload, before.as_ref());
    let quinistry = status::read(resource.clone()).expect("what is made here is understood here");
    let parameters = OperatorParameters {
        namespace,
        architecture: payload.architecture,
        port: *options.ports(before.as_ref()).start(),
        digest: &payload.digest,
        version: payload.version.as_deref(),
    };
    let mut all: Vec<Value> = manifests::namespaces(namespace)
        .into_iter()
        .map(|(name, level)| manifests::namespace(&name, level, true))
        .collect();
    all.extend(manifests::rights(namespace));
    // Without an owner: the operator makes the resource their owner when it reads them.
    for part in payload.split.parts() {
        let map = payload.split.config_map(part, namespace, None)?;
        all.push(serde_json::to_value(map).expect("a ConfigMap is JSON"));
    }
    all.push(resource);
    let client = cluster.map(Cluster::client);
    for set in generation_zero::preview(client, &quinistry, payload.split.share_count()).await? {
        let set = serde_json::to_value(set).expect("a DaemonSet is JSON");
        all.push(set);
    }
    all.push(manifests::operator(&parameters));
    Ok(all)
}
