//! Engines with the files of `quinistry mirrors` pull images of Docker Hub, which they cannot reach, from a registry.

use crate::containerd;
use crate::docker;
use crate::machine::Machine;
use crate::program::{QUINISTRY, lacks, own_digest};

/// Registry that mirrors.
const MIRROR: &str = "localhost:5000";

/// Starts the mirror with an image of that name.
fn serve(machine: &mut Machine, name: &str) {
    machine.registry(5000, &["--storage", "memory"]);
    machine.run(QUINISTRY, &["push", "--self", &format!("{MIRROR}/{name}")]);
}

#[test]
fn containerd_pulls_through_the_mirror() {
    pulls_by_containerd(&containerd::newest());
}

#[test]
fn containerd_1_6_pulls_through_the_mirror() {
    pulls_by_containerd(&containerd::debian());
}

fn pulls_by_containerd(version: &containerd::Version) {
    if version.is_missing() {
        return;
    }
    let mut machine = Machine::start();
    serve(&mut machine, "library/thing:1");
    let client = version.start(&mut machine);
    for (folder, flags) in [("first", &[][..]), ("alone", &["--no-fallback"])] {
        let folder = client.machine().path(folder);
        let arguments = ["mirrors", "containerd", MIRROR, "docker.io", "--write", &folder];
        client.machine().run(QUINISTRY, &[&arguments[..], flags].concat());
        client
            .pull(&["--hosts-dir", &format!("{folder}/etc/containerd/certs.d")], "docker.io/library/thing:1");
        assert_eq!(client.target("docker.io/library/thing:1"), own_digest("tar"));
        client.run(&["images", "remove", "--sync", "docker.io/library/thing:1"]);
    }
}

#[test]
fn podman_pulls_through_the_mirror() {
    if lacks(&["podman"]) {
        return;
    }
    let mut machine = Machine::start();
    serve(&mut machine, "docker.io/library/thing:1");
    let policy = machine.path("policy.json");
    std::fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    for (folder, flags) in [("first", &[][..]), ("alone", &["--no-fallback"])] {
        let files = machine.path(folder);
        let arguments = ["mirrors", "podman", MIRROR, "docker.io", "--write", &files];
        machine.run(QUINISTRY, &[&arguments[..], flags].concat());
        let mut podman = machine.command("podman");
        podman
            .env(
                "CONTAINERS_REGISTRIES_CONF",
                format!("{files}/etc/containers/registries.conf.d/50-quinistry.conf"),
            )
            .args(["--root", &machine.path(&format!("{folder}-images"))])
            .args(["--runroot", &machine.path(&format!("{folder}-state"))])
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
            .args(["pull", "--signature-policy", &policy, "docker.io/library/thing:1"]);
        let output = podman.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn docker_pulls_through_the_mirror() {
    let engine = docker::engine_after(|machine| {
        machine.run("sh", &["-c", "mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker"]);
        machine.run(QUINISTRY, &["mirrors", "docker", MIRROR, "--write", "/"]);
    });
    let Some(mut machine) = engine else { return };
    serve(&mut machine, "library/thing:1");
    docker::docker(&machine, &["pull", "thing:1"]);
    let digests = docker::repository_digests(&machine, "thing:1");
    assert_eq!(digests, [format!("thing@{}", own_digest("tar"))]);
}
