//! `docs/security.md`: the rights of the operator, and the oldest Kubernetes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::page::{code, read, table, yaml};

const PAGE: &str = "docs/security.md";

/// A render with all rights, and with one namespace to watch: there the rights of each scope stand in a role of
/// their own.
const RENDER: &str = "tests/golden/chart/stores.yaml";

/// The names of the roles in the render, and the scopes of the page.
const SCOPES: [(&str, &str); 3] = [
    ("shelf-quinistry-operator", "resources' namespace"),
    ("shelf-quinistry-operator-reading-room", "cluster"),
    ("shelf-quinistry-operator-lease", "operator's namespace"),
];

/// A right: scope, group, resource and verbs.
type Right = [String; 4];

fn words(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

fn rights(scope: &str, rule: &Value) -> Right {
    let [group] = &words(&rule["apiGroups"])[..] else { panic!("one group: {rule}") };
    let [resource] = &words(&rule["resources"])[..] else { panic!("one resource: {rule}") };
    let name = rule["resourceNames"][0].as_str().map(|name| name.replace("shelf-", ""));
    let resource = name.map_or_else(|| resource.clone(), |name| format!("{resource}/{name}"));
    let group = if group.is_empty() { "core".into() } else { format!("`{group}`") };
    let mut verbs = words(&rule["verbs"]);
    verbs.sort();
    [scope.into(), group, resource, verbs.join(", ")]
}

#[test]
fn the_rights_are_those_of_the_charts_roles() {
    let objects = yaml(RENDER);
    let mut expected = BTreeSet::new();
    for (name, scope) in SCOPES {
        let is_role = |object: &&Value| {
            matches!(object["kind"].as_str(), Some("Role" | "ClusterRole"))
                && object["metadata"]["name"] == name
        };
        let role = objects.iter().find(is_role).unwrap_or_else(|| panic!("{RENDER} has no role {name}"));
        expected.extend(role["rules"].as_array().unwrap().iter().map(|rule| rights(scope, rule)));
    }
    let rows = table(&read(PAGE), ["scope", "API group", "resource", "verbs", "purpose"]);
    let count = rows.len();
    let listed: BTreeSet<Right> = rows
        .into_iter()
        .map(|[scope, group, resource, verbs, _]| [scope, group, code(&resource).into(), verbs])
        .collect();
    assert_eq!((listed.len(), listed), (count, expected));
}

#[test]
fn the_oldest_kubernetes_is_the_charts() {
    let chart = &yaml("charts/quinistry/Chart.yaml")[0];
    let version = chart["kubeVersion"].as_str().unwrap();
    let version = version.trim_start_matches(">=").trim_end_matches(".0-0");
    let sentence = format!("You need Kubernetes {version} or newer");
    assert!(read(PAGE).contains(&sentence), "{PAGE} does not say: {sentence}");
}
