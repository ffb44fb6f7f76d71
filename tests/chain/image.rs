//! `quinistry image`, from outside: its parts agree with each other and with the files that it saves.

use std::fs;
use std::path::Path;
use std::process::Output;

use quinistry::layout::Layout;
use quinistry::oci::{Digest, ImageManifest};

use crate::support::process::{command, output};
use crate::support::server::PROGRAM;

fn quinistry(args: &[&str]) -> Output {
    output(command(PROGRAM).arg("image").args(args)).unwrap()
}

fn stdout(args: &[&str]) -> Vec<u8> {
    let output = quinistry(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn manifest(args: &[&str]) -> ImageManifest {
    serde_json::from_slice(&stdout(&[&["manifest"], args].concat())).unwrap()
}

/// The name and the digest of the only image in a file or folder.
fn only_image(path: &Path) -> (String, Digest) {
    let layout = Layout::open(path).unwrap();
    let [root] = layout.roots() else { panic!("there is one image") };
    (root.name.clone().unwrap(), root.descriptor.digest.clone())
}

#[test]
fn what_is_printed_is_what_is_hashed() {
    for layer in ["tar", "gzip"] {
        let digest = String::from_utf8(stdout(&["digest", "--layer", layer])).unwrap();
        let bytes = stdout(&["manifest", "--layer", layer]);
        assert_eq!(Digest::sha256(&bytes).as_str(), digest.trim());
        let config = manifest(&["--layer", layer]).config;
        assert!(config.digest.matches(&stdout(&["config", "--layer", layer])));
    }
}

#[test]
fn the_bootstrap_image_has_another_configuration_and_the_same_layer() {
    let (served, bootstrap) = (manifest(&[]), manifest(&["--bootstrap"]));
    assert_ne!(served.config.digest, bootstrap.config.digest);
    assert_eq!(served.layers, bootstrap.layers);
}

#[test]
fn what_is_saved_is_the_image_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let digest: Digest = String::from_utf8(stdout(&["digest"])).unwrap().trim().parse().unwrap();
    let (archive, layout) = (folder.path().join("q.tar"), folder.path().join("q"));
    stdout(&["save", archive.to_str().unwrap()]);
    assert_eq!(only_image(&archive), ("localhost:8080/quinistry:latest".into(), digest.clone()));
    assert_eq!(stdout(&["save", "-"]), fs::read(&archive).unwrap(), "standard output gets the same bytes");
    stdout(&["save", layout.to_str().unwrap(), "--format", "oci-layout", "--name", "example.com/a/b"]);
    assert_eq!(only_image(&layout), ("example.com/a/b:latest".into(), digest));
}

/// That the chart renders the same name is tested with the chart.
#[test]
fn a_bootstrap_image_has_the_name_that_the_first_resource_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("q.tar");
    stdout(&["save", "--bootstrap", archive.to_str().unwrap()]);
    let (name, _) = only_image(&archive);
    assert_eq!(name, concat!("ghcr.io/quinistry/quinistry:", env!("CARGO_PKG_VERSION")));
    let resource = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/generation.yaml")).unwrap();
    let resource: quinistry::crd::Quinistry = serde_saphyr::from_str(&resource).unwrap();
    assert_eq!(resource.spec.image, Some(name));
}

#[test]
fn failures_are_one_line_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.tar");
    let path = path.to_str().unwrap();
    let missing = folder.path().join("missing/q.tar");
    for (args, words, code) in [
        (
            &["save", path, "--name", "quinistry:dev"][..],
            "'quinistry:dev' for '--name <REF>': not the name",
            2,
        ),
        (&["save", path, "--name", "example.com/x y"], "not a repository name", 2),
        (&["save", path, "--name", &format!("example.com/x@{}", Digest::sha256(b""))], "name a tag", 2),
        (&["save", missing.to_str().unwrap()], "missing", 1),
        (&["save", "-", "--format", "oci-layout"], "standard output", 1),
        (&["save", "/dev/full"], "No space left", 1),
    ] {
        let output = quinistry(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
