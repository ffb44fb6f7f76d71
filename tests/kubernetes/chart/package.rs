//! The chart as one file.

use std::fs::File;
use std::io::Read as _;

use flate2::read::GzDecoder;
use tar::{Archive, EntryType};
use tempfile::TempDir;

use crate::chart::helm::{Helm, root};

#[test]
fn a_package_holds_the_definition_itself() {
    let Some(helm) = Helm::find() else { return };
    let folder = TempDir::new().unwrap();
    let destination = folder.path().to_str().unwrap();
    helm.text(&["package", "charts/quinistry", "--destination", destination]);
    let package = folder.path().join(concat!("quinistry-", env!("CARGO_PKG_VERSION"), ".tgz"));

    let definition = std::fs::read(root().join("crds/quinistries.quinistry.dev.yaml")).unwrap();
    let mut found = Vec::new();
    for entry in Archive::new(GzDecoder::new(File::open(&package).unwrap())).entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().entry_type(), EntryType::Regular, "{:?}", entry.path());
        let path = entry.path().unwrap().display().to_string();
        if path == "quinistry/files/crd.yaml" {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            assert_eq!(content, definition);
        }
        found.push(path);
    }
    for path in [
        "Chart.yaml",
        "README.md",
        "values.yaml",
        "values.schema.json",
        "files/crd.yaml",
        "templates/crd.yaml",
    ] {
        assert!(found.contains(&format!("quinistry/{path}")), "{path} in {found:?}");
    }

    // Unpacked or not, it renders the same.
    let render = |chart: &str| helm.text(&["template", "shelf", chart, "--namespace", "library"]);
    assert!(render(package.to_str().unwrap()) == render("charts/quinistry"));
}
