//! Engines trust a certificate of `quinistry tls init` by the commands that it prints, by name and by address.
//!
//! The address is not a loopback one, with which Docker would do without TLS.

use std::fs;

use crate::containerd;
use crate::docker;
use crate::machine::Machine;
use crate::program::{QUINISTRY, built, lacks, own_digest};

/// Hosts of the registry.
const HOSTS: [&str; 2] = ["registry.lan", "10.77.0.5"];

/// Port of the registry.
const PORT: u16 = 8443;

/// Folders in which engines and the system look for authorities: empty ones of the machine, so that the commands
/// change nothing outside of it.
const FOLDERS: [&str; 4] = [
    "/etc/docker/certs.d",
    "/etc/containers/certs.d",
    "/etc/containerd/certs.d",
    "/usr/local/share/ca-certificates",
];

/// Makes an authority, runs the printed commands of the sections whose titles contain `engine`, and serves.
fn serve(machine: &mut Machine, engine: &str) {
    for folder in FOLDERS {
        machine.run("sh", &["-c", &format!("mkdir -p {folder} && mount -t tmpfs tmpfs {folder}")]);
    }
    machine.run("ip", &["address", "add", "10.77.0.5/32", "dev", "lo"]);
    fs::write(machine.path("hosts"), "127.0.0.1 localhost\n10.77.0.5 registry.lan\n").unwrap();
    machine.run("mount", &["--bind", &machine.path("hosts"), "/etc/hosts"]);
    let port = PORT.to_string();
    let arguments =
        ["tls", "init", &machine.path("tls"), "--host", HOSTS[0], "--host", HOSTS[1], "--port", &port];
    let printed = machine.run(QUINISTRY, &arguments);
    let sections = printed.split("\n# ").skip(1).map(|section| section.split_once('\n').unwrap());
    let commands: Vec<_> = sections.filter(|(title, _)| title.contains(engine)).collect();
    assert_eq!(commands.len(), 1, "{printed}");
    for command in commands[0].1.lines().filter(|line| !line.is_empty()) {
        machine.run("sh", &["-c", &command.replace("sudo ", "")]);
    }
    let mut registry = machine.command(QUINISTRY);
    registry.args(["serve", "--listen", &format!("0.0.0.0:{PORT}"), "--storage", "memory"]).args([
        "--tls-cert",
        &machine.path("tls/tls.crt"),
        "--tls-key",
        &machine.path("tls/tls.key"),
    ]);
    machine.daemon("registry", registry);
    machine.until("the registry", || {
        let url = format!("https://{}:{PORT}/v2/", HOSTS[1]);
        let ca = machine.path("tls/ca.crt");
        let output = machine.command("curl").args(["-sf", "--cacert", &ca, &url]).output().unwrap();
        output.status.success().then_some(())
    });
}

/// Returns names of an image in the registry, by its name and by its address.
fn names(image: &str) -> [String; 2] {
    HOSTS.map(|host| format!("{host}:{PORT}/{image}"))
}

/// Makes a system of the machine that trusts the authority, by the printed command.
fn trusting_system(machine: &mut Machine) {
    machine.run("cp", &["-a", "/etc/ssl/certs", &machine.path("certs")]);
    machine.run("mount", &["--bind", &machine.path("certs"), "/etc/ssl/certs"]);
    serve(machine, "Debian");
}

#[test]
fn docker_trusts_the_certificate() {
    let Some(mut machine) = docker::engine() else { return };
    serve(&mut machine, "Docker");
    machine.until("the engine to notice the names of hosts", || {
        let pull = docker::docker_command(&machine).args(["pull", &names("quinistry")[0]]).output().unwrap();
        pull.status.success().then_some(())
    });
    for (name, pushed) in names("quinistry").iter().zip(names("team/docker:1")) {
        docker::docker(&machine, &["pull", name]);
        docker::docker(&machine, &["tag", name, &pushed]);
        docker::docker(&machine, &["push", &pushed]);
    }
}

#[test]
fn containerd_trusts_the_certificate() {
    let version = containerd::newest();
    if version.is_missing() {
        return;
    }
    let mut machine = Machine::start();
    serve(&mut machine, "containerd and nerdctl");
    let client = version.start(&mut machine);
    for name in names("quinistry:latest") {
        client.pull(&["--hosts-dir", "/etc/containerd/certs.d"], &name);
        assert_eq!(client.target(&name), own_digest("tar"));
    }
}

#[test]
fn podman_and_skopeo_trust_the_certificate() {
    if lacks(&["podman", "skopeo"]) {
        return;
    }
    let mut machine = Machine::start();
    serve(&mut machine, "podman");
    let policy = machine.path("policy.json");
    fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    let (root, state) = (machine.path("podman"), machine.path("podman-state"));
    let store =
        ["--root", &root, "--runroot", &state, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
    for (name, pushed) in names("quinistry").iter().zip(names("team/podman:1")) {
        machine.run("podman", &[&store[..], &["pull", "--signature-policy", &policy, name]].concat());
        machine
            .run("podman", &[&store[..], &["push", "--signature-policy", &policy, name, &pushed]].concat());
        machine.run("skopeo", &["inspect", "--raw", &format!("docker://{pushed}")]);
    }
}

#[test]
fn curl_crane_and_regctl_trust_the_system() {
    let (crane, regctl) = (built("crane", "0.22.1"), built("regctl", "0.11.7"));
    if lacks(&[crane, regctl, "update-ca-certificates"]) {
        return;
    }
    let mut machine = Machine::start();
    trusting_system(&mut machine);
    for (name, host) in names("quinistry:latest").iter().zip(HOSTS) {
        assert_eq!(machine.run("curl", &["-sSf", &format!("https://{host}:{PORT}/v2/")]), "{}");
        assert_eq!(machine.run(crane, &["digest", name]).trim(), own_digest("tar"));
        assert_eq!(machine.run(regctl, &["manifest", "head", name]).trim(), own_digest("tar"));
    }
}

#[test]
fn a_client_without_the_authority_is_refused() {
    if lacks(&[]) {
        return;
    }
    let mut machine = Machine::start();
    serve(&mut machine, "Docker");
    let output = machine.command("curl").args(["-sS", &format!("https://{}:{PORT}/v2/", HOSTS[1])]).output();
    let complaint = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(complaint.contains("certificate"), "{complaint}");
}
