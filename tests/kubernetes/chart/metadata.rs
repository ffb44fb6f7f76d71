//! Names, labels and notes.

use serde_json::{Map, Value};

use crate::chart::helm::{CHARTS, DEFINITION_FILES, EVERYTHING, Helm, only, parse_file};

/// Kinds that belong to no namespace.
const CLUSTER_WIDE: &[&str] = &[
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

fn labels(object: &Value) -> &Map<String, Value> {
    object["metadata"]["labels"].as_object().unwrap()
}

#[test]
fn the_version_is_the_crates() {
    for (chart, _) in CHARTS {
        let chart = parse_file(format!("{chart}/Chart.yaml"));
        assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    }
}

/// One constant, and all that name the oldest Kubernetes to a user or test it.
#[test]
fn the_oldest_kubernetes_is_the_same_everywhere() {
    let (major, minor) = quinistry::crd::OLDEST_KUBERNETES;
    for (chart, _) in CHARTS {
        let chart = parse_file(format!("{chart}/Chart.yaml"));
        assert_eq!(chart["kubeVersion"], format!(">={major}.{minor}.0-0"));
    }
    let workflow = parse_file(".github/workflows/e2e.yaml");
    let matrix = workflow["jobs"]["kind"]["strategy"]["matrix"]["include"].as_array().unwrap();
    let version = |entry: &Value| -> Option<(u32, u32)> {
        let (major, minor) = entry["kubernetes"].as_str()?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    assert_eq!(matrix.iter().filter_map(version).min(), Some((major, minor)), "the oldest that is tested");
    let documents = ["README.md", "docs/kubernetes.md", "docs/security.md"]
        .map(|path| std::fs::read_to_string(crate::chart::helm::root().join(path)).unwrap());
    let phrase = format!("Kubernetes {major}.{minor} or newer");
    assert!(documents.iter().any(|text| text.contains(&phrase)), "no document says \"{phrase}\"");
    for text in documents {
        for (at, _) in text.match_indices(" or newer, Linux nodes") {
            assert!(text[..at + " or newer".len()].ends_with(&phrase), "another version is named");
        }
    }
}

#[test]
fn annotations_for_artifact_hub_tell_the_truth() {
    for (chart, _) in CHARTS {
        let annotations = parse_file(format!("{chart}/Chart.yaml"))["annotations"].take();
        assert_eq!(annotations["artifacthub.io/license"], env!("CARGO_PKG_LICENSE"));
        let links = &crate::chart::helm::parse(annotations["artifacthub.io/links"].as_str().unwrap())[0];
        assert_eq!(links[0]["url"], env!("CARGO_PKG_REPOSITORY"));
    }
    let chart = parse_file("charts/quinistry/Chart.yaml");
    let annotation = |name: &str| chart["annotations"][format!("artifacthub.io/{name}")].as_str().unwrap();
    assert_eq!(annotation("operator"), "true");
    let named = &crate::chart::helm::parse(annotation("crds"))[0];
    assert_eq!(named.as_array().unwrap().len(), DEFINITION_FILES.len());
    for (named, (_, file)) in named.as_array().unwrap().iter().zip(DEFINITION_FILES) {
        let crd = parse_file(file);
        assert_eq!(named["name"], crd["metadata"]["name"]);
        assert_eq!(named["kind"], crd["spec"]["names"]["kind"]);
        assert_eq!(named["version"], crd["spec"]["versions"][0]["name"]);
    }
}

#[test]
fn images_for_artifact_hub_are_those_of_the_values() {
    for (chart, _) in CHARTS {
        check_images(chart);
    }
}

fn check_images(path: &str) {
    let chart = parse_file(format!("{path}/Chart.yaml"));
    let images =
        &crate::chart::helm::parse(chart["annotations"]["artifacthub.io/images"].as_str().unwrap())[0];
    let values = parse_file(format!("{path}/values.yaml"));
    let repository = values["image"]["repository"].as_str().unwrap();
    let image = format!("{repository}:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(images[0]["image"], image);
    // The tag that .ci/release/image gives the image of the other architecture.
    assert_eq!(images[1]["image"], format!("{image}-arm64"));
    assert_eq!(images.as_array().unwrap().len(), 2);
}

#[test]
fn the_example_for_artifact_hub_is_a_valid_resource() {
    let chart = parse_file("charts/quinistry/Chart.yaml");
    let examples = chart["annotations"]["artifacthub.io/crdsExamples"].as_str().unwrap();
    let examples: Vec<quinistry::crd::Quinistry> = serde_saphyr::from_str(examples).unwrap();
    let image = concat!("ghcr.io/quinistry/quinistry:", env!("CARGO_PKG_VERSION"));
    assert_eq!(examples[0].spec.image.as_deref(), Some(image));
}

#[test]
fn changes_for_artifact_hub_have_known_kinds() {
    for (chart, _) in CHARTS {
        check_changes(chart);
    }
}

fn check_changes(path: &str) {
    let chart = parse_file(format!("{path}/Chart.yaml"));
    let changes =
        &crate::chart::helm::parse(chart["annotations"]["artifacthub.io/changes"].as_str().unwrap())[0];
    for change in changes.as_array().unwrap() {
        let kind = change["kind"].as_str().unwrap();
        // The list of Artifact Hub's documentation.
        let kinds = ["added", "changed", "deprecated", "removed", "fixed", "security"];
        assert!(kinds.contains(&kind), "{kind}");
        assert!(change["description"].as_str().unwrap().ends_with('.'), "{change}");
    }
}

#[test]
fn the_icon_is_a_file_of_this_repository() {
    for (chart, _) in CHARTS {
        let chart = parse_file(format!("{chart}/Chart.yaml"));
        let url = chart["icon"].as_str().unwrap();
        let path = url.strip_prefix("https://raw.githubusercontent.com/quinistry/quinistry/main/").unwrap();
        let icon = std::fs::read_to_string(crate::chart::helm::root().join(path)).unwrap();
        assert!(icon.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""), "{path}");
    }
}

#[test]
fn objects_are_labelled_and_in_the_releases_namespace() {
    let Some(helm) = Helm::find() else { return };
    for object in helm.objects(&["--values", EVERYTHING[1], "--set", "watchNamespace="]) {
        let kind = object["kind"].as_str().unwrap();
        let namespace = &object["metadata"]["namespace"];
        assert_eq!(
            *namespace,
            if CLUSTER_WIDE.contains(&kind) { Value::Null } else { "library".into() },
            "{kind}"
        );
        assert_eq!(labels(&object)["app.kubernetes.io/name"], "books", "{kind}");
        assert_eq!(labels(&object)["app.kubernetes.io/instance"], "shelf", "{kind}");
        if kind != "Pod" {
            assert_eq!(labels(&object)["app.kubernetes.io/version"], env!("CARGO_PKG_VERSION"), "{kind}");
            assert_eq!(labels(&object)["app.kubernetes.io/managed-by"], "Helm", "{kind}");
            let chart = concat!("quinistry-", env!("CARGO_PKG_VERSION"));
            assert_eq!(labels(&object)["helm.sh/chart"], chart, "{kind}");
        }
    }
}

#[test]
fn what_finds_the_operator_does_not_change_with_versions() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.objects(EVERYTHING);
    let deployment = &only(&objects, "Deployment")["spec"];
    let selector = &deployment["selector"]["matchLabels"];
    let names: Vec<_> = selector.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/name"],
        "the selector of a Deployment is immutable"
    );
    assert_eq!(only(&objects, "Service")["spec"]["selector"], *selector);
    assert_eq!(only(&objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"], *selector);
    assert_eq!(only(&objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"], *selector);
    // The pod has these, whatever a user adds, and nothing that a new version would change.
    let mut pod = labels(&deployment["template"]).clone();
    assert_eq!(pod.remove("example.com/team").unwrap(), "books");
    assert_eq!(Value::Object(pod), *selector);
    // No Service leads to the test's pod.
    assert_eq!(labels(only(&objects, "Pod"))["app.kubernetes.io/component"], "test");
}

#[test]
fn names_are_short_enough_and_say_whose_they_are() {
    let Some(helm) = Helm::find() else { return };
    let name = |release: &str, set: &str| {
        let rendered = helm.text(&["template", release, "charts/quinistry", "--set", set]);
        let objects = crate::chart::helm::parse(&rendered);
        let [deployment, pod] =
            ["Deployment", "Pod"].map(|kind| only(&objects, kind)["metadata"]["name"].clone());
        let (deployment, pod) = (deployment.as_str().unwrap().to_owned(), pod.as_str().unwrap());
        assert!(deployment.len() <= 63 && pod.len() <= 63, "{deployment} {pod}");
        deployment
    };
    assert_eq!(name("quinistry", "replicas=1"), "quinistry-operator");
    assert_eq!(name("my-quinistry", "replicas=1"), "my-quinistry-operator");
    assert_eq!(name("shelf", "replicas=1"), "shelf-quinistry-operator");
    assert_eq!(name("shelf", "nameOverride=books"), "shelf-books-operator");
    assert_eq!(name("shelf", "fullnameOverride=librarian"), "librarian");
    // The longest that helm allows.
    assert!(name(&"x".repeat(53), "replicas=1").ends_with("-operator"));
}

#[test]
fn notes_are_short_and_can_be_followed() {
    let Some(helm) = Helm::find() else { return };
    let notes = |args: &[&str]| {
        let install = [
            "install",
            "shelf",
            "charts/quinistry",
            "--namespace",
            "library",
            "--dry-run=client",
            "--hide-secret",
        ];
        let text = helm.text(&[&install, args].concat());
        text.split_once("\nNOTES:\n").unwrap().1.trim_end().to_owned()
    };
    let all = notes(&[]);
    assert!(all.lines().count() <= 12, "{all}");
    assert!(
        all.contains("deployment/shelf-quinistry-operator in namespace library, for all namespaces"),
        "{all}"
    );
    assert!(all.contains("kubectl get quinistries"), "{all}");

    // The resource in it is one that the operator takes.
    let (_, rest) = all.split_once("<<EOF\n").unwrap();
    let (resource, _) = rest.split_once("\nEOF\n").unwrap();
    assert!(resource.starts_with("apiVersion:"), "kubectl takes what begins with a brace for JSON");
    let resource: quinistry::crd::Quinistry = serde_saphyr::from_str(resource).unwrap();
    let image = format!("ghcr.io/quinistry/quinistry:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(resource.spec.image.as_deref(), Some(image.as_str()));
    assert_eq!(resource.spec.generations, 3);

    let one = notes(&["--set", "watchNamespace=reading-room"]);
    assert!(one.lines().count() <= 12, "{one}");
    assert!(one.contains("for namespace reading-room"), "{one}");
    assert!(one.contains("kubectl apply --namespace reading-room "), "{one}");
}
