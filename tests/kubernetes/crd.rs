//! The definitions: the files in `crds/` are what the program prints, and the rules in that of `Quinistry`
//! tell good from bad. The rules of `Bundle` are beside this.

use kube::core::cel::{RootContext, Validator};
use quinistry::crd::{DEFINITIONS, Quinistry, bundle_definition, definition};
use serde_json::{Value, json};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn the_files_in_crds_are_what_the_types_say() {
    for definition in [definition(), bundle_definition()] {
        let name = definition["metadata"]["name"].as_str().unwrap();
        let path = format!("{}/crds/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let derived = serde_saphyr::to_string(&definition).unwrap();
        if std::env::var_os("QUINISTRY_UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &derived).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap() == derived,
            "{path} is out of date; run this test with QUINISTRY_UPDATE_GOLDEN=1 and look at the difference"
        );
    }
}

#[test]
fn the_program_prints_the_files_in_crds_as_documents() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_quinistry")).arg("crd").output().unwrap();
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    let documents: Vec<&str> = printed.split("---\n").collect();
    assert_eq!(documents, DEFINITIONS.map(|(_, yaml)| yaml));
    for (name, yaml) in DEFINITIONS {
        assert!(yaml.contains(&format!("\n  name: {name}\n")), "{name}");
    }
}

#[test]
fn integers_are_signed_and_bounded_and_nothing_is_nullable() {
    fn walk(path: &str, value: &Value) {
        let Some(map) = value.as_object() else { return };
        if map.get("type").is_some_and(|kind| kind == "integer") && path.contains("spec") {
            let format = map.get("format").and_then(Value::as_str);
            assert!(matches!(format, None | Some("int32" | "int64")), "{path}: {format:?}");
        }
        assert!(!map.contains_key("nullable"), "{path}");
        for (key, value) in map {
            walk(&format!("{path}.{key}"), value);
        }
    }
    walk("", &definition());
    walk("", &bundle_definition());
}

/// The messages with which the API server would refuse `spec`, after defaulting.
fn refusals(name: &str, spec: &Value, old: Option<&Value>) -> Vec<String> {
    let schema = &definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let object = |spec: &Value| json!({"apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry", "metadata": {"name": name}, "spec": spec});
    let root = RootContext {
        api_version: "quinistry.dev/v1alpha1".into(),
        api_group: "quinistry.dev".into(),
        kind: "Quinistry".into(),
    };
    let old = old.map(object);
    let result =
        Validator::new().validate_with_defaults_and_context(schema, &object(spec), old.as_ref(), Some(&root));
    result.err().map(|errors| errors.as_slice().iter().map(ToString::to_string).collect()).unwrap_or_default()
}

#[track_caller]
fn refused(spec: &Value, because: &str) {
    let messages = refusals("web", spec, None);
    assert!(messages.iter().any(|message| message.contains(because)), "{spec}: {messages:?}");
}

#[track_caller]
fn taken(spec: &Value) {
    assert_eq!(refusals("web", spec, None), Vec::<String>::new(), "{spec}");
    let object = json!({"apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry", "metadata": {"name": "x"}, "spec": spec});
    serde_json::from_value::<Quinistry>(object).unwrap();
}

#[test]
fn good_specifications_are_taken() {
    for spec in [
        json!({"image": "registry.example.com/quinistry:0.1.0"}),
        json!({"image": "a", "digest": DIGEST, "generations": 16, "basePort": 65520}),
        json!({"seed": {"executable": DIGEST}, "digest": DIGEST}),
        json!({"image": "a", "rollout": {"maxUnavailable": 3}}),
        json!({"image": "a", "rollout": {"maxUnavailable": "100%"}}),
        json!({"image": "a", "rollout": {"tolerateNodes": 0}}),
        json!({"image": "a", "rollout": {"tolerateNodes": "0%"}}),
        json!({"image": "a", "rollout": {"tolerateNodes": "100%"}}),
        json!({"image": "a", "tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoSchedule"}]}),
        json!({"image": "a", "resources": {"requests": {"cpu": 1, "memory": "24Mi"}}}),
        json!({"image": "a", "digest": DIGEST, "network": {"mode": "HostNetwork"}}),
        json!({"image": "a", "store": {}}),
        json!({"image": "a", "store": {"copies": 16, "path": "/srv/blobs", "nodeSelector": {"disk": "large"}}}),
    ] {
        taken(&spec);
    }
}

#[test]
fn exactly_one_of_image_and_seed() {
    refused(&json!({}), "exactly one of image and seed");
    let seed = json!({"executable": DIGEST});
    refused(&json!({"image": "a", "seed": seed, "digest": DIGEST}), "exactly one of image and seed");
    refused(&json!({"seed": seed}), "digest must be set beside seed");
    refused(
        &json!({"image": "a", "network": {"mode": "HostNetwork"}}),
        "digest must be set with HostNetwork",
    );
}

#[test]
fn ports_stay_within_bounds_and_in_place() {
    refused(&json!({"image": "a", "basePort": 65535}), "at most 65535");
    refused(&json!({"image": "a", "basePort": 65521, "generations": 16}), "at most 65535");
    let old = json!({"image": "a", "basePort": 5000});
    let moved = refusals("web", &json!({"image": "a", "basePort": 5001}), Some(&old));
    assert!(moved.iter().any(|message| message.contains("basePort cannot be changed")), "{moved:?}");
    // Spelling out the default is no change.
    assert_eq!(refusals("web", &old, Some(&json!({"image": "a"}))), Vec::<String>::new());
}

#[test]
fn the_rollout_is_a_number_or_a_percentage() {
    for bad in [
        json!(0),
        json!(-1),
        json!(10000),
        json!("0%"),
        json!("101%"),
        json!("-1"),
        json!("some"),
        json!("5 %"),
    ] {
        refused(&json!({"image": "a", "rollout": {"maxUnavailable": bad}}), "maxUnavailable must be");
    }
    for bad in [json!(-1), json!(10000), json!("101%"), json!("-1%"), json!("00%"), json!("some"), json!("")]
    {
        refused(&json!({"image": "a", "rollout": {"tolerateNodes": bad}}), "tolerateNodes must be");
    }
}

#[test]
fn tolerations_are_whole() {
    refused(&json!({"image": "a", "tolerations": [{}]}), "one with Equal has a key");
    refused(&json!({"image": "a", "tolerations": [{"operator": "Exists", "value": "x"}]}), "has no value");
}

#[test]
fn names_leave_room_for_the_generation() {
    let spec = json!({"image": "a"});
    assert_eq!(refusals(&"n".repeat(57), &spec, None), Vec::<String>::new());
    let long = refusals(&"n".repeat(58), &spec, None);
    assert!(long.iter().any(|message| message.contains("at most 57")), "{long:?}");
}

#[test]
fn the_folder_of_stores_stays() {
    let old = json!({"image": "a", "store": {}});
    let moved = refusals("web", &json!({"image": "a", "store": {"path": "/srv"}}), Some(&old));
    assert!(moved.iter().any(|message| message.contains("store.path cannot be changed")), "{moved:?}");
    for spec in
        [json!({"image": "a", "store": {"path": "/var/lib/quinistry", "copies": 1}}), json!({"image": "a"})]
    {
        assert_eq!(refusals("web", &spec, Some(&old)), Vec::<String>::new());
    }
}

#[test]
fn the_name_of_a_resource_with_stores_can_be_that_of_a_service() {
    let spec = json!({"image": "a", "store": {}});
    for bad in ["0web", "web.example"] {
        let messages = refusals(bad, &spec, None);
        assert!(
            messages.iter().any(|message| message.contains("the name of a Service")),
            "{bad}: {messages:?}"
        );
        assert_eq!(refusals(bad, &json!({"image": "a"}), None), Vec::<String>::new());
    }
}
