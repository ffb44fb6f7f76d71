//! Apply: carries out the actions of a plan, by server-side apply under one field manager. Takes a client, decides
//! nothing. Called by the driver.

use http::HeaderValue;
use http::header::ACCEPT;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{PartialObjectMeta, Request};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;

use super::error::{Category, OperatorError};
use super::observed::Observed;
use super::obstacle::Obstacle;
use super::plan::{Action, DropPart};
use super::resource::{Identity, Resource};
use super::{observe, obstacle};
use crate::api::names::annotations::CARRIERS_TRIED;
use crate::api::names::labels::CARRIER;
use crate::api::names::managers;
use crate::api::types;
use crate::crd::Quinistry;
use crate::lenient::Guarded;
use crate::seed::{SeedPart, SplitExecutable};

/// Version of an object that is to be created by server-side apply: where there is one it has another
/// version, as the first revision of etcd is never that of an object, and the apply is a conflict; where
/// there is none it is ignored.
const NEW: &str = "1";

/// What of an object's representations is its metadata.
const METADATA: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// What came of an action.
#[derive(Debug)]
pub(super) enum Applied {
    /// A generation by its name, and as it is on the server now if that can be read.
    Set(String, Option<Box<types::DaemonSet>>),
    /// A generation was removed.
    Deleted(i32),
    /// A pod was replaced.
    Replaced(String),
    /// A piece of a seed was made anew.
    Restored(String),
    /// A piece of another seed was removed.
    Dropped(String),
    /// A node's carrier was chosen, or its label taken away.
    Labelled(String, Option<String>),
    /// There was nothing left to do.
    Nothing,
}

/// Carries out one action for a resource, planned upon what was observed; pieces are those of `own`, the
/// operator's executable. Every write is refused by the API server if what it was planned upon is no longer
/// so, however late it arrives. (Client required.)
pub(super) async fn apply(
    client: &Client,
    quinistry: &Resource,
    own: Option<&SplitExecutable>,
    observed: &Observed,
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
            set.metadata.resource_version = Some(version.unwrap_or_else(|| NEW.into()));
            let mut answer = sets.patch(&name, &parameters, &Patch::Apply(&set)).await;
            if is_new
                && answer.as_ref().is_err_and(|error| Category::of(error) == Category::Conflict)
                && let Some(version) = stray(client, quinistry, &name).await?
            {
                set.metadata.resource_version = Some(version);
                answer = sets.patch(&name, &parameters, &Patch::Apply(&set)).await;
            }
            answer
                .map(|set| Applied::Set(name.clone(), set.readable().map(Box::new)))
                .map_err(|source| failed(format!("apply DaemonSet {name}"), source))
        }
        Action::Delete { namespace, name, generation } => {
            let sets: Api<Guarded<types::DaemonSet>> = Api::namespaced(client.clone(), namespace);
            let parameters = match live(name) {
                Some(live) => as_it_is(None, Some(live.version.to_string())),
                None => return Ok(Applied::Nothing),
            };
            let result = sets.delete(name, &parameters).await.map(|_| Applied::Deleted(*generation));
            gone_is_fine(result, || format!("delete DaemonSet {name}"))
        }
        Action::Replace { namespace, name, uid } => {
            let pods: Api<Guarded<types::Pod>> = Api::namespaced(client.clone(), namespace);
            let what = || format!("replace pod {name}");
            // It may have started in the meantime, which changes its version and not its UID.
            let selection = ListParams::default().fields(&format!("metadata.name={name}"));
            let found = pods.list(&selection).await.map_err(|source| failed(what(), source))?.items;
            let waits = |pod: types::Pod| {
                let version = pod.metadata.resource_version.clone();
                let (_, pod) = observe::pod(pod)?;
                (pod.start.uid == *uid && pod.ready.is_none() && !pod.deleting).then_some(version)
            };
            let Some(version) = found.into_iter().filter_map(Guarded::readable).find_map(waits) else {
                return Ok(Applied::Nothing);
            };
            let parameters = as_it_is(Some(uid.clone()), version);
            let result = pods.delete(name, &parameters).await.map(|_| Applied::Replaced(name.clone()));
            gone_is_fine(result, what)
        }
        Action::Restore { part, altered } => match own {
            Some(own) => restore(client, quinistry, own, *part, altered.as_deref()).await,
            None => Ok(Applied::Nothing),
        },
        Action::Adopt { part } => {
            let maps = pieces(client, quinistry.namespace());
            let uid = observed.parts.iter().find(|found| found.name == *part).map(|found| &found.uid);
            // One owner more: those that are there stay, and one of them may be its controller.
            let owner = quinistry.identity.owner();
            let patch = Patch::Strategic(json!({"metadata": {"uid": uid, "ownerReferences": [owner]}}));
            let result = maps.patch_metadata(part, &PatchParams::default(), &patch).await;
            gone_is_fine(result.map(|_| Applied::Nothing), || format!("adopt ConfigMap {part}"))
        }
        Action::Drop(DropPart { namespace, name, uid }) => {
            let result = pieces(client, namespace).delete(name, &only(uid)).await;
            gone_is_fine(result.map(|_| Applied::Dropped(name.clone())), || {
                format!("delete ConfigMap {name}")
            })
        }
        Action::Label { node, label, tried } => {
            let nodes: Api<types::Node> = Api::all(client.clone());
            let what = || format!("label node {node} with its carrier");
            let selection = ListParams::default().fields(&format!("metadata.name={node}"));
            let found = nodes.list_metadata(&selection).await.map_err(|source| failed(what(), source))?.items;
            let Some(live) = found.into_iter().find(|live| live.metadata.name.as_ref() == Some(node)) else {
                return Ok(Applied::Nothing);
            };
            let patch = Patch::Merge(json!({"metadata": {
                "uid": live.metadata.uid, "resourceVersion": live.metadata.resource_version,
                "labels": {CARRIER: label}, "annotations": {CARRIERS_TRIED: tried},
            }}));
            let result = nodes.patch_metadata(node, &PatchParams::default(), &patch).await;
            gone_is_fine(result.map(|_| Applied::Labelled(node.clone(), label.clone())), what)
        }
    }
}

/// Asks whether the resource is on the server as it was planned for. (Client required.)
pub(super) async fn exists(client: &Client, quinistry: &Resource) -> Result<bool, OperatorError> {
    let api: Api<Quinistry> = Api::namespaced(client.clone(), quinistry.namespace());
    let name = quinistry.name();
    let live = api
        .get_metadata_opt(name)
        .await
        .map_err(|source| failed(format!("read Quinistry {name}"), source))?;
    Ok(live.is_some_and(|live| {
        Identity::of(&live.metadata).is_ok_and(|live| {
            let planned = &quinistry.identity;
            live.uid == planned.uid && live.generation == planned.generation && !live.is_leaving
        })
    }))
}

/// The version of the `DaemonSet` in the place of one that was to be created, if that is the resource's own after all:
/// one without its label no watch shows. (Client required.)
async fn stray(client: &Client, quinistry: &Resource, name: &str) -> Result<Option<String>, OperatorError> {
    let namespace = quinistry.namespace();
    let sets: Api<PartialObjectMeta<DaemonSet>> = Api::namespaced(client.clone(), namespace);
    let what = || format!("read DaemonSet {name}");
    let Some(found) = sets.get_metadata_opt(name).await.map_err(|source| failed(what(), source))? else {
        return Ok(None);
    };
    match obstacle::judge(&found.metadata, quinistry.uid()) {
        Obstacle::Stray(version) => Ok(version),
        Obstacle::Passing => Ok(None),
        Obstacle::Foreign(whose) => Err(OperatorError::Taken { name: name.into(), whose }),
    }
}

async fn restore(
    client: &Client,
    quinistry: &Resource,
    own: &SplitExecutable,
    part: SeedPart,
    altered: Option<&str>,
) -> Result<Applied, OperatorError> {
    let namespace = quinistry.namespace();
    let name = own.names().of(part);
    let delete = async |parameters: DeleteParams| {
        let result = pieces(client, namespace).delete(&name, &parameters).await;
        gone_is_fine(result.map(|_| Applied::Nothing), || format!("delete the altered ConfigMap {name}"))
    };
    if let Some(uid) = altered {
        // What it holds cannot be changed.
        delete(only(uid)).await?;
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
    // Hardly ever there; and to apply a megabyte takes an API server more than twice the time that creating it takes.
    let mut answer = create(client, namespace, &map).await;
    if is(&answer, Category::Conflict) {
        answer = put().await;
    }
    if is(&answer, Category::Invalid) {
        // Another one, without our labels, stands in its place.
        let what = || format!("read ConfigMap {name}");
        let maps = pieces(client, namespace);
        if let Some(other) = maps.get_metadata_opt(&name).await.map_err(|source| failed(what(), source))? {
            delete(as_it_is(other.metadata.uid, other.metadata.resource_version)).await?;
        }
        answer = put().await;
    }
    answer
        .map(|_| Applied::Restored(name.clone()))
        .map_err(|source| failed(format!("restore ConfigMap {name}"), source))
}

/// Creates it, and hears no more of it than its metadata.
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
    request.headers_mut().insert(ACCEPT, METADATA);
    client.request(request).await
}

fn pieces(client: &Client, namespace: &str) -> Api<PartialObjectMeta<ConfigMap>> {
    Api::namespaced(client.clone(), namespace)
}

/// Deletes what has this UID, and no namesake. For what cannot change.
fn only(uid: &str) -> DeleteParams {
    as_it_is(Some(uid.into()), None)
}

/// Deletes what has this UID and is of this version. A version is enough, as no other object ever has it.
fn as_it_is(uid: Option<String>, resource_version: Option<String>) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version }),
        ..DeleteParams::background()
    }
}

fn gone_is_fine(
    result: Result<Applied, kube::Error>,
    what: impl Fn() -> String,
) -> Result<Applied, OperatorError> {
    match result {
        Err(error) if Category::of(&error) == Category::NotFound => Ok(Applied::Nothing),
        result => result.map_err(|source| failed(what(), source)),
    }
}

fn failed(what: String, source: kube::Error) -> OperatorError {
    OperatorError::Apply { what, source: Box::new(source) }
}
