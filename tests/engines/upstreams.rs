//! Clients pull images of another registry, a distribution 3.1.2, through this one: at first, while the other one is away,
//! and after this one was restarted in the meantime.

use std::fs;

use crate::containerd;
use crate::docker;
use crate::machine::Machine;
use crate::program::{QUINISTRY, built, lacks, own_digest};

const HOST: &str = "localhost:5000";

/// Configuration of the other registry.
const UPSTREAM: &str = "version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: '{folder}/upstream'}}
http: {addr: '127.0.0.1:5001'}
";

/// Configuration of this registry, without the keys of its upstream.
const OURS: &str = "version: 0.1
storage: {filesystem: {rootdirectory: '{folder}/ours'}, delete: {enabled: true}}
http: {addr: '127.0.0.1:5000'}
";

/// Key of an upstream whose names have a prefix.
const PREFIXED: &str = "quinistry:
  upstreams:
  - {prefix: docker.io, ns: [docker.io], remoteurl: 'http://127.0.0.1:5001', insecure: true, ttl: 0s}
";

/// Section of distribution that makes all names those of the other registry.
const PROXY: &str = "proxy: {remoteurl: 'http://127.0.0.1:5001'}
";

fn distribution() -> &'static str {
    built("registry", "3.1.2")
}

/// Starts both registries, and pushes an image to the other one.
fn serve(machine: &Machine, upstream_keys: &str) {
    let folder = machine.path("");
    let folder = folder.trim_end_matches('/');
    for (name, text) in
        [("upstream.yml", UPSTREAM.to_owned()), ("ours.yml", format!("{OURS}{upstream_keys}"))]
    {
        fs::write(machine.path(name), text.replace("{folder}", folder)).unwrap();
    }
    machine.background("upstream", &[distribution(), "serve", &machine.path("upstream.yml")]);
    start_ours(machine);
    await_upstream(machine);
    machine.run(QUINISTRY, &["push", "--self", "localhost:5001/library/thing:1"]);
}

fn await_upstream(machine: &Machine) {
    await_distribution(machine, 5001);
}

/// Waits until a registry of distribution answers on a port.
fn await_distribution(machine: &Machine, port: u16) {
    let url = format!("http://localhost:{port}/v2/");
    machine.until(&format!("distribution on port {port}"), || {
        let asked = machine.command("curl").args(["-sf", &url]).output().unwrap();
        asked.status.success().then_some(())
    });
}

fn start_ours(machine: &Machine) {
    machine.background("ours", &[QUINISTRY, "serve", &machine.path("ours.yml")]);
    machine.await_registry(5000);
}

/// Pulls three times: from the other registry, while it is away, and after this one was restarted.
fn pulls_through(machine: &Machine, pull: impl Fn()) {
    pull();
    machine.stop("upstream");
    pull();
    machine.stop("ours");
    start_ours(machine);
    pull();
}

#[test]
fn containerd_pulls_through_an_upstream() {
    let version = containerd::newest();
    if lacks(&[distribution()]) || version.is_missing() {
        return;
    }
    let mut machine = Machine::start();
    serve(&machine, PREFIXED);
    let hosts = machine.path("hosts");
    machine.run(QUINISTRY, &["mirrors", "containerd", HOST, "docker.io", "--no-fallback", "--write", &hosts]);
    let client = version.start(&mut machine);
    pulls_through(client.machine(), || {
        let image = "docker.io/library/thing:1";
        client.pull(&["--hosts-dir", &format!("{hosts}/etc/containerd/certs.d")], image);
        assert_eq!(client.target(image), own_digest("tar"));
        client.run(&["images", "remove", "--sync", image]);
        let by_name = format!("{HOST}/docker.io/thing:1");
        client.pull(&["--plain-http"], &by_name);
        assert_eq!(client.target(&by_name), own_digest("tar"));
        client.run(&["images", "remove", "--sync", &by_name]);
    });
}

/// Makes an index of two platforms at the other registry, and returns its digest.
fn push_index(machine: &Machine, crane: &str) -> String {
    let (one, other) = ("localhost:5001/library/thing:1", "localhost:5001/library/thing:arm64");
    let index = "localhost:5001/library/many:1";
    machine.run(crane, &["mutate", "--set-platform", "linux/arm64", "--tag", other, one]);
    machine.run(crane, &["index", "append", "--manifest", one, "--manifest", other, "--tag", index]);
    machine.run(crane, &["digest", index]).trim().to_owned()
}

#[test]
fn containerd_pulls_one_platform_of_an_index_and_then_all_through_an_upstream() {
    let (version, crane) = (containerd::newest(), built("crane", "0.22.1"));
    if lacks(&[distribution(), crane]) || version.is_missing() {
        return;
    }
    let mut machine = Machine::start();
    serve(&machine, PREFIXED);
    let index = push_index(&machine, crane);
    let image = format!("{HOST}/docker.io/library/many:1");
    let client = version.start(&mut machine);
    let pull = |platforms: &[&str]| {
        client.pull(&[&["--plain-http"], platforms].concat(), &image);
        assert_eq!(client.target(&image), index);
        client.run(&["images", "remove", "--sync", &image]);
    };
    // The stored index lacks the image that no client has asked for.
    pulls_through(client.machine(), || pull(&["--platform", "linux/amd64"]));
    client
        .machine()
        .background("upstream", &[distribution(), "serve", &client.machine().path("upstream.yml")]);
    await_upstream(client.machine());
    pulls_through(client.machine(), || pull(&["--all-platforms"]));
}

#[test]
fn docker_pulls_through_an_upstream() {
    if lacks(&[distribution()]) {
        return;
    }
    let engine = docker::engine_after(|machine| {
        machine.run("sh", &["-c", "mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker"]);
        machine.run(QUINISTRY, &["mirrors", "docker", HOST, "--write", "/"]);
    });
    let Some(machine) = engine else { return };
    serve(&machine, PROXY);
    pulls_through(&machine, || {
        docker::docker(&machine, &["pull", "thing:1"]);
        let digests = docker::repository_digests(&machine, "thing:1");
        assert_eq!(digests, [format!("thing@{}", own_digest("tar"))]);
        docker::docker(&machine, &["rmi", "thing:1"]);
    });
}

#[test]
fn podman_pulls_through_an_upstream() {
    if lacks(&[distribution(), "podman"]) {
        return;
    }
    let machine = Machine::start();
    serve(&machine, PREFIXED);
    let (files, policy) = (machine.path("files"), machine.path("policy.json"));
    fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    machine.run(QUINISTRY, &["mirrors", "podman", HOST, "docker.io", "--no-fallback", "--write", &files]);
    let podman = |arguments: &[&str]| {
        let mut podman = machine.command("podman");
        podman
            .env(
                "CONTAINERS_REGISTRIES_CONF",
                format!("{files}/etc/containers/registries.conf.d/50-quinistry.conf"),
            )
            .args(["--root", &machine.path("images"), "--runroot", &machine.path("state")])
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
            .args(arguments);
        let output = podman.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    pulls_through(&machine, || {
        podman(&["pull", "--signature-policy", &policy, "docker.io/library/thing:1"]);
        let digest = podman(&["image", "inspect", "--format", "{{.Digest}}", "docker.io/library/thing:1"]);
        assert_eq!(digest.trim(), own_digest("tar"));
        podman(&["rmi", "--force", "docker.io/library/thing:1"]);
    });
}

#[test]
fn crane_pulls_through_an_upstream_and_pushes_beside_it() {
    let crane = built("crane", "0.22.1");
    if lacks(&[distribution(), crane]) {
        return;
    }
    let machine = Machine::start();
    serve(&machine, PREFIXED);
    let (through, own) = (format!("{HOST}/docker.io/library/thing:1"), format!("{HOST}/team/app:1"));
    pulls_through(&machine, || {
        machine.run(crane, &["pull", &through, &machine.path("image.tar")]);
        assert_eq!(machine.run(crane, &["digest", &through]).trim(), own_digest("tar"));
    });
    machine.run(crane, &["copy", &through, &own]);
    assert_eq!(machine.run(crane, &["digest", &own]).trim(), own_digest("tar"));
    machine.background("upstream", &[distribution(), "serve", &machine.path("upstream.yml")]);
    await_upstream(&machine);
    let refused = format!("{HOST}/docker.io/library/other:1");
    let refused = machine.command(crane).args(["copy", &own, &refused]).output().unwrap();
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && complaint.contains("repositories of an upstream are read-only"),
        "{complaint}"
    );
}

#[test]
fn crane_finds_a_signature_under_the_tag_of_cosign_through_an_upstream() {
    let crane = built("crane", "0.22.1");
    if lacks(&[distribution(), crane]) {
        return;
    }
    let machine = Machine::start();
    serve(&machine, PREFIXED);
    // cosign, which has the same library, keeps a payload as the layer of an image whose tag is made of the digest.
    let payload = machine.path("payload.tar");
    fs::write(machine.path("payload.json"), r#"{"critical":{}}"#).unwrap();
    machine.run("tar", &["-C", &machine.path(""), "-cf", &payload, "payload.json"]);
    let tag = format!("{}.sig", own_digest("tar").replace(':', "-"));
    let signature = format!("localhost:5001/library/thing:{tag}");
    machine.run(crane, &["append", "--new_layer", &payload, "--new_tag", &signature]);
    let manifest = machine.run(crane, &["manifest", &signature]);
    let parsed: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layer = parsed["layers"][0]["digest"].as_str().unwrap();
    pulls_through(&machine, || {
        let through = format!("{HOST}/docker.io/library/thing");
        assert_eq!(machine.run(crane, &["manifest", &format!("{through}:{tag}")]), manifest);
        // The blob is no text.
        machine
            .run("sh", &["-c", r#""$1" blob "$2" >/dev/null"#, "sh", crane, &format!("{through}@{layer}")]);
    });
    let unsigned = format!("{HOST}/docker.io/library/thing:{}.sig", "sha256-".to_owned() + &"0".repeat(64));
    let refused = machine.command(crane).args(["manifest", &unsigned]).output().unwrap();
    assert!(!refused.status.success());
}

/// Registries between this one and the other one: port and port of the next.
const CHAIN: [(&str, u16, u16); 2] = [("second", 5002, 5003), ("third", 5003, 5001)];

#[test]
fn crane_pulls_through_three_registries_in_a_row() {
    let crane = built("crane", "0.22.1");
    if lacks(&[distribution(), crane]) {
        return;
    }
    let machine = Machine::start();
    for (name, port, next) in CHAIN {
        let text =
            format!("{OURS}{PROXY}").replace("5000", &port.to_string()).replace("5001", &next.to_string());
        let text = text.replace("{folder}/ours", &machine.path(name));
        let file = machine.path(&format!("{name}.yml"));
        fs::write(&file, text).unwrap();
        machine.background(name, &[QUINISTRY, "serve", &file]);
        machine.await_registry(port);
    }
    serve(&machine, &PREFIXED.replace("5001", "5002"));
    let through = format!("{HOST}/docker.io/library/thing:1");
    let pull = || {
        machine.run(crane, &["pull", &through, &machine.path("image.tar")]);
        assert_eq!(machine.run(crane, &["digest", &through]).trim(), own_digest("tar"));
    };
    pull();
    // Each registry has the image from then on.
    for name in ["upstream", "third", "second"] {
        machine.stop(name);
        pull();
    }
    machine.stop("ours");
    start_ours(&machine);
    pull();
}

/// Configuration of distribution as a proxy of this registry.
const IN_FRONT: &str = "version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: '{folder}/front'}}
http: {addr: '127.0.0.1:5002'}
proxy: {remoteurl: 'http://127.0.0.1:5000'}
";

#[test]
fn distribution_pulls_through_this_registry_which_pulls_through_another_one() {
    let crane = built("crane", "0.22.1");
    if lacks(&[distribution(), crane]) {
        return;
    }
    let machine = Machine::start();
    serve(&machine, PREFIXED);
    let front = machine.path("front.yml");
    fs::write(&front, IN_FRONT.replace("{folder}", machine.path("").trim_end_matches('/'))).unwrap();
    machine.background("front", &[distribution(), "serve", &front]);
    await_distribution(&machine, 5002);
    pulls_through(&machine, || {
        let through = "localhost:5002/docker.io/library/thing:1";
        machine.run(crane, &["pull", through, &machine.path("image.tar")]);
        assert_eq!(machine.run(crane, &["digest", through]).trim(), own_digest("tar"));
    });
}

#[test]
fn oras_finds_referrers_through_an_upstream() {
    let oras = built("oras", "1.3.6");
    if lacks(&[distribution(), oras]) {
        return;
    }
    let machine = Machine::start();
    serve(&machine, PREFIXED);
    let note = machine.path("note.txt");
    fs::write(&note, "reviewed").unwrap();
    let attach =
        ["attach", "--plain-http", "--disable-path-validation", "--artifact-type", "application/x.note"];
    let file = format!("{note}:text/plain");
    machine.run(oras, &[&attach[..], &["localhost:5001/library/thing:1", &file]].concat());
    let subject = format!("{HOST}/docker.io/library/thing:1");
    let discover = || {
        let found = machine.run(oras, &["discover", "--plain-http", "--format", "json", &subject]);
        let found: serde_json::Value = serde_json::from_str(&found).unwrap();
        let referrers = found["referrers"].as_array().unwrap().clone();
        assert_eq!(referrers.len(), 1, "{found}");
        assert_eq!(referrers[0]["artifactType"], "application/x.note");
        referrers[0]["digest"].as_str().unwrap().to_owned()
    };
    pulls_through(&machine, || {
        // A discovery asks for the subject by HEAD, which stores nothing.
        machine.run(oras, &["manifest", "fetch", "--plain-http", &subject]);
        let artifact = format!("{HOST}/docker.io/library/thing@{}", discover());
        let folder = machine.path("pulled");
        machine
            .run(oras, &["pull", "--plain-http", "--allow-path-traversal", "--output", &folder, &artifact]);
        assert_eq!(fs::read_to_string(&note).unwrap(), "reviewed");
        fs::write(&note, "").unwrap();
    });
}
