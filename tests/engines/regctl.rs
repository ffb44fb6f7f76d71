//! regctl, whose author writes the specification's conformance tests: the strictest of the tools.

use crate::machine::Machine;
use crate::program::{built, digest_of, lacks, own, own_digest};

const IMAGE: &str = "localhost:8080/quinistry:latest";

fn regctl() -> &'static str {
    built("regctl", "0.11.7")
}

fn machine() -> Option<Machine> {
    if lacks(&[regctl()]) {
        return None;
    }
    let mut machine = Machine::start();
    machine.registry(8080, &[]);
    machine.run(regctl(), &["registry", "set", "localhost:8080", "--tls", "disabled"]);
    Some(machine)
}

#[test]
fn gets_the_manifest_that_the_program_prints() {
    let Some(machine) = machine() else { return };
    let manifest = machine.run(regctl(), &["manifest", "get", "--format", "raw-body", IMAGE]);
    assert_eq!(manifest, own(&["image", "manifest"]));
    assert_eq!(machine.run(regctl(), &["manifest", "head", IMAGE]).trim(), own_digest("tar"));
}

#[test]
fn copies_the_image_with_all_that_refers_to_it() {
    let Some(machine) = machine() else { return };
    let layout = format!("ocidir://{}:latest", machine.path("layout"));
    machine.run(regctl(), &["image", "copy", "--referrers", "--digest-tags", IMAGE, &layout]);
    let manifest = machine.run(regctl(), &["manifest", "get", "--format", "raw-body", &layout]);
    assert_eq!(digest_of(manifest.as_bytes()), own_digest("tar"));
}

#[test]
fn lists_repositories_tags_and_referrers() {
    let Some(machine) = machine() else { return };
    assert_eq!(machine.run(regctl(), &["repo", "ls", "localhost:8080"]), "quinistry\n");
    let tags = machine.run(regctl(), &["tag", "ls", "localhost:8080/quinistry"]);
    assert_eq!(tags, concat!(env!("CARGO_PKG_VERSION"), "\nlatest\n"));
    let referrers = machine.run(regctl(), &["artifact", "list", "--format", "{{json .Descriptors}}", IMAGE]);
    assert_eq!(referrers.trim(), "[]");
}

#[test]
fn pushes_images_and_artifacts_and_finds_what_refers_to_them() {
    if lacks(&[regctl()]) {
        return;
    }
    let mut machine = Machine::start();
    machine.registry(8080, &["--storage", &machine.path("storage")]);
    machine.run(regctl(), &["registry", "set", "localhost:8080", "--tls", "disabled"]);
    let copy = "localhost:8080/copy:v1";
    machine.run(regctl(), &["image", "copy", IMAGE, copy]);
    assert_eq!(machine.run(regctl(), &["manifest", "head", copy]).trim(), own_digest("tar"));
    std::fs::write(machine.path("bill"), "a bill of materials").unwrap();
    let bill = machine.path("bill");
    machine.run(
        regctl(),
        &["artifact", "put", "--artifact-type", "application/bill", "--subject", copy, "--file", &bill],
    );
    let list = |image: &str| {
        machine.run(
            regctl(),
            &["artifact", "list", "--format", "{{range .Descriptors}}{{.ArtifactType}}{{end}}", image],
        )
    };
    assert_eq!(list(copy).trim(), "application/bill");
    machine.run(regctl(), &["image", "copy", "--referrers", copy, "localhost:8080/again:v1"]);
    assert_eq!(list("localhost:8080/again:v1").trim(), "application/bill");
    let tags = machine.run(regctl(), &["tag", "ls", "localhost:8080/copy"]);
    assert_eq!(tags, "v1\n", "no fallback tags");
    machine.run(regctl(), &["tag", "rm", copy]);
    assert_eq!(machine.run(regctl(), &["tag", "ls", "localhost:8080/copy"]), "");
}
