//! The Docker engine that Debian 12 has, 20.10: the oldest in wide use that is still looked after.

use std::process::Command;

use crate::machine::Machine;
use crate::program::{QUINISTRY, lacks, own_digest};

/// Named in full, since another engine's client may come first in `PATH`.
const DOCKER: &str = "/usr/bin/docker";
const DOCKERD: &str = "/usr/sbin/dockerd";

/// Starts the engine, unless something for it is missing.
pub(crate) fn engine() -> Option<Machine> {
    engine_after(|_| {})
}

/// Starts the engine in a machine that was prepared, unless something for it is missing.
pub(crate) fn engine_after(prepare: impl FnOnce(&Machine)) -> Option<Machine> {
    if lacks(&[DOCKERD, DOCKER, "containerd", "runc", "iptables"]) {
        return None;
    }
    let mut machine = Machine::start();
    prepare(&machine);
    let mut command = machine.command(DOCKERD);
    command
        .args(["--data-root", &machine.path("docker-data"), "--exec-root", &machine.path("docker-exec")])
        .args(["--host", &host(&machine), "--pidfile", &machine.path("docker.pid")])
        // A machine inside a container may not lower it, and cannot lay one overlay over another.
        .args(["--oom-score-adjust", "0", "--storage-driver", "vfs"])
        .args(["--cgroup-parent", &format!("/{}", machine.name())]);
    machine.daemon("dockerd", command);
    machine.until("dockerd", || {
        let version = docker_command(&machine).arg("version").output().unwrap();
        version.status.success().then_some(())
    });
    Some(machine)
}

fn host(machine: &Machine) -> String {
    format!("unix://{}", machine.path("docker.sock"))
}

pub(crate) fn docker_command(machine: &Machine) -> Command {
    let mut command = machine.command(DOCKER);
    command.args(["--host", &host(machine)]);
    command
}

pub(crate) fn docker(machine: &Machine, arguments: &[&str]) -> String {
    machine.run(DOCKER, &[&["--host", &host(machine)], arguments].concat())
}

/// The digests under which the engine knows an image's repository.
pub(crate) fn repository_digests(machine: &Machine, image: &str) -> Vec<String> {
    let digests = docker(machine, &["inspect", "--format", "{{json .RepoDigests}}", image]);
    serde_json::from_str(&digests).unwrap()
}

/// The example of the programs that had the idea, with the one thing that they did not reach: one digest.
fn the_example_pulls_the_same_digest_from_the_child(layer: &str) {
    let Some(mut machine) = engine() else { return };
    machine.registry(8080, &["--layer", layer]);
    let digest = own_digest(layer);

    docker(&machine, &["pull", "localhost:8080/quinistry"]);
    docker(
        &machine,
        &["run", "--detach", "--name", "child", "--publish", "8090:8080", "localhost:8080/quinistry"],
    );
    machine.await_registry(8090);
    docker(&machine, &["pull", "localhost:8090/quinistry"]);

    let expected = [8080, 8090].map(|port| format!("localhost:{port}/quinistry@{digest}"));
    assert_eq!(repository_digests(&machine, "localhost:8090/quinistry"), expected);
    docker(&machine, &["stop", "child"]);
    let exit_code = docker(&machine, &["inspect", "--format", "{{.State.ExitCode}}", "child"]);
    assert_eq!(exit_code.trim(), "0", "the container's exit code");
}

#[test]
fn the_example_pulls_the_same_digest_from_the_child_of_a_tar_image() {
    the_example_pulls_the_same_digest_from_the_child("tar");
}

#[test]
fn the_example_pulls_the_same_digest_from_the_child_of_a_gzip_image() {
    the_example_pulls_the_same_digest_from_the_child("gzip");
}

#[test]
fn the_example_works_with_a_digest_in_place_of_the_tag() {
    let Some(mut machine) = engine() else { return };
    machine.registry(8080, &[]);
    let image = format!("localhost:8080/quinistry@{}", own_digest("tar"));
    docker(&machine, &["pull", &image]);
    assert_eq!(repository_digests(&machine, &image).join(" "), image);
}

#[test]
fn the_saved_image_loads_and_runs_without_any_registry() {
    let Some(machine) = engine() else { return };
    let mut save = machine.command(QUINISTRY);
    save.args(["image", "save", "-"]);
    let mut load = docker_command(&machine);
    load.arg("load");
    let loaded = Machine::pipe(save, load);
    assert_eq!(loaded.trim(), "Loaded image: localhost:8080/quinistry:latest");

    docker(&machine, &["run", "--detach", "--publish", "8090:8080", "localhost:8080/quinistry"]);
    assert_eq!(machine.await_registry(8090), own_digest("tar"));
}

/// The image in place of distribution's: the same variables, volume and port, and no other argument.
#[test]
fn the_image_takes_the_place_of_distributions() {
    const CONTAINER: [&str; 10] = [
        "run",
        "--detach",
        "--name",
        "registry",
        "--publish",
        "5000:5000",
        "--volume",
        "registry-data:/var/lib/registry",
        "--env",
        "REGISTRY_STORAGE_DELETE_ENABLED=true",
    ];
    let Some(machine) = engine() else { return };
    let mut save = machine.command(QUINISTRY);
    save.args(["image", "save", "-"]);
    let mut load = docker_command(&machine);
    load.arg("load");
    Machine::pipe(save, load);
    let image = "localhost:8080/quinistry";
    docker(&machine, &[&CONTAINER[..], &[image]].concat());
    machine.await_registry(5000);
    docker(&machine, &["tag", image, "localhost:5000/a:1"]);
    docker(&machine, &["push", "localhost:5000/a:1"]);

    docker(&machine, &["rm", "--force", "registry"]);
    docker(&machine, &[&CONTAINER[..], &[image]].concat());
    machine.await_registry(5000);
    let url = "http://localhost:5000/v2/a/manifests/1";
    let found = machine.run("curl", &["-sfI", url]).to_lowercase();
    let digest = found.lines().find_map(|line| line.strip_prefix("docker-content-digest: "));
    let digest = digest.expect("the volume has kept the image").trim();
    let url = format!("http://localhost:5000/v2/a/manifests/{digest}");
    let deleted = machine.run("curl", &["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "DELETE", &url]);
    assert_eq!(deleted, "202");
}

#[test]
fn the_image_runs_with_no_rights_at_all() {
    let Some(mut machine) = engine() else { return };
    machine.registry(8080, &[]);
    let hardened =
        ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "12345"];
    let run = ["run", "--detach", "--publish", "8090:8080"];
    docker(&machine, &[&run[..], &hardened, &["localhost:8080/quinistry"]].concat());
    assert_eq!(machine.await_registry(8090), own_digest("tar"));
}

#[test]
fn pushes_what_it_pulled() {
    let Some(mut machine) = engine() else { return };
    machine.registry(8080, &["--storage", &machine.path("storage")]);
    docker(&machine, &["pull", "localhost:8080/quinistry"]);
    docker(&machine, &["tag", "localhost:8080/quinistry", "localhost:8080/a/b:v1"]);
    docker(&machine, &["push", "localhost:8080/a/b:v1"]);
    let pushed = repository_digests(&machine, "localhost:8080/a/b:v1");
    docker(&machine, &["rmi", "localhost:8080/quinistry", "localhost:8080/a/b:v1"]);
    docker(&machine, &["pull", "localhost:8080/a/b:v1"]);
    let pulled = repository_digests(&machine, "localhost:8080/a/b:v1");
    assert!(pushed.contains(&pulled[0]), "{pushed:?} {pulled:?}");
    // Its layers are there already, and it says so.
    docker(&machine, &["tag", "localhost:8080/a/b:v1", "localhost:8080/c:v1"]);
    let said = docker(&machine, &["push", "localhost:8080/c:v1"]);
    assert!(said.contains("Mounted from a/b") || said.contains("Layer already exists"), "{said}");
}
