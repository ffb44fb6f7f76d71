//! Apply: carries out the actions of a plan, by server-side apply under one field manager. Takes a client, decides
//! nothing. Called by the driver.

use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};

use super::error::{Category, OperatorError};
use super::identity::MANAGER;
use super::plan::Action;
use super::wire;

/// What came of an action.
#[derive(Debug)]
pub(super) enum Applied {
    /// A generation, as it is on the server now.
    Set(Box<wire::DaemonSet>),
    /// A generation was removed.
    Deleted(i32),
    /// A pod was replaced.
    Replaced(String),
    /// There was nothing left to do.
    Nothing,
}

/// Carries out one action. (Client required.)
pub(super) async fn apply(client: &Client, action: &Action) -> Result<Applied, OperatorError> {
    match action {
        Action::Apply(set) => {
            let sets: Api<wire::DaemonSet> =
                Api::namespaced(client.clone(), &set.namespace().unwrap_or_default());
            let parameters = PatchParams::apply(MANAGER).force();
            let name = set.name_any();
            let answer = sets.patch(&name, &parameters, &Patch::Apply(set)).await;
            answer
                .map(|set| Applied::Set(Box::new(set)))
                .map_err(|source| failed(format!("apply DaemonSet {name}"), source))
        }
        Action::Delete { namespace, name, generation } => {
            let sets: Api<wire::DaemonSet> = Api::namespaced(client.clone(), namespace);
            let result =
                sets.delete(name, &DeleteParams::background()).await.map(|_| Applied::Deleted(*generation));
            gone_is_fine(result, || format!("delete DaemonSet {name}"))
        }
        Action::Replace { namespace, name, uid } => {
            let pods: Api<wire::Pod> = Api::namespaced(client.clone(), namespace);
            let parameters = DeleteParams {
                preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
                ..DeleteParams::default()
            };
            let result = pods.delete(name, &parameters).await.map(|_| Applied::Replaced(name.clone()));
            gone_is_fine(result, || format!("replace pod {name}"))
        }
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
