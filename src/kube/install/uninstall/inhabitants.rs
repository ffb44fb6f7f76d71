//! Objects in a namespace other than those that Kubernetes creates in each. (Client required.)

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::discovery::Kinds;
use crate::install::api::{Cluster, METADATA_LIST_TYPE};
use crate::install::error::InstallError;
use crate::sorted::Sorted as _;

/// Number of kinds that are listed at the same time.
const CONCURRENT_LISTS: usize = 8;

/// Number of objects that the report names.
const MAX_NAMED_INHABITANTS: usize = 10;

/// Returns the objects in a namespace. Kinds that could not be listed and unknown API groups count as
/// objects.
pub(super) async fn inhabitants(
    cluster: &Cluster,
    kinds: &Kinds,
    namespace: &str,
) -> Result<Vec<String>, InstallError> {
    let each = kinds.listed.iter().map(|((version, plural), named)| async move {
        let root = if version == "v1" { "/api" } else { "/apis" };
        let path = format!("{root}/{version}/namespaces/{namespace}/{plural}?limit=10");
        match cluster.read_as_sent(&path, Some(METADATA_LIST_TYPE)).await {
            Ok(list) => Ok(others(plural, &list)),
            // A built-in kind that is disabled in this API server.
            Err(error) if error.is_missing() && !named => Ok(Vec::new()),
            Err(_) => Ok::<_, InstallError>(vec![format!("{plural}, which cannot be listed")]),
        }
    });
    let found: Vec<Vec<String>> = stream::iter(each).buffer_unordered(CONCURRENT_LISTS).try_collect().await?;
    let mut found = found.into_iter().flatten().into_set();
    found
        .extend(kinds.unknown.iter().map(|group| format!("objects of {group}, an API that does not answer")));
    let more = found.len().saturating_sub(MAX_NAMED_INHABITANTS);
    let mut named: Vec<String> = found.into_iter().take(MAX_NAMED_INHABITANTS).collect();
    if more > 0 {
        named.push(format!("{more} more"));
    }
    Ok(named)
}

fn others(plural: &str, list: &Value) -> Vec<String> {
    // An empty list of metadata has `items: null`; an answer without the field is not a list.
    let items = match list.get("items") {
        Some(Value::Null) => return Vec::new(),
        Some(Value::Array(items)) => items,
        _ => return vec![format!("{plural}, which cannot be listed")],
    };
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or("(without a name)").to_owned();
    let is_usual = |name: &String| {
        matches!(
            (plural, name.as_str()),
            ("configmaps", "kube-root-ca.crt" | "openshift-service-ca.crt") | ("serviceaccounts", "default")
        )
    };
    let names = items.iter().map(name).filter(|name| !is_usual(name));
    names.map(|name| format!("{plural} {name}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_every_namespace_has_does_not_live_there() {
        let list = |names: &[&str]| {
            let items: Vec<Value> = names.iter().map(|name| json!({"metadata": {"name": name}})).collect();
            json!({"items": items})
        };
        assert_eq!(others("configmaps", &list(&["kube-root-ca.crt", "flour"])), ["configmaps flour"]);
        assert_eq!(others("serviceaccounts", &list(&["default", "cook"])), ["serviceaccounts cook"]);
        assert_eq!(others("secrets", &list(&["default"])), ["secrets default"]);
    }

    #[test]
    fn an_answer_without_items_is_no_empty_list() {
        assert!(others("pods", &json!({"items": null})).is_empty());
        for odd in [json!({}), json!({"items": "none"}), json!(null)] {
            assert_eq!(others("pods", &odd), ["pods, which cannot be listed"], "{odd}");
        }
    }
}
