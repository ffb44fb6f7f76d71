//! The level `restricted` of the Pod Security Standards, field by field, and the chart's pods held against
//! it.

use serde_json::{Value, json};

use crate::chart::helm::{EVERYTHING, Helm, of_kind};

/// Returns the settings of a pod that the Pod Security Standard `restricted` forbids.
pub fn violations(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut forbid = |what: &str, wrong: bool| {
        if wrong {
            found.push(what.to_owned());
        }
    };
    // Baseline: the node's own.
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        forbid(field, pod[field] == true);
    }
    let all = &pod["securityContext"];
    forbid("sysctls", !empty(&all["sysctls"]));
    let volumes = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in list(&pod["volumes"]) {
        let allowed = |(key, _): (&String, &Value)| key == "name" || volumes.contains(&key.as_str());
        forbid("volumes", !volume.as_object().unwrap().iter().all(allowed));
    }
    let mut containers = Vec::new();
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        containers.extend(list(&pod[kind]));
    }
    forbid("no containers", containers.is_empty());
    for container in containers {
        let own = &container["securityContext"];
        // The container's word goes before the pod's.
        let either = |field: &str| if own[field].is_null() { all[field].clone() } else { own[field].clone() };
        forbid("privileged", own["privileged"] == true);
        forbid("procMount", !own["procMount"].is_null() && own["procMount"] != "Default");
        forbid("hostPort", list(&container["ports"]).iter().any(|port| !empty(&port["hostPort"])));
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            for action in ["httpGet", "tcpSocket"] {
                forbid("probe's host", !empty(&container[probe][action]["host"]));
            }
        }
        for handler in ["postStart", "preStop"] {
            for action in ["httpGet", "tcpSocket"] {
                forbid("handler's host", !empty(&container["lifecycle"][handler][action]["host"]));
            }
        }
        for options in ["seLinuxOptions", "windowsOptions"] {
            forbid(options, !either(options).is_null());
        }
        let armor = &either("appArmorProfile")["type"];
        forbid("appArmorProfile", !armor.is_null() && armor != "RuntimeDefault" && armor != "Localhost");
        // Restricted.
        forbid("allowPrivilegeEscalation", own["allowPrivilegeEscalation"] != false);
        forbid("runAsNonRoot", either("runAsNonRoot") != true);
        forbid("runAsUser", either("runAsUser") == 0);
        let seccomp = &either("seccompProfile")["type"];
        forbid("seccompProfile", seccomp != "RuntimeDefault" && seccomp != "Localhost");
        let capabilities = &own["capabilities"];
        forbid("capabilities.drop", !list(&capabilities["drop"]).contains(&json!("ALL")));
        forbid("capabilities.add", list(&capabilities["add"]).iter().any(|name| name != "NET_BIND_SERVICE"));
    }
    found
}

fn empty(value: &Value) -> bool {
    matches!(value, Value::Null) || value == 0 || value == "" || value.as_array().is_some_and(Vec::is_empty)
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// The operator's and the test's.
fn pods(helm: &Helm, args: &[&str]) -> Vec<Value> {
    let objects = helm.objects(args);
    let mut pods: Vec<_> = of_kind(&objects, "Pod").into_iter().map(|pod| pod["spec"].clone()).collect();
    let deployments = of_kind(&objects, "Deployment");
    pods.extend(deployments.into_iter().map(|deployment| deployment["spec"]["template"]["spec"].clone()));
    assert_eq!(pods.len(), 2);
    pods
}

#[test]
fn pods_are_restricted() {
    let Some(helm) = Helm::find() else { return };
    let namespace = ["--set", "watchNamespace=reading-room"];
    for args in [&[] as &[&str], EVERYTHING, &namespace] {
        for pod in pods(&helm, args) {
            assert_eq!(violations(&pod), [""; 0], "{pod}");
            let container = &pod["containers"][0];
            // Beyond what the standard asks for.
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
            assert!(!container["resources"]["limits"]["memory"].is_null());
            assert!(pod["securityContext"]["runAsUser"].as_i64().unwrap() > 0);
            assert_eq!(pod["enableServiceLinks"], false);
            assert!(pod["volumes"].is_null());
        }
    }
}

#[test]
fn only_the_operator_gets_a_token() {
    let Some(helm) = Helm::find() else { return };
    let tokens: Vec<_> =
        pods(&helm, &[]).iter().map(|pod| pod["automountServiceAccountToken"].as_bool().unwrap()).collect();
    assert_eq!(tokens, [false, true], "the test's pod, the operator's");
}

#[test]
fn the_check_sees_each_violation() {
    let Some(helm) = Helm::find() else { return };
    let good = pods(&helm, &[]).pop().unwrap();
    for (pointer, field, value, expected) in [
        ("", "hostNetwork", json!(true), "hostNetwork"),
        ("", "hostPID", json!(true), "hostPID"),
        ("", "volumes", json!([{"name": "v", "hostPath": {"path": "/"}}]), "volumes"),
        ("/securityContext", "sysctls", json!([{"name": "a", "value": "b"}]), "sysctls"),
        ("/securityContext", "runAsNonRoot", json!(false), "runAsNonRoot"),
        ("/securityContext", "runAsUser", json!(0), "runAsUser"),
        ("/securityContext", "seccompProfile", json!({"type": "Unconfined"}), "seccompProfile"),
        ("/securityContext", "seLinuxOptions", json!({"user": "x"}), "seLinuxOptions"),
        ("/securityContext", "appArmorProfile", json!({"type": "Unconfined"}), "appArmorProfile"),
        ("/containers/0/securityContext", "privileged", json!(true), "privileged"),
        ("/containers/0/securityContext", "procMount", json!("Unmasked"), "procMount"),
        ("/containers/0/securityContext", "runAsNonRoot", json!(false), "runAsNonRoot"),
        (
            "/containers/0/securityContext",
            "allowPrivilegeEscalation",
            json!(null),
            "allowPrivilegeEscalation",
        ),
        ("/containers/0/securityContext", "capabilities", json!({"drop": ["KILL"]}), "capabilities.drop"),
        (
            "/containers/0/securityContext",
            "capabilities",
            json!({"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
            "capabilities.add",
        ),
        ("/containers/0", "ports", json!([{"containerPort": 1, "hostPort": 1}]), "hostPort"),
        ("/containers/0", "livenessProbe", json!({"httpGet": {"host": "127.0.0.1"}}), "probe's host"),
        (
            "/containers/0",
            "lifecycle",
            json!({"preStop": {"httpGet": {"host": "127.0.0.1"}}}),
            "handler's host",
        ),
    ] {
        let mut bad = good.clone();
        bad.pointer_mut(pointer).unwrap()[field] = value;
        assert_eq!(violations(&bad), [expected]);
    }
}
