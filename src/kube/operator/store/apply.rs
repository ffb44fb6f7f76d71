//! Writes of the stores' objects, by server-side apply under the operator's field manager. Each names the state
//! that it was planned upon. Takes a client.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use serde_json::json;

use super::live::{LiveObject, api, view};
use super::objects::{StoreKind, WantedObject};
use super::plan::StoreProblem;
use super::replacement::Replacement;
use crate::api::names::managers;
use crate::crd::Reason;
use crate::one_line::{cut, one_line};
use crate::operator::apply::{NEW_OBJECT_VERSION, only_uid, preconditions};
use crate::operator::resource::ValidResource;
use crate::operator::{Category, OperatorError, error, naming};

/// Creates or changes an object upon a version of it; `None`: upon its absence. (Client required.)
pub(super) async fn apply(
    client: &Client,
    quinistry: &ValidResource,
    wanted: &WantedObject,
    version: Option<&str>,
) -> Result<LiveObject, OperatorError> {
    let name = naming::store_name(quinistry.name());
    let mut object = wanted.object.clone();
    object["metadata"]["resourceVersion"] = json!(version.unwrap_or(NEW_OBJECT_VERSION));
    let parameters = PatchParams::apply(managers::OPERATOR).force();
    let api = api(client, quinistry.namespace(), wanted.kind);
    match api.patch(&name, &parameters, &Patch::Apply(&object)).await {
        // The answer is about the resource's own object.
        Ok(answer) => Ok(view(answer, quinistry, &BTreeSet::new())),
        Err(source) => Err(failed("apply", wanted.kind, &name, source)),
    }
}

/// Deletes an object at this version. (Client required.)
pub(super) async fn delete(
    client: &Client,
    quinistry: &ValidResource,
    kind: StoreKind,
    uid: &str,
    version: &str,
) -> Result<(), OperatorError> {
    let name = naming::store_name(quinistry.name());
    let parameters = preconditions(Some(uid.into()), Some(version.into()));
    match api(client, quinistry.namespace(), kind).delete(&name, &parameters).await {
        Err(error) if Category::of(&error) == Category::NotFound => Ok(()),
        result => result.map(drop).map_err(|source| failed("delete", kind, &name, source)),
    }
}

/// Deletes a pod, so that its `DaemonSet` creates another one. One that is gone needs nothing. (Client
/// required.)
pub(super) async fn replace(
    client: &Client,
    quinistry: &ValidResource,
    pod: &Replacement,
) -> Result<(), OperatorError> {
    let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), quinistry.namespace());
    match pods.delete(&pod.name, &only_uid(&pod.uid)).await {
        // A conflict: another pod has the name.
        Err(error) if matches!(Category::of(&error), Category::NotFound | Category::Conflict) => Ok(()),
        result => result.map(drop).map_err(|source| OperatorError::Apply {
            what: format!("replace pod {}", pod.name),
            source: Box::new(source),
        }),
    }
}

fn failed(verb: &str, kind: StoreKind, name: &str, source: kube::Error) -> OperatorError {
    OperatorError::Apply { what: format!("{verb} {} {name}", kind.as_str()), source: Box::new(source) }
}

/// Returns what the API server's refusal of a write means for the user; `None` for a failure that is tried again.
pub(super) fn problem(failure: &OperatorError) -> Option<StoreProblem> {
    denial(failure).or_else(|| {
        let OperatorError::Apply { source, .. } = failure else { return None };
        let (reason, _, _) = error::rejection(source)?;
        Some(StoreProblem { reason, message: one_line(failure) })
    })
}

/// Returns what missing rights mean for the user; `None` for any other failure. A read has no other refusal that
/// lasts.
pub(super) fn denial(failure: &OperatorError) -> Option<StoreProblem> {
    let OperatorError::Apply { source, .. } = failure else { return None };
    if !is_denied(source) {
        return None;
    }
    let message = format!(
        "the operator may not handle the Services and NetworkPolicies of stores: set store.enabled=true in the \
         values of its chart ({})",
        one_line(failure)
    );
    Some(StoreProblem { reason: Reason::RightsMissing, message: cut(&message) })
}

/// Returns true if rights are missing. Quotas and admission refuse with the same code and in other words.
pub(super) fn is_denied(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    Category::of(error) == Category::Forbidden
        && [" cannot ", " resource "].iter().all(|word| status.message.contains(word))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn failure(code: u16, message: &str) -> OperatorError {
        let status = Status::failure(message, "Forbidden").with_code(code).boxed();
        failed("apply", StoreKind::Service, "larder-store", kube::Error::Api(status))
    }

    fn refused(code: u16, message: &str) -> Option<StoreProblem> {
        problem(&failure(code, message))
    }

    #[test]
    fn missing_rights_name_the_value_of_the_chart_and_a_quota_does_not() {
        let denied = "services \"larder-store\" is forbidden: User \"o\" cannot patch resource \"services\" in API \
                      group \"\" in the namespace \"pantry\"";
        let problem = refused(403, denied).unwrap();
        assert_eq!(problem.reason, Reason::RightsMissing);
        assert!(problem.message.contains("store.enabled=true") && problem.message.contains("cannot patch"));
        let quota = refused(403, "services \"larder-store\" is forbidden: exceeded quota: few").unwrap();
        assert_eq!(quota.reason, Reason::ApplyRejected);
        assert_eq!(refused(422, "spec: Invalid value").unwrap().reason, Reason::ApplyRejected);
        assert_eq!((refused(409, "modified"), refused(503, "away")), (None, None));
        assert_eq!(denial(&failure(403, denied)), refused(403, denied));
    }

    #[test]
    fn a_read_that_fails_for_another_reason_than_rights_is_tried_again() {
        assert_eq!(
            refused(500, "etcd is slow").unwrap().reason,
            Reason::ApplyRejected,
            "a webhook, of a write"
        );
        for code in [403, 422, 500, 503] {
            assert_eq!(denial(&failure(code, "etcd is slow")), None, "{code}");
        }
    }
}
