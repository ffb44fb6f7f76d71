//! `down`, `check` and `status` as real programs, against a server that answers as an API server does, or as
//! a broken one would: what they delete and leave, and how they say what they found. A real cluster plays in
//! `e2e/stories`.

mod api;

use serde_json::{Value, json};

use api::{Api, core, groups, resource};

const NAMESPACE: &str = "/api/v1/namespaces/quinistry-system";
const OPERATOR_NAMESPACE: &str = "/api/v1/namespaces/quinistry-system-operator";
const ROLE: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/quinistry-system/roles/quinistry-operator";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/quinistry-system-operator/deployments/quinistry-operator";
const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/quinistries.quinistry.dev";
const BUNDLE_DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/bundles.quinistry.dev";
const RESOURCE: &str = "/apis/quinistry.dev/v1alpha1/namespaces/quinistry-system/quinistries/quinistry";

fn ours() -> Value {
    json!({"metadata": {"labels": {
        "app.kubernetes.io/managed-by": "quinistry-up", "app.kubernetes.io/instance": "quinistry-system",
    }}})
}

fn resource_of_up() -> Value {
    json!({
        "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry",
        "metadata": {"managedFields": [{"manager": "quinistry-up"}], "generation": 1},
        "spec": {"seed": {"executable": "sha256:1"}, "digest": "sha256:2"},
    })
}

/// Returns a cluster on which `up` was run, and nothing else.
fn installed() -> Api {
    let api = Api::start();
    for path in [NAMESPACE, OPERATOR_NAMESPACE, ROLE, DEPLOYMENT] {
        api.put(path, ours());
    }
    let fields = json!([{"manager": "quinistry-up"}, {"manager": "kube-apiserver", "subresource": "status"}]);
    for definition in [DEFINITION, BUNDLE_DEFINITION] {
        api.put(definition, json!({"metadata": {"managedFields": fields}}));
    }
    api.put(RESOURCE, resource_of_up());
    let labels = json!({"quinistry.dev/seed": "0123456789abcdef", "quinistry.dev/name": "quinistry"});
    let part = format!("{NAMESPACE}/configmaps/quinistry-seed-0123456789abcdef-000");
    api.put(&part, json!({"metadata": {"labels": labels}}));
    api.put(&format!("{NAMESPACE}/configmaps/kube-root-ca.crt"), json!({}));
    api
}

fn down(api: &Api) -> String {
    let said = api.run(&["down", "--yes", "--timeout", "1"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(api.state.lock().unwrap().unconditional.is_empty(), "each deletion says what it has seen");
    said.out
}

#[test]
fn down_removes_all_that_up_made() {
    let api = installed();
    let said = down(&api);
    let left: Vec<String> = api.state.lock().unwrap().objects.keys().cloned().collect();
    assert_eq!(left, [format!("{NAMESPACE}/configmaps/kube-root-ca.crt")], "{said}");
    assert!(!said.contains("left"), "{said}");
}

#[test]
fn down_leaves_what_others_made_under_the_same_names() {
    let api = installed();
    let helms = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}});
    api.put(ROLE, helms.clone());
    api.put(DEPLOYMENT, helms);
    let recipes = format!("{NAMESPACE}/configmaps/recipes");
    let labels = json!({"quinistry.dev/seed": "0123456789abcdef", "quinistry.dev/name": "quinistry"});
    api.put(&recipes, json!({"metadata": {"labels": labels}}));
    let said = down(&api);
    for kept in [ROLE, DEPLOYMENT, &recipes, NAMESPACE, OPERATOR_NAMESPACE] {
        assert!(api.has(kept), "{kept} is gone: {said}");
    }
    assert!(!api.has(RESOURCE), "{said}");
    for word in ["managed by Helm", "recipes", "deployments quinistry-operator"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn down_leaves_a_resource_that_was_made_by_hand() {
    let api = installed();
    let by_hand = json!({"spec": {"image": "a:1"}, "metadata": {"managedFields": [{"manager": "kubectl"}]}});
    api.put(RESOURCE, by_hand);
    let said = down(&api);
    assert!(api.has(RESOURCE) && api.has(DEFINITION) && api.has(NAMESPACE), "{said}");
}

#[test]
fn down_leaves_the_definition_to_a_resource_that_it_cannot_decode() {
    let api = installed();
    let odd = json!({"spec": {"resources": {"limits": {"memory": 4_294_967_296_u64}}, "seed": 7}});
    api.put("/apis/quinistry.dev/v1alpha1/namespaces/tenant/quinistries/shelf", odd);
    let said = down(&api);
    assert!(api.has(DEFINITION) && said.contains("Quinistry tenant/shelf is one"), "{said}");
    assert!(!api.has(NAMESPACE), "{said}");
}

#[test]
fn down_leaves_the_definition_of_bundles_while_there_is_one() {
    let api = installed();
    api.put("/apis/quinistry.dev/v1alpha1/namespaces/tenant/bundles/shop", json!({"spec": {}}));
    let said = down(&api);
    assert!(api.has(BUNDLE_DEFINITION) && said.contains("Bundle tenant/shop is one"), "{said}");
    assert!(!api.has(DEFINITION) && !api.has(NAMESPACE), "{said}");
}

#[test]
fn down_removes_the_bundles_that_up_applied_and_no_others() {
    let api = installed();
    let bundles = "/apis/quinistry.dev/v1alpha1/namespaces/quinistry-system/bundles";
    let [ours, others, shared] = ["shop", "tools", "pies"].map(|name| format!("{bundles}/{name}"));
    let applied_by =
        |manager: &str| json!({"metadata": {"managedFields": [{"manager": manager}]}, "spec": {}});
    api.put(&ours, applied_by("quinistry-up"));
    let said = down(&api);
    assert!(!api.has(&ours) && !api.has(BUNDLE_DEFINITION) && !api.has(NAMESPACE), "{said}");
    let api = installed();
    api.put(&ours, applied_by("quinistry-up"));
    api.put(&others, applied_by("kubectl-client-side-apply"));
    let writers = json!([{"manager": "kubectl"}, {"manager": "quinistry-up"}]);
    api.put(&shared, json!({"metadata": {"managedFields": writers}, "spec": {}}));
    let said = down(&api);
    assert!(!api.has(&ours) && api.has(&others) && api.has(BUNDLE_DEFINITION), "{said}");
    assert!(api.has(&shared) && said.contains("pies, which kubectl has a share in"), "{said}");
}

#[test]
fn down_deletes_nothing_without_a_complete_discovery() {
    for (path, answer) in [
        ("/api", json!({})),
        ("/api", json!({"items": null})),
        ("/api", core(&["pods", "secrets"])),
        ("/apis", json!({"items": []})),
        ("/apis", json!({"kind": "APIGroupList", "groups": []})),
    ] {
        let api = installed();
        api.answer(path, answer.clone());
        let said = api.run(&["down", "--yes", "--timeout", "1"]);
        assert_eq!(said.code, Some(1), "{answer}: {said:?}");
        assert!(said.error.contains("nothing was deleted") && said.error.lines().count() == 1, "{said:?}");
        assert!(api.state.lock().unwrap().deleted.is_empty(), "{answer}");
    }
}

#[test]
fn down_leaves_namespaces_while_an_api_group_does_not_answer() {
    let stale = json!({"metadata": {"name": "late.example.com"}, "versions": [
        {"version": "v1", "freshness": "Stale"},
    ]});
    let ovens = json!({"metadata": {"name": "kitchen.example.com"}, "versions": [
        {"version": "v1", "resources": [resource("ovens")]},
    ]});
    for (group, word) in [(stale, "late.example.com/v1"), (ovens, "ovens, which cannot be listed")] {
        let api = installed();
        api.answer("/apis", groups(&[group]));
        for place in ["quinistry-system", "quinistry-system-operator"] {
            let path = format!("/apis/kitchen.example.com/v1/namespaces/{place}/ovens");
            api.state.lock().unwrap().answers.insert(path, (503, json!({"code": 500, "message": "away"})));
        }
        let said = api.run(&["down", "--yes", "--timeout", "1"]);
        assert!(api.has(NAMESPACE) && api.has(OPERATOR_NAMESPACE), "{said:?}");
        assert!(said.out.contains(word) && !api.has(RESOURCE), "{said:?}");
    }
}

#[test]
fn looking_ends_soon_while_the_api_server_cannot_serve() {
    for command in ["check", "status"] {
        let api = Api::start();
        api.state.lock().unwrap().broken = Some(503);
        let said = api.run(&[command]);
        assert_eq!(said.code, Some(1), "{said:?}");
        let lines: Vec<&str> = said.error.lines().collect();
        assert!(
            lines[0].contains("waiting: cluster stove (context pantry") && lines[0].contains("503"),
            "{said:?}"
        );
        assert!(lines.last().unwrap().contains("the kitchen is closed (503)"), "{said:?}");
    }
}

#[test]
fn credentials_that_are_refused_come_with_advice() {
    let api = Api::start();
    api.state.lock().unwrap().broken = Some(401);
    let said = api.run(&["status"]);
    assert!(said.code == Some(1) && said.error.contains("log in to the cluster again"), "{said:?}");
}

#[test]
fn an_unknown_context_lists_those_there_are() {
    let said = Api::start().run(&["status", "--context", "cellar"]);
    assert!(said.code == Some(1) && said.error.contains("there are: attic, pantry"), "{said:?}");
}

#[test]
fn check_names_the_cluster_and_fails_without_nodes() {
    let api = Api::start();
    let said = api.run(&["check"]);
    assert!(said.out.starts_with("ok    cluster       cluster stove (context pantry"), "{said:?}");
    assert!(said.code == Some(1) && said.out.contains("FAIL  nodes"), "{said:?}");
    let said = api.run(&["check", "-o", "json"]);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &report["passes"]), (Some(1), &json!(false)));
    let fails = |one: &&Value| one["level"] == "fail" && one["subject"] == "nodes";
    assert!(report["findings"].as_array().unwrap().iter().any(|one| fails(&one)), "{report}");
}

#[test]
fn check_fails_beside_another_operator_and_on_what_others_made() {
    let api = Api::start();
    let operator = json!({
        "metadata": {"labels": {"app.kubernetes.io/name": "quinistry", "app.kubernetes.io/component": "operator"}},
        "spec": {"template": {"spec": {"containers": [{"image": "a:1", "args": ["operator"]}]}}},
    });
    api.put("/apis/apps/v1/namespaces/kitchen/deployments/shelf-operator", operator);
    api.put(ROLE, json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}}));
    let said = api.run(&["check"]);
    assert!(said.out.contains("FAIL  operators     operator kitchen/shelf-operator looks after"), "{said:?}");
    assert!(said.out.contains("FAIL  objects"), "{said:?}");
}

#[test]
fn status_says_that_the_operator_is_gone() {
    let api = Api::start();
    let mut resource = resource_of_up();
    resource["status"] = json!({
        "observedGeneration": 1, "digest": "sha256:2", "ready": "3/3", "conditions": [{
            "type": "Ready", "status": "True", "reason": "AllProven", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    });
    api.put(RESOURCE, resource);
    let said = api.run(&["status"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.out.contains("quinistry-system/quinistry  Unknown") && said.out.contains("operator is gone"),
        "{said:?}"
    );
    let operator = json!({
        "metadata": {"labels": {"app.kubernetes.io/name": "quinistry", "app.kubernetes.io/component": "operator"}},
        "spec": {"template": {"spec": {"containers": [
            {"image": "a:1", "args": ["operator", "--leader-elect", "--lease-name=l"]},
        ]}}},
        "status": {"availableReplicas": 1},
    });
    api.put(DEPLOYMENT, operator);
    let lease =
        |time: &str| json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 12, "renewTime": time}});
    let path = "/apis/coordination.k8s.io/v1/namespaces/quinistry-system-operator/leases/l";
    api.put(path, lease("2026-01-01T00:00:00.000000Z"));
    let said = api.run(&["status"]);
    assert!(said.code == Some(1) && said.out.contains("does not renew its Lease"), "{said:?}");
    api.put(path, lease(&jiff::Timestamp::now().to_string()));
    let said = api.run(&["status"]);
    assert!(said.code == Some(0) && said.out.contains("quinistry-system/quinistry  Ready"), "{said:?}");
}
