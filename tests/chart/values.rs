//! Values: documented, described by the schema, and refused when they make no sense.

use serde_json::Value;

use crate::helm::{EVERYTHING, Helm, chart, parse_file, template};

#[test]
fn lint_has_nothing_to_say() {
    let Some(helm) = Helm::find() else { return };
    let lint = |more: &[&str]| helm.text(&[&["lint", "--strict", "charts/quinistry"], more].concat());
    lint(&[]);
    lint(EVERYTHING);
}

/// What is typed, and a part of what helm says.
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
    ("replicas=2", "maximum"),
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
    let said = helm.refusal(&template(&["--skip-schema-validation", "--set", "replicas=2"]));
    assert!(said.contains("no leader election yet, so at most one operator may run"), "{said}");
}

#[test]
fn what_makes_sense_is_taken() {
    let Some(helm) = Helm::find() else { return };
    for set in [
        "replicas=0",
        "resources.limits.cpu=1",
        "resources.limits.cpu=0.5",
        "resources.requests.ephemeral-storage=1Mi",
        // How OpenShift is told to choose users itself, and how defaults are taken out.
        "podSecurityContext.runAsUser=null,podSecurityContext.runAsGroup=null",
        "nodeSelector=null",
        "global.team=books",
    ] {
        helm.template(&["--set", set]);
    }
}

#[test]
fn the_schema_leaves_no_object_open() {
    let schema: Value =
        serde_json::from_slice(&std::fs::read(chart().join("values.schema.json")).unwrap()).unwrap();
    let mut closed = 0;
    walk(&schema, "", &mut |path, node| {
        if node["type"] == "object" && path != "/properties/global" {
            let more = &node["additionalProperties"];
            // Maps of labels and the like: open in their keys, not in their values.
            assert!(more == false || more.is_object(), "{path} takes anything");
            closed += 1;
        }
    });
    assert!(closed > 20, "{closed}");
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
    let schema: Value =
        serde_json::from_slice(&std::fs::read(chart().join("values.schema.json")).unwrap()).unwrap();
    let values = parse_file("charts/quinistry/values.yaml");
    let everything = parse_file("tests/golden/chart/everything.values.yaml");
    let names = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let mut known: Vec<_> = properties(&schema, &schema).unwrap().keys().cloned().collect();
    known.retain(|name| name != "global");
    known.sort();
    let sorted = |value: &Value| {
        let mut names = names(value);
        names.sort();
        names
    };
    assert_eq!(sorted(&values), known);
    assert_eq!(sorted(&everything), known, "everything.values.yaml sets every value");
    for (name, value) in values.as_object().unwrap() {
        let Some(inner) = properties(&schema, &schema["properties"][name]) else { continue };
        // What Kubernetes defines is there in full in the schema, and in values.yaml as far as there are defaults.
        if ["podSecurityContext", "securityContext", "affinity"].contains(&name.as_str()) {
            assert!(names(value).iter().all(|name| inner.contains_key(name)), "{name}");
            continue;
        }
        let mut inner: Vec<_> = inner.keys().cloned().collect();
        inner.sort();
        assert_eq!(sorted(value), inner, "{name}");
        assert_eq!(sorted(&everything[name]), inner, "{name} in everything.values.yaml");
    }
}

#[test]
fn every_value_is_documented() {
    let text = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
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
