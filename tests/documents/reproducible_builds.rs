//! `docs/reproducible-builds.md`: the container image and the compiler that releases are built with.

use crate::page::read;

const PAGE: &str = "docs/reproducible-builds.md";

#[test]
fn the_tools_are_those_of_the_release_workflow() {
    let (page, workflow, manifest) = (read(PAGE), read(".github/workflows/release.yaml"), read("Cargo.toml"));
    let value = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {key}")).trim_matches([' ', '"']).to_owned()
    };
    let container = value(&workflow, "container:");
    assert!(page.contains(&format!("`{container}`")), "{PAGE} does not name {container}");
    let rust = value(&manifest, "rust-version =");
    assert!(container.starts_with(&format!("rust:{rust}-")), "{container}");
    assert!(page.contains(&format!("| rustc | {rust}.")), "{PAGE} does not name rustc {rust}");
}
