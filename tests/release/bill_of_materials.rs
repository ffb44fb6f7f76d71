//! The bill of materials names every crate of the lock file that the binary is made of.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::scripts::{architecture, good, path_with, root, script};

/// The version of the tool that `.ci/tools` builds.
const CARGO_CYCLONEDX: &str = "0.5.9";

/// Returns name and version of the packages in `Cargo.lock` that come from a registry.
fn locked() -> Vec<(String, String)> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    lock.split("[[package]]")
        .filter(|package| field(package, "source").is_some())
        .map(|package| (field(package, "name").unwrap(), field(package, "version").unwrap()))
        .collect()
}

#[test]
fn names_and_versions_are_those_of_the_lock_file() {
    let Some(path) = path_with("cargo-cyclonedx", CARGO_CYCLONEDX, "bin") else { return };
    let folder = TempDir::new().unwrap();
    let dist = folder.path().to_str().unwrap();
    let name = format!("quinistry-linux-{}.cdx.json", architecture());
    let write = || {
        // The crates are there: this test has been compiled from them.
        good(script("sbom", &[dist]).env("PATH", &path).env("CARGO_NET_OFFLINE", "true"));
        fs::read_to_string(folder.path().join(&name)).unwrap()
    };
    let text = write();
    let bill: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(bill["bomFormat"], "CycloneDX");
    assert_eq!(bill["specVersion"], "1.5");
    let component = &bill["metadata"]["component"];
    assert_eq!(component["name"], "quinistry");
    assert_eq!(component["version"], env!("CARGO_PKG_VERSION"));

    let locked = locked();
    let mut crates = BTreeMap::new();
    for component in bill["components"].as_array().unwrap() {
        let (name, version) = (component["name"].as_str().unwrap(), component["version"].as_str().unwrap());
        // A member of this workspace is in no registry.
        if !name.starts_with("quinistry") {
            assert!(locked.contains(&(name.to_owned(), version.to_owned())), "{name} {version}");
            crates.insert(name, version);
        }
    }
    for name in ["axum", "hyper", "k8s-openapi", "rustls", "tokio"] {
        assert!(crates.contains_key(name), "{name} in {crates:?}");
    }
    // Nothing of the machine, and a second run gives the same bytes.
    assert!(!text.contains(root().to_str().unwrap()), "a path of this machine");
    assert!(!text.contains(std::env::temp_dir().to_str().unwrap()), "a path of this machine");
    assert!(write() == text, "two bills of materials differ");
}
