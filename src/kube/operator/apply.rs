//! Apply: carries out the actions of a plan, by server-side apply under one field manager. Takes a client,
//! decides nothing. Called by the driver.

use std::collections::BTreeSet;

use http::HeaderValue;
use http::header::ACCEPT;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{PartialObjectMeta, Request};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;

use super::error::{Category, OperatorError};
use super::observed::ObservedState;
use super::obstacle::Obstacle;
use super::plan::{Action, DropPart};
use super::resource::{ResourceIdentity, ValidResource};
use super::{observe, obstacle};
use crate::api::names::annotations::CARRIERS_TRIED;
use crate::api::names::labels::CARRIER;
use crate::api::names::managers;
use crate::api::types;
use crate::crd::Quinistry;
use crate::lenient::Guarded;
use crate::seed::{SeedPart, SplitExecutable};

/// Resource version of an object that is to be created by server-side apply. An existing object has another
/// version, as the first revision of etcd is never that of an object, and the apply is a conflict; without an
/// existing object the version is ignored.
pub(super) const NEW_OBJECT_VERSION: &str = "1";

/// Media type of an object's metadata alone.
const METADATA_ONLY: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// Outcome of an action.
#[derive(Debug)]
pub(super) enum Applied {
    /// A generation was applied: its name, and the set as it is on the server, if that can be read.
    Set(String, Option<Box<types::DaemonSet>>),
    /// A generation was deleted.
    Deleted(i32),
    /// A pod was replaced.
    Replaced(String),
    /// A part of a seed was created again.
    Restored(String),
    /// A part of another seed was deleted.
    Dropped(String),
    /// A node was labelled with its carrier, or lost that label.
    Labelled(String, Option<String>),
    /// Nothing was left to do.
    Nothing,
}

/// Carries out one action for a resource, planned upon what was observed; parts are restored from `own`, the
/// operator's executable. The API server refuses every write whose planned state has changed since, no matter
/// how late it arrives. (Client required.)
pub(super) async fn apply(
    client: &Client,
    quinistry: &ValidResource,
    own: Option<&SplitExecutable>,
    observed: &ObservedState,
    action: &Action,
) -> Result<Applied, OperatorError> {
    let live = |name: &str| observed.daemon_sets.iter().find(|set| set.name == name);
    match action {
        Action::Apply(set) => {
            let sets: Api<Guarded<types::DaemonSet>> = Api::namespaced(client.clone(), quinistry.namespace());
            let parameters = PatchParams::apply(managers::OPERATOR).force();
            let name = set.name_any();
            let mut set = set.clone();
            let version = live(&name).map(|live| live.version.to_string());
            let is_new = version.is_none();
            set.metadata.resource_version = Some(version.unwrap_or_else(|| NEW_OBJECT_VERSION.into()));
            let mut answer = sets.patch(&name, &parameters, &Patch::Apply(&set)).await;
            if is_new
                && answer.as_ref().is_err_and(|error| Category::of(error) == Category::Conflict)
                && let Some(version) = find_stray(client, quinistry, &name, &observed.living).await?
            {
                set.metadata.resource_version = Some(version);
                answer = sets.patch(&name, &parameters, &Patch::Apply(&set)).await;
            }
            answer
                .map(|set| Applied::Set(name.clone(), set.readable().map(Box::new)))
                .map_err(|source| apply_error(format!("apply DaemonSet {name}"), source))
        }
        Action::Delete { namespace, name, generation } => {
            let sets: Api<Guarded<types::DaemonSet>> = Api::namespaced(client.clone(), namespace);
            let parameters = match live(name) {
                Some(live) => preconditions(None, Some(live.version.to_string())),
                None => return Ok(Applied::Nothing),
            };
            let result = sets.delete(name, &parameters).await.map(|_| Applied::Deleted(*generation));
            ignore_not_found(result, || format!("delete DaemonSet {name}"))
        }
        Action::Replace { namespace, name, uid } => {
            let pods: Api<Guarded<types::Pod>> = Api::namespaced(client.clone(), namespace);
            let what = || format!("replace pod {name}");
            // The pod may have started since, which changes its version and not its UID.
            let selection = ListParams::default().fields(&format!("metadata.name={name}"));
            let found = pods.list(&selection).await.map_err(|source| apply_error(what(), source))?.items;
            let waits = |pod: types::Pod| {
                let version = pod.metadata.resource_version.clone();
                let (_, pod) = observe::pod(pod)?;
                (pod.start.uid == *uid && pod.ready.is_none() && !pod.deleting).then_some(version)
            };
            let Some(version) = found.into_iter().filter_map(Guarded::readable).find_map(waits) else {
                return Ok(Applied::Nothing);
            };
            let parameters = preconditions(Some(uid.clone()), version);
            let result = pods.delete(name, &parameters).await.map(|_| Applied::Replaced(name.clone()));
            ignore_not_found(result, what)
        }
        Action::Restore { part, altered } => match own {
            Some(own) => restore(client, quinistry, own, *part, altered.as_deref()).await,
            None => Ok(Applied::Nothing),
        },
        Action::Adopt { part } => {
            let maps = config_maps(client, quinistry.namespace());
            let uid = observed.parts.iter().find(|found| found.name == *part).map(|found| &found.uid);
            // Adds an owner: the existing owners stay, and one of them may be its controller.
            let owner = quinistry.identity.owner();
            let patch = Patch::Strategic(json!({"metadata": {"uid": uid, "ownerReferences": [owner]}}));
            let result = maps.patch_metadata(part, &PatchParams::default(), &patch).await;
            ignore_not_found(result.map(|_| Applied::Nothing), || format!("adopt ConfigMap {part}"))
        }
        Action::Drop(DropPart { namespace, name, uid }) => {
            let result = config_maps(client, namespace).delete(name, &only_uid(uid)).await;
            ignore_not_found(result.map(|_| Applied::Dropped(name.clone())), || {
                format!("delete ConfigMap {name}")
            })
        }
        Action::Label { node, label, tried } => {
            let nodes: Api<types::Node> = Api::all(client.clone());
            let what = || format!("label node {node} with its carrier");
            let selection = ListParams::default().fields(&format!("metadata.name={node}"));
            let found =
                nodes.list_metadata(&selection).await.map_err(|source| apply_error(what(), source))?.items;
            let Some(live) = found.into_iter().find(|live| live.metadata.name.as_ref() == Some(node)) else {
                return Ok(Applied::Nothing);
            };
            let patch = Patch::Merge(json!({"metadata": {
                "uid": live.metadata.uid, "resourceVersion": live.metadata.resource_version,
                "labels": {CARRIER: label}, "annotations": {CARRIERS_TRIED: tried},
            }}));
            let result = nodes.patch_metadata(node, &PatchParams::default(), &patch).await;
            ignore_not_found(result.map(|_| Applied::Labelled(node.clone(), label.clone())), what)
        }
    }
}

/// Returns true if the resource exists on the server as it was planned for. (Client required.)
pub(super) async fn exists(client: &Client, quinistry: &ValidResource) -> Result<bool, OperatorError> {
    let api: Api<Quinistry> = Api::namespaced(client.clone(), quinistry.namespace());
    let name = quinistry.name();
    let live = api
        .get_metadata_opt(name)
        .await
        .map_err(|source| apply_error(format!("read Quinistry {name}"), source))?;
    Ok(live.is_some_and(|live| {
        ResourceIdentity::of(&live.metadata).is_ok_and(|live| {
            let planned = &quinistry.identity;
            live.uid == planned.uid && live.generation == planned.generation && !live.is_leaving
        })
    }))
}

/// Returns the version of the `DaemonSet` in the place of one that was to be created, if it is the resource's
/// own: a set without its label is shown by no watch. (Client required.)
async fn find_stray(
    client: &Client,
    quinistry: &ValidResource,
    name: &str,
    living: &BTreeSet<String>,
) -> Result<Option<String>, OperatorError> {
    let namespace = quinistry.namespace();
    let sets: Api<PartialObjectMeta<DaemonSet>> = Api::namespaced(client.clone(), namespace);
    let what = || format!("read DaemonSet {name}");
    let Some(found) = sets.get_metadata_opt(name).await.map_err(|source| apply_error(what(), source))? else {
        return Ok(None);
    };
    match obstacle::judge(&found.metadata, quinistry.uid(), living) {
        Obstacle::Stray(version) => Ok(version),
        Obstacle::Passing => Ok(None),
        Obstacle::Foreign(whose) => Err(OperatorError::Taken { name: name.into(), whose }),
    }
}

async fn restore(
    client: &Client,
    quinistry: &ValidResource,
    own: &SplitExecutable,
    part: SeedPart,
    altered: Option<&str>,
) -> Result<Applied, OperatorError> {
    let namespace = quinistry.namespace();
    let name = own.names().of(part);
    let delete = async |parameters: DeleteParams| {
        let result = config_maps(client, namespace).delete(&name, &parameters).await;
        ignore_not_found(result.map(|_| Applied::Nothing), || format!("delete the altered ConfigMap {name}"))
    };
    if let Some(uid) = altered {
        // The content of an immutable `ConfigMap` cannot be changed.
        delete(only_uid(uid)).await?;
    }
    let map = own
        .config_map(part, namespace, Some(quinistry.identity.controller()))
        .map_err(OperatorError::Executable)?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let put = || async {
        maps.patch_metadata(&name, &PatchParams::apply(managers::OPERATOR).force(), &Patch::Apply(&map)).await
    };
    let is = |answer: &kube::Result<_>, category| {
        answer.as_ref().is_err_and(|error| Category::of(error) == category)
    };
    // Create first, as the part rarely exists: applying a megabyte takes an API server more than twice as
    // long as creating it.
    let mut answer = create(client, namespace, &map).await;
    if is(&answer, Category::Conflict) {
        answer = put().await;
    }
    if is(&answer, Category::Invalid) {
        // Another `ConfigMap`, without our labels, is in its place.
        let what = || format!("read ConfigMap {name}");
        let maps = config_maps(client, namespace);
        if let Some(other) =
            maps.get_metadata_opt(&name).await.map_err(|source| apply_error(what(), source))?
        {
            delete(preconditions(other.metadata.uid, other.metadata.resource_version)).await?;
        }
        answer = put().await;
    }
    answer
        .map(|_| Applied::Restored(name.clone()))
        .map_err(|source| apply_error(format!("restore ConfigMap {name}"), source))
}

/// Creates a `ConfigMap`, and receives only its metadata.
async fn create(
    client: &Client,
    namespace: &str,
    map: &ConfigMap,
) -> kube::Result<PartialObjectMeta<ConfigMap>> {
    let body = serde_json::to_vec(map).map_err(kube::Error::SerdeError)?;
    let parameters = PostParams { field_manager: Some(managers::OPERATOR.into()), ..PostParams::default() };
    let mut request = Request::new(ConfigMap::url_path(&(), Some(namespace)))
        .create(&parameters, body)
        .map_err(kube::Error::BuildRequest)?;
    request.headers_mut().insert(ACCEPT, METADATA_ONLY);
    client.request(request).await
}

fn config_maps(client: &Client, namespace: &str) -> Api<PartialObjectMeta<ConfigMap>> {
    Api::namespaced(client.clone(), namespace)
}

/// Preconditions of a deletion by UID, for objects that cannot change.
pub(super) fn only_uid(uid: &str) -> DeleteParams {
    preconditions(Some(uid.into()), None)
}

/// Preconditions of a deletion by UID and version. A version is enough, as no other object ever has it.
pub(super) fn preconditions(uid: Option<String>, resource_version: Option<String>) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version }),
        ..DeleteParams::background()
    }
}

fn ignore_not_found(
    result: Result<Applied, kube::Error>,
    what: impl Fn() -> String,
) -> Result<Applied, OperatorError> {
    match result {
        Err(error) if Category::of(&error) == Category::NotFound => Ok(Applied::Nothing),
        result => result.map_err(|source| apply_error(what(), source)),
    }
}

fn apply_error(what: String, source: kube::Error) -> OperatorError {
    OperatorError::Apply { what, source: Box::new(source) }
}
