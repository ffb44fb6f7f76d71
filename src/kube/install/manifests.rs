//! Manifests of an installation: namespaces, permissions and the operator, as JSON. Pure.
//!
//! The operator's Deployment is that of the Helm chart, to which `tests/kubernetes/up.rs` holds it, with leader
//! election. Its image comes from generation 0, and it can run on every node where that serves. The operator
//! has a namespace of its own at the level `restricted`; the generations need `privileged` for host ports.

mod rights;

use quinistry_oci::Digest;
use quinistry_quine::REPOSITORY;
use serde_json::{Value, json};

use crate::api::names::annotations::VERSION;
use crate::api::names::labels::{
    APP_COMPONENT, APP_INSTANCE, APP_MANAGED_BY, APP_NAME, CARRIER, NODE_ARCHITECTURE, NODE_HOSTNAME,
    NODE_OS, POD_SECURITY_ENFORCE,
};
use crate::api::names::{APP, OPERATOR, cluster_wide, managers, operator_namespace, taints};
use crate::seed::carrier;

pub use rights::{Rule, cluster_rules, lease_rules, namespaced_rules};

/// Seconds for which the operator's pod stays on a node whose kubelet is silent. Shorter than Kubernetes'
/// default of five minutes: no generation advances without the operator.
const SILENT_NODE_SECONDS: i64 = 10;

/// Parameters of the operator's Deployment.
#[derive(Clone, Debug)]
pub struct OperatorParameters<'a> {
    /// Namespace of the resource.
    pub namespace: &'a str,
    /// Architecture of the nodes, as in the label `kubernetes.io/arch`.
    pub architecture: &'a str,
    /// Host port of generation 0.
    pub port: i32,
    /// Manifest digest that generation 0 serves.
    pub digest: &'a Digest,
    /// Version of the executable, if known.
    pub version: Option<&'a str>,
}

/// Returns the labels by which `up` and `down` find their objects.
fn labels(namespace: &str) -> Value {
    json!({
        APP_NAME: APP,
        APP_COMPONENT: "operator",
        APP_INSTANCE: namespace,
        APP_MANAGED_BY: managers::UP,
    })
}

/// Returns the selector of the operator's pods. Selectors of Deployments are immutable, so this must never
/// change.
fn selector(namespace: &str) -> Value {
    json!({
        APP_NAME: APP,
        APP_COMPONENT: "operator",
        APP_INSTANCE: namespace,
    })
}

/// Returns a namespace with its level of Pod Security. A new one gets the label that lets `down` delete it.
#[must_use]
pub fn namespace(name: &str, level: &str, new: bool) -> Value {
    let mut labels = json!({POD_SECURITY_ENFORCE: level});
    if new {
        labels[APP_MANAGED_BY] = managers::UP.into();
    }
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// Returns both namespaces with their levels of Pod Security.
#[must_use]
pub fn namespaces(namespace: &str) -> [(String, &'static str); 2] {
    [(namespace.into(), "privileged"), (operator_namespace(namespace), "restricted")]
}

/// Returns the operator's account, roles and bindings.
#[must_use]
pub fn rights(namespace: &str) -> Vec<Value> {
    let home = operator_namespace(namespace);
    let cluster_wide_name = cluster_wide(namespace);
    let lease = format!("{OPERATOR}-lease");
    let object = |version: &str, kind: &str, name: &str, at: Option<&str>| {
        let mut metadata = json!({"name": name, "labels": labels(namespace)});
        if let Some(namespace) = at {
            metadata["namespace"] = namespace.into();
        }
        json!({"apiVersion": version, "kind": kind, "metadata": metadata})
    };
    let rbac = "rbac.authorization.k8s.io/v1";
    let role = |kind: &str, name: &str, at: Option<&str>, rules: &[Rule]| {
        let mut role = object(rbac, kind, name, at);
        role["rules"] = rules.iter().map(Rule::to_json).collect();
        role
    };
    let binding = |kind: &str, name: &str, at: Option<&str>| {
        let mut binding = object(rbac, &format!("{kind}Binding"), name, at);
        binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        binding["subjects"] = json!([{"kind": "ServiceAccount", "name": OPERATOR, "namespace": home}]);
        binding
    };
    let mut account = object("v1", "ServiceAccount", OPERATOR, Some(&home));
    // The operator's pod requests its token explicitly; other pods under this account get none.
    account["automountServiceAccountToken"] = false.into();
    vec![
        account,
        role("Role", OPERATOR, Some(namespace), &namespaced_rules()),
        binding("Role", OPERATOR, Some(namespace)),
        role("ClusterRole", &cluster_wide_name, None, &cluster_rules()),
        binding("ClusterRole", &cluster_wide_name, None),
        role("Role", &lease, Some(&home), &lease_rules()),
        binding("Role", &lease, Some(&home)),
    ]
}

/// Returns the operator's Deployment. Its image comes from generation 0, as generation 1's does.
#[must_use]
pub fn operator(parameters: &OperatorParameters<'_>) -> Value {
    let namespace = parameters.namespace;
    let probe = |path: &str, period: i32, failures: i32| {
        json!({
            "httpGet": {"path": path, "port": "metrics"},
            "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures,
        })
    };
    let container = json!({
        "name": "operator",
        "image": format!("localhost:{}/{REPOSITORY}@{}", parameters.port, parameters.digest),
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "operator",
            format!("--namespace={namespace}"),
            "--leader-elect",
            format!("--lease-name={OPERATOR}"),
            "--hand-over",
        ],
        "env": [
            // The operator's name in Events and in the Lease.
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "RUST_LOG", "value": "info"},
        ],
        "ports": [{"name": "metrics", "containerPort": 8081}],
        // Liveness does not depend on the API server: a restart would not repair it.
        "livenessProbe": probe("/healthz", 10, 6),
        "readinessProbe": probe("/readyz", 1, 3),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    });
    let pod = json!({
        "serviceAccountName": OPERATOR,
        "automountServiceAccountToken": true,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 10,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": {NODE_OS: "linux", NODE_ARCHITECTURE: parameters.architecture},
        "tolerations": tolerations(),
        "affinity": affinity(namespace),
        "containers": [container],
    });
    let mut metadata =
        json!({"name": OPERATOR, "namespace": operator_namespace(namespace), "labels": labels(namespace)});
    if let Some(version) = parameters.version {
        // Not in the template, where a new version would restart the operator.
        metadata["annotations"] = json!({VERSION: version});
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 2,
            // The next pod can start before the last one ends: it leads once the Lease is released.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector(namespace)},
            "template": {"metadata": {"labels": selector(namespace)}, "spec": pod},
        },
    })
}

/// Returns tolerations for nodes of any purpose, with a short limit on silent nodes. `NoExecute` taints are
/// named one by one: a toleration of all would hold on silent nodes without a limit.
fn tolerations() -> Value {
    let mut all = vec![json!({"operator": "Exists", "effect": "NoSchedule"})];
    for key in [taints::NOT_READY, taints::UNREACHABLE] {
        all.push(json!({
            "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SILENT_NODE_SECONDS,
        }));
    }
    // Taints of control planes of kubeadm, k3s and RKE2.
    for key in ["CriticalAddonsOnly", "node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/etcd"]
    {
        all.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute"}));
    }
    all.into()
}

/// Returns an affinity for nodes with a generation 0, preferably not the last operator's node: its taints are
/// tolerated, so the scheduler could choose a silent node again.
fn affinity(namespace: &str) -> Value {
    json!({
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": CARRIER, "operator": "NotIn", "values": [carrier::NONE]}]},
        ]}},
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "podAffinityTerm": {
                "topologyKey": NODE_HOSTNAME,
                "labelSelector": {"matchLabels": selector(namespace)},
            },
        }]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        let digest = Digest::sha256(b"");
        operator(&OperatorParameters {
            namespace: "pantry",
            architecture: "arm64",
            port: 6999,
            digest: &digest,
            version: Some("1.2.3"),
        })
    }

    #[test]
    fn the_operator_satisfies_pod_security_restricted() {
        let pod = &deployment()["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert!(pod["hostNetwork"].is_null() && pod["volumes"].is_null());
        for container in pod["containers"].as_array().unwrap() {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
            assert!(container["ports"].as_array().unwrap().iter().all(|port| port["hostPort"].is_null()));
        }
    }

    #[test]
    fn the_operator_comes_from_generation_0() {
        let container = deployment()["spec"]["template"]["spec"]["containers"][0].clone();
        let digest = Digest::sha256(b"");
        assert_eq!(container["image"], format!("localhost:6999/quinistry@{digest}"));
        let selector = &deployment()["spec"]["template"]["spec"]["nodeSelector"];
        assert_eq!(selector["kubernetes.io/arch"], "arm64");
    }

    #[test]
    fn a_silent_node_is_left_within_seconds() {
        for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let fits = |toleration: &&Value| {
                (toleration["key"].is_null() || toleration["key"] == taint)
                    && (toleration["effect"].is_null() || toleration["effect"] == "NoExecute")
            };
            let tolerations = tolerations();
            let matching: Vec<_> = tolerations.as_array().unwrap().iter().filter(fits).collect();
            assert_eq!(matching.len(), 1, "one more could hold for ever: {matching:?}");
            assert_eq!(matching[0]["tolerationSeconds"], SILENT_NODE_SECONDS);
        }
    }

    #[test]
    fn everything_is_found_again_by_its_labels() {
        let mut all = rights("pantry");
        all.push(deployment());
        for object in &all {
            let labels = &object["metadata"]["labels"];
            assert_eq!(labels[APP_MANAGED_BY], managers::UP, "{object}");
            assert_eq!(labels["app.kubernetes.io/instance"], "pantry");
            assert!(super::super::api::ResourceKind::of(object).is_some());
        }
        let cluster_wide: Vec<_> = all.iter().filter(|one| one["metadata"]["namespace"].is_null()).collect();
        assert!(
            cluster_wide.len() == 2
                && cluster_wide.iter().all(|one| one["metadata"]["name"] == "quinistry:pantry")
        );
    }

    #[test]
    fn a_namespace_that_was_there_is_not_taken_for_ours() {
        assert_eq!(
            namespace("pantry", "privileged", true)["metadata"]["labels"][APP_MANAGED_BY],
            managers::UP
        );
        assert!(namespace("pantry", "privileged", false)["metadata"]["labels"][APP_MANAGED_BY].is_null());
    }
}
