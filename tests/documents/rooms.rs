//! The rooms of the house and the arrows between them, as Cargo sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Each crate of the workspace, with those that it may use.
const ARROWS: [(&str, &[&str]); 12] = [
    ("quinistry-oci", &[]),
    ("quinistry-http", &[]),
    ("quinistry-yaml", &[]),
    ("quinistry-quine", &["quinistry-oci"]),
    ("quinistry-store", &["quinistry-oci"]),
    ("quinistry-bucket", &["quinistry-oci", "quinistry-store"]),
    ("quinistry-fetch", &["quinistry-oci", "quinistry-store"]),
    ("quinistry-client", &["quinistry-oci"]),
    ("quinistry-upstream", &["quinistry-client", "quinistry-fetch", "quinistry-oci"]),
    (
        "quinistry-registry",
        &[
            "quinistry-fetch",
            "quinistry-http",
            "quinistry-oci",
            "quinistry-quine",
            "quinistry-store",
            "quinistry-yaml",
        ],
    ),
    (
        "quinistry-kube",
        &["quinistry-client", "quinistry-http", "quinistry-oci", "quinistry-quine", "quinistry-yaml"],
    ),
    (
        "quinistry",
        &[
            "quinistry-bucket",
            "quinistry-client",
            "quinistry-http",
            "quinistry-kube",
            "quinistry-oci",
            "quinistry-quine",
            "quinistry-registry",
            "quinistry-store",
            "quinistry-upstream",
            "quinistry-yaml",
        ],
    ),
];

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .args(["--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs this test");
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

#[test]
fn arrows_between_rooms_point_as_designed() {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let ours: BTreeSet<&str> = dependencies
            // Tests may use other rooms.
            .filter(|dependency| dependency["kind"] != "dev")
            .map(|dependency| dependency["name"].as_str().unwrap())
            .filter(|name| name.starts_with("quinistry"))
            .collect();
        found.insert(package["name"].as_str().unwrap(), ours);
    }
    let designed = ARROWS.map(|(name, uses)| (name, uses.iter().copied().collect())).into();
    assert_eq!(found, designed);
}

#[test]
fn the_registry_brings_along_neither_a_command_line_nor_kubernetes() {
    let tree = cargo(&["tree", "--package", "quinistry-registry", "--edges", "normal", "--prefix", "none"]);
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("quinistry-store") && crates.contains("axum"), "{tree}");
    for unwanted in ["clap", "kube", "kube-client", "k8s-openapi", "quinistry-kube", "quinistry-client"] {
        assert!(!crates.contains(unwanted), "{unwanted} is among the registry's dependencies:\n{tree}");
    }
}

#[test]
fn every_place_that_the_architecture_names_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let folders = ["src/", "tests/", "e2e/", "charts/", "crds/", "docs/", "benches/", "fuzz/"];
    let places: Vec<&str> = text
        .split('`')
        .filter(|word| !word.contains(' ') && folders.iter().any(|folder| word.starts_with(folder)))
        .collect();
    assert!(places.len() > 50, "{places:?}");
    for place in places {
        assert!(root.join(place).exists(), "ARCHITECTURE.md names {place}");
    }
}
