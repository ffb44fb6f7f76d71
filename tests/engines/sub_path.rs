//! Clients through nginx, which passes a part of its paths on to a unix socket of a registry with a prefix.
//!
//! Clients ask for `/v2/…`, since names of images have no place for a path; the registry's own URLs begin with
//! its prefix, and clients follow them.

use std::fs;

use crate::containerd;
use crate::docker;
use crate::helm;
use crate::machine::Machine;
use crate::program::{QUINISTRY, built, digest_of, lacks, own_digest};

const NGINX: &str = "/usr/sbin/nginx";

/// Port of nginx.
const PORT: u16 = 8088;

const NGINX_FILE: &str = r"
user root;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {}
http {
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    client_max_body_size 0;
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    server {
        listen 127.0.0.1:8088;
        location /v2/ { proxy_pass http://unix:{folder}/registry.sock:/registry/v2/; }
        location /registry/ { proxy_pass http://unix:{folder}/registry.sock; }
    }
}
";

const REGISTRY_FILE: &str = "version: 0.1
storage:
  filesystem: {rootdirectory: '{folder}/storage'}
  delete: {enabled: true}
http:
  net: unix
  addr: '{folder}/registry.sock'
  prefix: /registry/
";

/// Starts the registry and nginx in a machine.
fn serve(machine: &mut Machine) {
    let folder = machine.path("");
    let folder = folder.trim_end_matches('/');
    for (name, text) in [("nginx.conf", NGINX_FILE), ("config.yml", REGISTRY_FILE)] {
        fs::write(machine.path(name), text.replace("{folder}", folder)).unwrap();
    }
    let mut registry = machine.command(QUINISTRY);
    registry.args(["serve", &machine.path("config.yml")]);
    machine.daemon("registry", registry);
    let mut nginx = machine.command(NGINX);
    nginx.args(["-c", &machine.path("nginx.conf"), "-g", "daemon off;"]);
    machine.daemon("nginx", nginx);
    assert_eq!(machine.await_registry(PORT), own_digest("tar"));
}

/// Raises a machine with the registry behind nginx, unless one of the programs is missing.
fn machine(programs: &[&'static str]) -> Option<Machine> {
    if lacks(&[&[NGINX], programs].concat()) {
        return None;
    }
    let mut machine = Machine::start();
    serve(&mut machine);
    Some(machine)
}

#[test]
fn skopeo_pulls_and_pushes() {
    let Some(machine) = machine(&["skopeo"]) else { return };
    let skopeo = |arguments: &[&str]| machine.run("skopeo", &[&["--insecure-policy"], arguments].concat());
    let copy = "docker://localhost:8088/team/copy:1";
    let flags = ["copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&[&flags[..], &["docker://localhost:8088/quinistry", copy]].concat());
    let manifest = skopeo(&["inspect", "--raw", "--tls-verify=false", copy]);
    assert_eq!(digest_of(manifest.as_bytes()), own_digest("tar"));
    skopeo(&["delete", "--tls-verify=false", copy]);
}

#[test]
fn podman_pulls_and_pushes() {
    let Some(machine) = machine(&["podman"]) else { return };
    let (root, state, policy) =
        (machine.path("podman"), machine.path("podman-state"), machine.path("policy.json"));
    fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    let podman = |arguments: &[&str]| {
        let store =
            ["--root", &root, "--runroot", &state, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
        machine.run("podman", &[&store[..], arguments].concat())
    };
    podman(&["pull", "--signature-policy", &policy, "--tls-verify=false", "localhost:8088/quinistry"]);
    podman(&[
        "push",
        "--signature-policy",
        &policy,
        "--tls-verify=false",
        "localhost:8088/quinistry",
        "localhost:8088/team/podman:1",
    ]);
    let tags = machine.run("curl", &["-sf", "http://localhost:8088/v2/team/podman/tags/list"]);
    assert_eq!(tags, r#"{"name":"team/podman","tags":["1"]}"#);
}

#[test]
fn crane_pulls_and_pushes() {
    let crane = built("crane", "0.22.1");
    let Some(machine) = machine(&[crane]) else { return };
    machine.run(crane, &["copy", "localhost:8088/quinistry", "localhost:8088/team/crane:1"]);
    assert_eq!(machine.run(crane, &["digest", "localhost:8088/team/crane:1"]).trim(), own_digest("tar"));
    assert_eq!(machine.run(crane, &["catalog", "localhost:8088"]), "quinistry\nteam/crane\n");
}

#[test]
fn regctl_pulls_and_pushes() {
    let regctl = built("regctl", "0.11.7");
    let Some(machine) = machine(&[regctl]) else { return };
    machine.run(regctl, &["registry", "set", "localhost:8088", "--tls", "disabled"]);
    machine.run(regctl, &["image", "copy", "localhost:8088/quinistry", "localhost:8088/team/regctl:1"]);
    assert_eq!(
        machine.run(regctl, &["manifest", "head", "localhost:8088/team/regctl:1"]).trim(),
        own_digest("tar")
    );
}

#[test]
fn helm_pushes_and_pulls_a_chart() {
    if lacks(&[NGINX, helm::helm()]) {
        return;
    }
    let mut machine = Machine::start();
    serve(&mut machine);
    helm::push_and_pull(&machine, "localhost:8088");
}

#[test]
fn docker_pulls_and_pushes() {
    if lacks(&[NGINX]) {
        return;
    }
    let Some(mut machine) = docker::engine() else { return };
    serve(&mut machine);
    docker::docker(&machine, &["pull", "localhost:8088/quinistry"]);
    docker::docker(&machine, &["tag", "localhost:8088/quinistry", "localhost:8088/team/docker:1"]);
    docker::docker(&machine, &["push", "localhost:8088/team/docker:1"]);
    let pushed = docker::repository_digests(&machine, "localhost:8088/team/docker:1");
    assert!(pushed.iter().any(|name| name.starts_with("localhost:8088/team/docker@")), "{pushed:?}");
}

#[test]
fn containerd_pulls_and_pushes() {
    let version = containerd::newest();
    if lacks(&[NGINX]) || version.is_missing() {
        return;
    }
    let mut machine = Machine::start();
    serve(&mut machine);
    let client = version.start(&mut machine);
    client.pull(&["--plain-http"], "localhost:8088/quinistry:latest");
    assert_eq!(client.target("localhost:8088/quinistry:latest"), own_digest("tar"));
    client.run(&["images", "tag", "localhost:8088/quinistry:latest", "localhost:8088/team/containerd:1"]);
    client.run(&["images", "push", "--plain-http", "localhost:8088/team/containerd:1"]);
}
