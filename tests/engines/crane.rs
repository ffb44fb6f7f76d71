//! crane, and with it the Go library that most other tools are made of.

use std::fs;
use std::process::Stdio;

use crate::machine::Machine;
use crate::program::{built, digest_of, lacks, own, own_digest};

const IMAGE: &str = "localhost:8080/quinistry:latest";

fn crane() -> &'static str {
    built("crane", "0.22.1")
}

fn machine() -> Option<Machine> {
    machine_with(&[])
}

fn machine_with(arguments: &[&str]) -> Option<Machine> {
    if lacks(&[crane()]) {
        return None;
    }
    let mut machine = Machine::start();
    machine.registry(8080, arguments);
    Some(machine)
}

#[test]
fn sees_the_digest_the_manifest_and_the_configuration_that_the_program_prints() {
    let Some(machine) = machine() else { return };
    assert_eq!(machine.run(crane(), &["digest", IMAGE]).trim(), own_digest("tar"));
    assert_eq!(machine.run(crane(), &["manifest", IMAGE]).trim_end(), own(&["image", "manifest"]).trim_end());
    assert_eq!(machine.run(crane(), &["config", IMAGE]).trim_end(), own(&["image", "config"]).trim_end());
}

/// Every byte of it where the layer is gzip; crane 0.22 takes all layers for gzip when it validates their
/// contents.
#[test]
fn finds_the_image_valid() {
    let Some(tar) = machine() else { return };
    tar.run(crane(), &["validate", "--fast", "--remote", IMAGE]);

    let Some(machine) = machine_with(&["--layer", "gzip"]) else { return };
    machine.run(crane(), &["validate", "--remote", IMAGE]);
    let archive = machine.path("pulled.tar");
    machine.run(crane(), &["pull", IMAGE, &archive]);
    machine.run(crane(), &["validate", "--tarball", &archive]);
}

#[test]
fn lists_the_repository_and_its_tags() {
    let Some(machine) = machine() else { return };
    assert_eq!(machine.run(crane(), &["catalog", "localhost:8080"]), "quinistry\n");
    let tags = machine.run(crane(), &["ls", "localhost:8080/quinistry"]);
    assert_eq!(tags, concat!(env!("CARGO_PKG_VERSION"), "\nlatest\n"));
}

#[test]
fn reads_the_layer_by_its_digest() {
    let Some(machine) = machine() else { return };
    let manifest: serde_json::Value = serde_json::from_str(&own(&["image", "manifest"])).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let file = machine.path("layer");
    let mut blob = machine.command(crane());
    blob.args(["blob", &format!("localhost:8080/quinistry@{layer}")]);
    assert!(
        blob.stdout(fs::File::create(&file).unwrap()).stderr(Stdio::inherit()).status().unwrap().success()
    );
    assert_eq!(digest_of(&fs::read(file).unwrap()), layer);
}

/// Debian's registry is distribution 2.8, the most common one: the image must survive a stay in it.
#[test]
fn copies_the_image_through_another_registry_unchanged() {
    let other = "/usr/bin/docker-registry";
    if lacks(&[other]) {
        return;
    }
    let Some(mut machine) = machine() else { return };
    let config = machine.path("config.yaml");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: '127.0.0.1:5000'}}\n",
        machine.path("store")
    );
    fs::write(&config, text).unwrap();
    let mut command = machine.command(other);
    command.args(["serve", &config]);
    machine.daemon("docker-registry", command);
    machine.until("the other registry", || {
        let answer = machine.command("curl").args(["-sf", "http://localhost:5000/v2/"]).output().unwrap();
        answer.status.success().then_some(())
    });
    machine.run(crane(), &["copy", IMAGE, "localhost:5000/quinistry:latest"]);
    machine.run(crane(), &["validate", "--fast", "--remote", "localhost:5000/quinistry:latest"]);
    assert_eq!(
        machine.run(crane(), &["digest", "localhost:5000/quinistry:latest"]).trim(),
        own_digest("tar")
    );
}

#[test]
fn pushes_what_it_pulled_and_finds_it_valid() {
    let Some(machine) = machine_with(&["--storage", "memory", "--layer", "gzip"]) else { return };
    let (archive, pushed) = (machine.path("own.tar"), "localhost:8080/a/b:v1");
    machine.run(crane(), &["pull", IMAGE, &archive]);
    machine.run(crane(), &["push", &archive, pushed]);
    machine.run(crane(), &["validate", "--remote", pushed]);
    machine.run(crane(), &["copy", pushed, "localhost:8080/c:v1"]);
    machine.run(crane(), &["tag", pushed, "v2"]);
    assert_eq!(machine.run(crane(), &["ls", "localhost:8080/a/b"]), "v1\nv2\n");
    assert_eq!(machine.run(crane(), &["catalog", "localhost:8080"]), "a/b\nc\nquinistry\n");
    let digest = machine.run(crane(), &["digest", "localhost:8080/c:v1"]);
    machine.run(crane(), &["delete", &format!("localhost:8080/a/b@{}", digest.trim())]);
    assert_eq!(machine.run(crane(), &["ls", "localhost:8080/a/b"]), "");
}
