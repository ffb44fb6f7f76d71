//! The chart as one file.

use std::fs::File;
use std::io::Read as _;

use flate2::read::GzDecoder;
use tar::{Archive, EntryType};
use tempfile::TempDir;

use crate::chart::helm::{DEFINITION_FILES, Helm, root};

#[test]
fn a_package_holds_the_definitions_themselves() {
    let Some(helm) = Helm::find() else { return };
    let folder = TempDir::new().unwrap();
    let destination = folder.path().to_str().unwrap();
    helm.text(&["package", "charts/quinistry", "--destination", destination]);
    let package = folder.path().join(concat!("quinistry-", env!("CARGO_PKG_VERSION"), ".tgz"));

    let mut found = Vec::new();
    for entry in Archive::new(GzDecoder::new(File::open(&package).unwrap())).entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().entry_type(), EntryType::Regular, "{:?}", entry.path());
        let path = entry.path().unwrap().display().to_string();
        let is_copy = |(copy, _): &&(&str, &str)| path.strip_prefix("quinistry/") == Some(*copy);
        if let Some((_, original)) = DEFINITION_FILES.iter().find(is_copy) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            assert_eq!(content, std::fs::read(root().join(original)).unwrap());
        }
        found.push(path);
    }
    for path in [
        "Chart.yaml",
        "README.md",
        "values.yaml",
        "values.schema.json",
        "files/crd.yaml",
        "files/crd-bundles.yaml",
        "templates/crd.yaml",
    ] {
        assert!(found.contains(&format!("quinistry/{path}")), "{path} in {found:?}");
    }

    // Unpacked or not, it renders the same.
    let render = |chart: &str| helm.text(&["template", "shelf", chart, "--namespace", "library"]);
    assert!(render(package.to_str().unwrap()) == render("charts/quinistry"));
}
