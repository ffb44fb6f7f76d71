//! Writes of `ConfigMaps` of names, and of statuses of bundles, by server-side apply. Takes a client, decides
//! nothing.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::observed::{ObservedBundle, ObservedNames, WireBundle, WireNames, names};
use super::plan::{Registry, Verdict, WantedNames};
use crate::api::names::annotations::APPLIED;
use crate::api::names::labels::{APP_MANAGED_BY, APP_NAME, NAMES};
use crate::api::names::{API_VERSION, APP, BUNDLE_KIND, KIND, managers};
use crate::crd::{BundleReason, BundleStatus};
use crate::lenient::Guarded;
use crate::one_line::cut;
use crate::operator::apply::NEW_OBJECT_VERSION;
use crate::operator::build::{hash, to_owned_pair};
use crate::operator::error::{self, Category, OperatorError};
use crate::operator::naming::names_map_name;

/// Outcome of the write of a `ConfigMap`.
#[derive(Debug)]
pub(super) enum Written {
    /// The `ConfigMap` as it is on the server now, with its key.
    Done(Option<(String, ObservedNames)>),
    /// The API server refuses the content; true if that may pass by itself.
    Refused(Verdict, bool),
}

/// Reads the `ConfigMap` of a registry that no watch shows: it may be new, or without its label. (Client
/// required.)
pub(super) async fn read_names(
    client: &Client,
    registry: &Registry,
) -> Result<Option<(String, ObservedNames)>, OperatorError> {
    let maps: Api<Guarded<WireNames>> = Api::namespaced(client.clone(), &registry.identity.namespace);
    let found = maps
        .get_opt(&names_map_name(&registry.identity.name))
        .await
        .map_err(|error| OperatorError::Observe(Box::new(error)))?;
    Ok(found.and_then(Guarded::readable).and_then(names))
}

/// Returns why a `ConfigMap` of this name is not the registry's, if it is another owner's.
pub(super) fn foreign(registry: &Registry, found: &ObservedNames) -> Option<Verdict> {
    let identity = &registry.identity;
    let whose = match &found.controller {
        Some((uid, _)) if *uid == identity.uid => return None,
        // It belongs to a deleted resource of this name: the cluster collects it.
        Some((_, kind)) if kind == KIND => "belongs to a deleted Quinistry and goes with it",
        Some(_) => "belongs to another object",
        None if found.resource.as_deref() == Some(identity.name.as_str()) => return None,
        None => "was not made for this Quinistry",
    };
    let message = format!(
        "ConfigMap {}/{} is there already and {whose}; delete it, or give the Quinistry another name",
        identity.namespace,
        names_map_name(&identity.name)
    );
    Some(Verdict { reason: BundleReason::NamesRejected, message })
}

/// Applies a `ConfigMap` of names upon the version that it was planned for. (Client required.)
pub(super) async fn write_names(
    client: &Client,
    wanted: &WantedNames,
    present: Option<&ObservedNames>,
) -> Result<Written, OperatorError> {
    let identity = &wanted.registry.identity;
    let name = names_map_name(&identity.name);
    let labels = [(NAMES, identity.name.as_str()), (APP_NAME, APP), (APP_MANAGED_BY, managers::OPERATOR)];
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(identity.namespace.clone()),
            labels: Some(labels.map(to_owned_pair).into()),
            annotations: Some([to_owned_pair((APPLIED, &hash(&wanted.data)))].into()),
            owner_references: Some(vec![identity.controller()]),
            resource_version: Some(
                present.map_or_else(|| NEW_OBJECT_VERSION.into(), |present| present.version.clone()),
            ),
            ..ObjectMeta::default()
        },
        data: Some(wanted.data.clone()),
        ..ConfigMap::default()
    };
    let maps: Api<Guarded<WireNames>> = Api::namespaced(client.clone(), &identity.namespace);
    let parameters = PatchParams::apply(managers::OPERATOR).force();
    match maps.patch(&name, &parameters, &Patch::Apply(&map)).await {
        Ok(map) => Ok(Written::Done(map.readable().and_then(names))),
        Err(source) => match refusal(&name, &source) {
            Some((verdict, passes)) => Ok(Written::Refused(verdict, passes)),
            None => Err(OperatorError::Apply {
                what: format!("apply ConfigMap {name}"),
                source: Box::new(source),
            }),
        },
    }
}

/// Returns what the refusal of a `ConfigMap` means, and true if it may pass by itself; `None` if the API
/// server did not judge the content.
fn refusal(name: &str, error: &kube::Error) -> Option<(Verdict, bool)> {
    let (said, passes) = match error {
        kube::Error::Api(status) if status.code == 413 => (cut(&status.message), false),
        _ => error::rejection(error).map(|(_, message, passes)| (message, passes))?,
    };
    let message = format!("the API server refuses ConfigMap {name}: {said}");
    Some((Verdict { reason: BundleReason::NamesRejected, message }, passes))
}

/// Writes the status of a bundle; one that is gone or was created again needs none. (Client required.)
pub(super) async fn write_status(
    client: &Client,
    bundle: &ObservedBundle,
    status: &BundleStatus,
) -> Result<(), OperatorError> {
    let api: Api<WireBundle> = Api::namespaced(client.clone(), &bundle.namespace);
    let patch = json!({
        "apiVersion": API_VERSION,
        "kind": BUNDLE_KIND,
        // The UID keeps the status from a namesake that was created after the plan.
        "metadata": {"uid": bundle.uid},
        "status": status,
    });
    let parameters = PatchParams::apply(managers::OPERATOR).force();
    match api.patch_status(&bundle.name, &parameters, &Patch::Apply(&patch)).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(Category::of(&error), Category::NotFound | Category::Conflict) => Ok(()),
        Err(error) => Err(OperatorError::Report(Box::new(error))),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::refusal;

    #[test]
    fn a_failing_webhook_refuses_the_names_and_may_pass() {
        let of = |code, message: &str| {
            let status = Status::failure(message, "").with_code(code).boxed();
            refusal("larder-names", &kube::Error::Api(status))
                .map(|(verdict, passes)| (verdict.message, passes))
        };
        let text = "failed calling webhook \"guard\": no endpoints available";
        let (message, passes) = of(500, text).unwrap();
        assert_eq!(message, format!("the API server refuses ConfigMap larder-names: {text}"));
        assert!(passes);
        for code in [403, 413, 422] {
            assert!(!of(code, "no").unwrap().1, "{code}");
        }
        assert_eq!((of(409, "modified"), of(503, "away"), of(429, "later")), (None, None, None));
    }
}
