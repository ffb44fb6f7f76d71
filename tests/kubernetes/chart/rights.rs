//! Rights: a list, written down here, that the roles are equal to.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::chart::helm::{Helm, OPERATOR, of_kind, only, root};

/// Where resources live.
const NAMESPACED: &[&str] = &[
    "quinistry.dev/quinistries: get list watch",
    "quinistry.dev/quinistries/status: patch",
    "apps/daemonsets: create delete get list patch watch",
    "/pods: delete list watch",
    "events.k8s.io/events: create list patch watch",
    "coordination.k8s.io/leases: create",
    "coordination.k8s.io/leases/quinistry-claim: get update",
];

/// Rights on objects that belong to no namespace.
const CLUSTER: &[&str] = &["/nodes: list watch"];

/// Rights for generation 0 where resources live.
const SEED_NAMESPACED: &[&str] = &["/configmaps: create delete get list patch watch"];

/// Rights for stores and bundles where resources live.
const STORE_NAMESPACED: &[&str] = &[
    "/pods: patch",
    "/services: create delete get patch",
    "networking.k8s.io/networkpolicies: create delete get patch",
    "quinistry.dev/bundles: get list watch",
    "quinistry.dev/bundles/status: patch",
];

/// Rights for bundles where there is no generation 0.
const STORE_WITHOUT_SEED: &[&str] = &["/configmaps: create get list patch watch"];

/// Rights for generation 0 beyond namespaces.
const SEED_CLUSTER: &[&str] = &["/nodes: patch", "/pods: list"];

/// For an election, where the operator is.
const ELECTION: &[&str] = &[
    "coordination.k8s.io/leases: create",
    "coordination.k8s.io/leases/shelf-quinistry-operator: get update",
];

/// Formats rules as `group/resource: verbs`, sorted, the verbs of rules for one resource apart, with the name
/// where there is one. Anything else that a rule may hold is a failure.
fn rights(role: &Value) -> BTreeSet<String> {
    let words = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let name = rule["resourceNames"].as_array().map(|names| match names.as_slice() {
            [Value::String(name)] => format!("/{name}"),
            _ => panic!("one name: {rule}"),
        });
        assert_eq!(rule.as_object().unwrap().len(), 3 + usize::from(name.is_some()), "{rule}");
        let name = name.unwrap_or_default();
        let mut verbs = words(&rule["verbs"]);
        verbs.sort();
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                assert!(
                    rights.insert(format!("{group}/{resource}{name}: {}", verbs.join(" "))),
                    "{resource} twice"
                );
            }
        }
    }
    rights
}

fn set(lists: &[&[&str]]) -> BTreeSet<String> {
    lists.concat().into_iter().map(str::to_owned).collect()
}

fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = of_kind(objects, kind).into_iter().find(|object| object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("{kind} {name}"))
}

#[test]
fn the_operator_has_these_rights_and_no_others() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(&["--set", "leaderElection.enabled=false"]);
    let role = named(&objects, "ClusterRole", "shelf-quinistry-operator");
    assert_eq!(rights(role), set(&[NAMESPACED, CLUSTER, SEED_NAMESPACED, SEED_CLUSTER]));
    assert!(of_kind(&objects, "Role").is_empty());
    assert!(of_kind(&objects, "RoleBinding").is_empty());
    binds(only(&objects, "ClusterRoleBinding"), role);
}

#[test]
fn without_seeds_the_operator_changes_no_node_and_reads_no_config_map() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(&["--set", "seed.enabled=false"]);
    let role = named(&objects, "ClusterRole", "shelf-quinistry-operator");
    assert_eq!(rights(role), set(&[NAMESPACED, CLUSTER]));
    assert!(of_kind(&objects, "ValidatingAdmissionPolicy").is_empty());
    let one = helm
        .objects(&["--set", "seed.enabled=false,watchNamespace=reading-room,leaderElection.enabled=false"]);
    assert_eq!(rights(only(&one, "Role")), set(&[NAMESPACED]));
    assert_eq!(rights(named(&one, "ClusterRole", "shelf-quinistry-operator-reading-room")), set(&[CLUSTER]));
}

#[test]
fn rights_for_stores_are_given_where_they_are_asked_for() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(&["--set", "store.enabled=true"]);
    let role = named(&objects, "ClusterRole", "shelf-quinistry-operator");
    assert_eq!(rights(role), set(&[NAMESPACED, CLUSTER, SEED_NAMESPACED, SEED_CLUSTER, STORE_NAMESPACED]));
    let one = helm.objects(&[
        "--set",
        "store.enabled=true,seed.enabled=false,watchNamespace=reading-room,leaderElection.enabled=false",
    ]);
    assert_eq!(rights(only(&one, "Role")), set(&[NAMESPACED, STORE_NAMESPACED, STORE_WITHOUT_SEED]));
    assert_eq!(rights(named(&one, "ClusterRole", "shelf-quinistry-operator-reading-room")), set(&[CLUSTER]));
}

#[test]
fn a_policy_limits_the_operators_changes_of_nodes() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(&[]);
    let policy = &only(&objects, "ValidatingAdmissionPolicy");
    let who = "request.userInfo.username == \"system:serviceaccount:library:shelf-quinistry-operator\"";
    assert_eq!(policy["spec"]["matchConditions"][0]["expression"], who);
    let binding = &only(&objects, "ValidatingAdmissionPolicyBinding")["spec"];
    assert_eq!(binding["policyName"], policy["metadata"]["name"]);
    assert_eq!(binding["validationActions"], serde_json::json!(["Deny"]));
    let label = policy["spec"]["validations"][2]["message"].as_str().unwrap();
    assert!(label.ends_with(quinistry::seed::carrier::CARRIER), "{label}");
    // Both are written at once: without the second a node without a carrier could not be marked.
    let annotation = policy["spec"]["validations"][3]["message"].as_str().unwrap();
    assert!(annotation.ends_with(quinistry::api::names::annotations::CARRIERS_TRIED), "{annotation}");
    let of_annotations = |one: &serde_json::Value| one["expression"].to_string().contains("annotations");
    assert!(!policy["spec"]["validations"].as_array().unwrap().iter().any(of_annotations), "compared whole");
    let off = helm.objects(&["--set", "seed.nodePolicy=false"]);
    assert!(of_kind(&off, "ValidatingAdmissionPolicy").is_empty());
}

#[test]
fn two_releases_of_one_name_share_no_cluster_wide_role() {
    let Some(helm) = Helm::find() else { return };
    let names = |namespace: &str| -> BTreeSet<String> {
        let set = format!("watchNamespace={namespace}");
        let objects =
            helm.text(&["template", "shelf", "charts/quinistry", "--namespace", namespace, "--set", &set]);
        let objects = crate::chart::helm::parse(&objects);
        of_kind(&objects, "ClusterRole").iter().map(|role| role["metadata"]["name"].to_string()).collect()
    };
    let (one, other) = (names("library"), names("archive"));
    assert_eq!(one.len(), 3);
    assert!(one.is_disjoint(&other), "{one:?} {other:?}");
}

#[test]
fn with_one_namespace_to_watch_only_nodes_are_cluster_wide() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(&["--set", "watchNamespace=reading-room,leaderElection.enabled=false"]);
    let role = only(&objects, "Role");
    assert_eq!(rights(role), set(&[NAMESPACED, SEED_NAMESPACED]));
    assert_eq!(role["metadata"]["namespace"], "reading-room");
    let binding = only(&objects, "RoleBinding");
    assert_eq!(binding["metadata"]["namespace"], "reading-room");
    binds(binding, role);
    let cluster = named(&objects, "ClusterRole", "shelf-quinistry-operator-reading-room");
    assert_eq!(rights(cluster), set(&[CLUSTER, SEED_CLUSTER]));
    binds(only(&objects, "ClusterRoleBinding"), cluster);
}

#[test]
fn the_lease_is_the_operators_own_and_no_other() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(&[]);
    let role = only(&objects, "Role");
    assert_eq!(rights(role), set(&[ELECTION]));
    assert_eq!(role["metadata"]["namespace"], "library");
    let binding = only(&objects, "RoleBinding");
    assert_eq!(binding["metadata"]["namespace"], "library");
    binds(binding, role);
    // In one namespace with the resources, each role has a name of its own.
    let same = helm.objects(&["--set", "watchNamespace=library"]);
    let names: BTreeSet<_> =
        of_kind(&same, "Role").iter().map(|role| role["metadata"]["name"].clone().to_string()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

/// Asserts that the binding gives this role to the operator's account, and to no other subject.
fn binds(binding: &Value, role: &Value) {
    assert_eq!(binding["roleRef"]["kind"], role["kind"]);
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    let operator = serde_json::json!([{"kind": "ServiceAccount", "name": "shelf-quinistry-operator", "namespace": "library"}]);
    assert_eq!(binding["subjects"], operator);
}

#[test]
fn people_get_the_resource_and_not_its_status() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(&[]);
    let view = named(&objects, "ClusterRole", "library-shelf-quinistry-operator-view");
    let edit = named(&objects, "ClusterRole", "library-shelf-quinistry-operator-edit");
    assert_eq!(
        rights(view),
        set(&[&["quinistry.dev/bundles: get list watch", "quinistry.dev/quinistries: get list watch"]])
    );
    assert_eq!(
        rights(edit),
        set(&[&[
            "quinistry.dev/bundles: create delete deletecollection patch update",
            "quinistry.dev/quinistries: create delete deletecollection patch update"
        ]])
    );
    let aggregated = |role: &Value, to: &str| {
        role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{to}")] == "true"
    };
    assert!(["view", "edit", "admin"].iter().all(|to| aggregated(view, to)));
    assert!(["edit", "admin"].iter().all(|to| aggregated(edit, to)) && !aggregated(edit, "view"));
    let none = helm.objects(&["--set", "rbac.aggregate=false"]);
    assert_eq!(of_kind(&none, "ClusterRole").len(), 1);
}

#[test]
fn roles_and_account_are_switched_apart() {
    let Some(helm) = Helm::find() else { return };
    let account = |objects: &[Value]| {
        only(objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let objects = helm.objects(&["--set", "rbac.create=false,watchNamespace=reading-room"]);
    for kind in ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
    assert_eq!(account(&objects), "shelf-quinistry-operator");
    assert_eq!(only(&objects, "ServiceAccount")["automountServiceAccountToken"], false);

    let objects = helm.objects(&["--set", "serviceAccount.create=false"]);
    assert!(of_kind(&objects, "ServiceAccount").is_empty());
    assert_eq!(account(&objects), "default");
    assert_eq!(only(&objects, "ClusterRoleBinding")["subjects"][0]["name"], "default");

    let objects = helm.objects(&["--set", "serviceAccount.create=false,serviceAccount.name=keeper"]);
    assert_eq!(account(&objects), "keeper");
    assert_eq!(only(&objects, "ClusterRoleBinding")["subjects"][0]["name"], "keeper");
}

#[test]
fn each_right_has_its_reason_above_it() {
    let templates = root().join(OPERATOR).join("templates");
    let mut rules = 0;
    for name in ["_helpers.tpl", "aggregated.yaml", "clusterrole.yaml", "lease.yaml", "role.yaml"] {
        let text = std::fs::read_to_string(templates.join(name)).unwrap();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for at in (0..lines.len()).filter(|at| lines[*at].starts_with("- apiGroups:")) {
            assert!(lines[at - 1].starts_with("# "), "{name}: {}", lines[at + 1]);
            rules += 1;
        }
    }
    let seed = SEED_NAMESPACED.len() + SEED_CLUSTER.len();
    let store = STORE_NAMESPACED.len() + STORE_WITHOUT_SEED.len();
    assert_eq!(rules, NAMESPACED.len() + CLUSTER.len() + seed + store + ELECTION.len() + 2);
}
