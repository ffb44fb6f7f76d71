//! skopeo, and with it the library of podman, buildah and CRI-O: it reads the registry, and the files we
//! write.
//!
//! It asks for no tag by HEAD, checks every digest, and treats localhost like any other host.

use crate::machine::Machine;
use crate::program::{QUINISTRY, digest_of, lacks, own, own_digest};

const SKOPEO: &str = "skopeo";

fn machine() -> Option<Machine> {
    if lacks(&[SKOPEO]) { None } else { Some(Machine::start()) }
}

/// Its own policy file is not installed with it everywhere, and signatures are not the subject.
fn skopeo(machine: &Machine, arguments: &[&str]) -> String {
    machine.run(SKOPEO, &[&["--insecure-policy"], arguments].concat())
}

/// Left to itself it compresses a layer that is not, and so makes another image: `--preserve-digests` forbids
/// that.
fn copies_to_an_equal_image(layer: &str) {
    let Some(mut machine) = machine() else { return };
    machine.registry(8080, &["--layer", layer]);
    let source = "docker://localhost:8080/quinistry";
    let layout = format!("oci:{}:latest", machine.path("layout"));
    let folder = format!("dir:{}", machine.path("folder"));
    for target in [&layout, &folder] {
        skopeo(&machine, &["copy", "--preserve-digests", "--src-tls-verify=false", source, target]);
        let manifest = skopeo(&machine, &["inspect", "--raw", target]);
        assert_eq!(digest_of(manifest.as_bytes()), own_digest(layer), "{target}");
    }
}

#[test]
fn copies_to_an_equal_image_with_a_tar_layer() {
    copies_to_an_equal_image("tar");
}

#[test]
fn copies_to_an_equal_image_with_a_gzip_layer() {
    copies_to_an_equal_image("gzip");
}

#[test]
fn inspects_the_repository() {
    let Some(mut machine) = machine() else { return };
    machine.registry(8080, &[]);
    let text = skopeo(&machine, &["inspect", "--tls-verify=false", "docker://localhost:8080/quinistry"]);
    let image: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(image["Digest"], own_digest("tar"));
    assert_eq!(image["Created"], "1970-01-01T00:00:00Z");
    assert_eq!(image["Os"], "linux");
    assert_eq!(image["RepoTags"], serde_json::json!([env!("CARGO_PKG_VERSION"), "latest"]));
}

#[test]
fn reads_the_archive_as_oci_and_as_docker() {
    let Some(machine) = machine() else { return };
    let archive = machine.path("quinistry.tar");
    machine.run(QUINISTRY, &["image", "save", &archive]);

    let manifest = skopeo(&machine, &["inspect", "--raw", &format!("oci-archive:{archive}")]);
    assert_eq!(digest_of(manifest.as_bytes()), own_digest("tar"));
    // The archive of docker has no manifest to compare, but the configuration in it names the layer by its
    // digest.
    let config = skopeo(&machine, &["inspect", "--raw", "--config", &format!("docker-archive:{archive}")]);
    assert_eq!(config, own(&["image", "config"]));
    let copy = format!("dir:{}", machine.path("folder"));
    skopeo(&machine, &["copy", &format!("docker-archive:{archive}:localhost:8080/quinistry:latest"), &copy]);
}

#[test]
fn reads_the_layout() {
    let Some(machine) = machine() else { return };
    let layout = machine.path("layout");
    machine.run(QUINISTRY, &["image", "save", "--format", "oci-layout", &layout]);
    let manifest = skopeo(&machine, &["inspect", "--raw", &format!("oci:{layout}")]);
    assert_eq!(digest_of(manifest.as_bytes()), own_digest("tar"));
    skopeo(&machine, &["copy", &format!("oci:{layout}"), &format!("dir:{}", machine.path("folder"))]);
}

#[test]
fn pushes_and_deletes() {
    let Some(mut machine) = machine() else { return };
    machine.registry(8080, &["--storage", &machine.path("storage")]);
    let copy = "docker://localhost:8080/library/copy:v1";
    skopeo(
        &machine,
        &[
            "copy",
            "--preserve-digests",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            "docker://localhost:8080/quinistry",
            copy,
        ],
    );
    let manifest = skopeo(&machine, &["inspect", "--raw", "--tls-verify=false", copy]);
    assert_eq!(digest_of(manifest.as_bytes()), own_digest("tar"));
    skopeo(&machine, &["delete", "--tls-verify=false", copy]);
    let tags = skopeo(&machine, &["list-tags", "--tls-verify=false", "docker://localhost:8080/library/copy"]);
    let tags: serde_json::Value = serde_json::from_str(&tags).unwrap();
    assert_eq!(tags["Tags"], serde_json::json!([]));
}
