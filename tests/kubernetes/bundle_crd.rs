//! The definition of `Bundle`: which specifications the API server takes.

use kube::core::cel::{RootContext, Validator};
use quinistry::crd::{Bundle, MAX_BUNDLE_NAMES, bundle_definition};
use serde_json::{Value, json};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn schema() -> Value {
    bundle_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Returns the schema of a field of the specification.
fn field(path: &str) -> Value {
    schema().pointer(&format!("/properties/spec/properties/{path}")).unwrap().clone()
}

/// The pattern of a field, as a whole line of an extended regular expression.
fn matches(pattern: &Value, text: &str) -> bool {
    let root = RootContext {
        api_version: "quinistry.dev/v1alpha1".into(),
        api_group: "quinistry.dev".into(),
        kind: "Bundle".into(),
    };
    // CEL has the regular expressions of the API server.
    let rule = format!("self.text.matches({})", serde_json::to_string(pattern).unwrap());
    let schema = json!({"type": "object", "properties": {"text": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": rule, "message": "no"}]});
    let object = json!({"text": text});
    Validator::new().validate_with_defaults_and_context(&schema, &object, None, Some(&root)).is_ok()
}

fn named(name: &str) -> Value {
    json!({"names": [{"name": name, "digest": DIGEST}]})
}

#[test]
fn names_have_a_host_a_path_and_a_tag() {
    let pattern = field("names/items/properties/name/pattern");
    for good in [
        "ghcr.io/acme/shop:1.4.0",
        "docker.io/library/postgres:17.2",
        "localhost/a:1",
        "localhost:5000/a/b:latest",
        "registry.lan:5000/tools:2",
        "registry:5000/tools:2",
        "my-registry.example.com/a__b/c-d.e:V_1-x",
    ] {
        assert!(matches(&pattern, good), "{good}");
        let object = json!({"apiVersion": "quinistry.dev/v1alpha1", "kind": "Bundle", "metadata": {"name": "x"},
            "spec": named(good)});
        let bundle: Bundle = serde_json::from_value(object).unwrap();
        assert_eq!(bundle.spec.history, 1);
        let image: quinistry::oci::ImageReference = bundle.spec.names[0].name.parse().unwrap();
        assert!(image.tag().is_some() && image.repository_with_host().is_ok(), "{good}");
    }
    for bad in [
        "shop:1",
        "acme/shop:1",
        "ghcr.io/acme/shop",
        "ghcr.io:1",
        "ghcr.io/:1",
        "GHCR.io/acme/shop:1",
        "ghcr.io/Acme/shop:1",
        "ghcr.io/acme/shop:",
        "ghcr.io/acme/shop:.1",
        "ghcr.io/acme/shop@sha256:1",
        "ghcr.io/acme/shop:1@sha256:1",
        "ghcr..io/acme/shop:1",
        "-a.io/shop:1",
        "ghcr.io//shop:1",
        "a.b:x/shop:1",
        "[::1]:5000/shop:1",
        " ghcr.io/acme/shop:1",
    ] {
        assert!(!matches(&pattern, bad), "{bad}");
    }
}

#[test]
fn digests_are_whole_and_of_sha256() {
    for path in ["names/items/properties/digest/pattern", "digest/pattern"] {
        let pattern = field(path);
        assert!(matches(&pattern, DIGEST));
        for bad in ["", "sha256:00", &DIGEST.to_uppercase(), &DIGEST.replace("sha256", "sha512")] {
            assert!(!matches(&pattern, bad), "{path}: {bad}");
        }
    }
}

#[test]
fn lists_are_bounded_and_names_are_unique() {
    let names = field("names");
    assert_eq!((&names["minItems"], &names["maxItems"]), (&json!(1), &json!(MAX_BUNDLE_NAMES)));
    assert_eq!(names["x-kubernetes-list-type"], "map");
    assert_eq!(names["x-kubernetes-list-map-keys"], json!(["name"]));
    let history = field("history");
    assert_eq!(
        (&history["minimum"], &history["maximum"], &history["default"]),
        (&json!(0), &json!(10), &json!(1))
    );
    let required = &schema()["properties"]["spec"]["required"];
    assert_eq!(required, &json!(["names"]));
    let status = &schema()["properties"]["status"]["properties"];
    for list in ["conditions", "deviations", "previous"] {
        assert!(status[list]["maxItems"].is_u64(), "{list}");
    }
}

#[test]
fn each_field_is_explained() {
    fn walk(path: &str, schema: &Value) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let text = field["description"].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{path}: {text}");
            walk(&path, field);
            walk(&path, &field["items"]);
        }
    }
    for part in ["spec", "status"] {
        walk(part, &schema()["properties"][part]);
    }
}
