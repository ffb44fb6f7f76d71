//! Values: documented, described by the schema, and refused when they make no sense.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::chart::helm::{CHARTS, Helm, parse_file, root, template};

#[test]
fn lint_has_nothing_to_say() {
    let Some(helm) = Helm::find() else { return };
    for (chart, everything) in CHARTS {
        helm.text(&["lint", "--strict", chart]);
        helm.text(&["lint", "--strict", chart, "--values", everything]);
    }
}

/// Values that helm refuses, each with a part of its message.
const REFUSED: &[(&str, &str)] = &[
    // Typing errors, at every depth.
    ("replica=1", "additional properties 'replica' not allowed"),
    ("image.repo=x", "additional properties 'repo' not allowed"),
    ("crds.install=true", "additional properties 'install' not allowed"),
    ("resources.limits.memory.x=1", "/resources/limits/memory"),
    ("resources.limit.memory=1Gi", "additional properties 'limit' not allowed"),
    ("podSecurityContext.runAsNonroot=true", "additional properties 'runAsNonroot' not allowed"),
    ("securityContext.privileged=true", "additional properties 'privileged' not allowed"),
    ("networkPolicy.apiServer.port=443", "additional properties 'port' not allowed"),
    ("affinity.nodeAfinity.x=1", "additional properties 'nodeAfinity' not allowed"),
    ("tolerations[0].operater=Exists", "additional properties 'operater' not allowed"),
    ("imagePullSecrets[0].nme=x", "additional properties 'nme' not allowed"),
    // Wrong types.
    ("replicas=one", "/replicas"),
    ("crds.enabled=maybe", "/crds/enabled"),
    ("image=quinistry:latest", "/image"),
    ("nodeSelector=linux", "/nodeSelector"),
    ("tolerations=all", "/tolerations"),
    ("podLabels.a=1", "/podLabels/a"),
    ("imagePullSecrets[0]=x", "/imagePullSecrets/0"),
    ("networkPolicy.apiServer.ports=443", "/networkPolicy/apiServer/ports"),
    // What would be refused later, or worse, not at all.
    ("leaderElection.enabled=false,replicas=2", "/leaderElection/enabled"),
    ("leaderElection.enabled=null,replicas=2", "/leaderElection"),
    ("leaderElection.enabled=perhaps", "/leaderElection/enabled"),
    ("leaderElection.lease=x", "additional properties 'lease' not allowed"),
    ("replicas=-1", "minimum"),
    ("image.repository=", "/image/repository"),
    ("image.repository=a b", "/image/repository"),
    ("image.repository=a@sha256", "/image/repository"),
    ("image.tag=a b", "/image/tag"),
    ("image.tag=a/b", "/image/tag"),
    ("image.digest=sha256:abc", "/image/digest"),
    ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
    ("watchNamespace=Reading_Room", "/watchNamespace"),
    ("fullnameOverride=-x", "/fullnameOverride"),
    ("resources.limits.memory=lots", "/resources/limits/memory"),
    ("serviceMonitor.interval=often", "/serviceMonitor/interval"),
    ("networkPolicy.apiServer.ports[0]=70000", "/networkPolicy/apiServer/ports/0"),
    ("networkPolicy.apiServer.cidrs[0]=10.0.0.1", "/networkPolicy/apiServer/cidrs/0"),
    ("test.url=operator:8081", "/test/url"),
    ("architecture=x86_64", "/architecture"),
    ("extraEnv[0].value=x", "/extraEnv/0"),
    ("extraArgs=--x", "/extraArgs"),
    ("topologySpreadConstraints[0].maxSkew=1", "/topologySpreadConstraints/0"),
    ("terminationGracePeriodSeconds=-1", "/terminationGracePeriodSeconds"),
    ("enabled=perhaps", "/enabled"),
    ("logLevel=", "/logLevel"),
];

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    let Some(helm) = Helm::find() else { return };
    for (set, message) in REFUSED {
        let said = helm.refusal(&template(&["--set", set]));
        assert!(said.contains("values don't meet the specifications of the schema"), "{set}: {said}");
        assert!(said.contains(message), "{set}: {said}");
    }
}

#[test]
fn a_second_operator_is_refused_even_without_the_schema() {
    let Some(helm) = Helm::find() else { return };
    let said = helm.refusal(&template(&[
        "--skip-schema-validation",
        "--set",
        "replicas=2,leaderElection.enabled=false",
    ]));
    assert!(
        said.contains("of several operators one must lead; do not set leaderElection.enabled to false"),
        "{said}"
    );
}

#[test]
fn what_makes_sense_is_taken() {
    let Some(helm) = Helm::find() else { return };
    for set in [
        "replicas=0",
        "replicas=3",
        "resources.limits.cpu=1",
        "resources.limits.cpu=0.5",
        "resources.requests.ephemeral-storage=1Mi",
        // How OpenShift is told to choose users itself, and how defaults are taken out.
        "podSecurityContext.runAsUser=null,podSecurityContext.runAsGroup=null",
        "nodeSelector=null",
        "global.team=books",
        // A chart that has this one as a dependency may hang it on a condition.
        "enabled=true",
    ] {
        helm.template(&["--set", set]);
    }
}

#[test]
fn the_schema_leaves_no_object_open() {
    for (chart, _) in CHARTS {
        let mut closed = 0;
        walk(&schema(chart), "", &mut |path, node| {
            // The program itself checks its configuration.
            let is_elsewhere = path == "/properties/global" || path.starts_with("/properties/config");
            if node["type"] == "object" && !is_elsewhere {
                let more = &node["additionalProperties"];
                // Maps of labels and the like: open in their keys, not in their values.
                assert!(more == false || more.is_object(), "{chart}: {path} takes anything");
                closed += 1;
            }
        });
        assert!(closed > 20, "{closed}");
    }
}

/// The schema of a chart's values.
fn schema(chart: &str) -> Value {
    let text = std::fs::read(root().join(chart).join("values.schema.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn charts_define_kubernetes_types_alike() {
    let [mut operator, mut registry] = CHARTS.map(|(chart, _)| schema(chart)["definitions"].clone());
    // The registry's alone names keys in Secrets.
    assert!(registry.as_object_mut().unwrap().remove("secretKey").is_some());
    assert_eq!(operator.take(), registry.take(), "change the definitions of both schemas");
}

fn walk(node: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, node);
    match node {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| walk(value, &format!("{path}/{key}"), visit));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| walk(value, &format!("{path}/{at}"), visit));
        }
        _ => {}
    }
}

/// The schema's properties of an object, references followed.
fn properties<'a>(schema: &'a Value, mut node: &'a Value) -> Option<&'a serde_json::Map<String, Value>> {
    if let Some(reference) = node["$ref"].as_str() {
        node = schema.pointer(reference.trim_start_matches('#')).unwrap();
    }
    node["properties"].as_object()
}

#[test]
fn values_and_schema_know_the_same_names() {
    for (chart, everything) in CHARTS {
        let mut schema = schema(chart);
        // Helm's own, and a parent chart's.
        for name in ["global", "enabled"] {
            assert!(schema["properties"].as_object_mut().unwrap().remove(name).is_some());
        }
        // The second sets every value there is, so that renders of it show all.
        let defaults = format!("{chart}/values.yaml");
        for file in [defaults.as_str(), everything] {
            let mut compared = 0;
            same_names(&schema, &schema, &parse_file(file), file, &mut compared);
            assert!(compared > 10, "{file}: {compared}");
        }
    }
}

/// At every depth where the schema has names of its own.
fn same_names(schema: &Value, node: &Value, value: &Value, path: &str, compared: &mut usize) {
    let Some(known) = properties(schema, node) else { return };
    let Some(given) = value.as_object() else { return };
    let names = |map: &serde_json::Map<String, Value>| -> BTreeSet<String> { map.keys().cloned().collect() };
    let (known_names, given_names) = (names(known), names(given));
    // The program itself checks its configuration.
    if path.ends_with(".config") {
        return;
    }
    // Types of Kubernetes and settings of buckets are in full in the schema, and in the files as far as they set
    // them.
    let elsewhere = ["podSecurityContext", "securityContext", "affinity", "dnsConfig", "s3", "gcs", "azure"];
    if elsewhere.iter().any(|kind| path.split('.').any(|name| name == *kind)) {
        assert!(given_names.is_subset(&known_names), "{path}: {given_names:?}");
    } else {
        assert_eq!(given_names, known_names, "{path}");
    }
    *compared += 1;
    for (name, value) in given {
        same_names(schema, &known[name], value, &format!("{path}.{name}"), compared);
    }
}

#[test]
fn every_value_is_documented() {
    for (chart, _) in CHARTS {
        check_documented(&std::fs::read_to_string(root().join(chart).join("values.yaml")).unwrap());
    }
}

fn check_documented(text: &str) {
    let lines: Vec<_> = text.lines().collect();
    let mut documented = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.trim_start().starts_with(['#', '-']) || value.trim().is_empty() {
            continue;
        }
        let above = lines[..at].iter().rev().take_while(|line| line.trim_start().starts_with('#'));
        assert!(above.clone().any(|line| line.trim_start().starts_with("# -- ")), "{name} is not documented");
        documented += 1;
    }
    assert!(documented > 40, "{documented}");
    assert!(!text.contains('\t'));
}
