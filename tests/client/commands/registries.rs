//! The client's subcommands: what people and scripts see of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use quinistry::oci::Digest;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::client::{honest, image, with_tokens};
use crate::support::distribution::Distribution;
use crate::support::images::{Image, Packing, docker_archive};
use crate::support::process::{command, no_forks, output, output_with, spawn};
use crate::support::scripted_registry::{Answer, ScriptedRegistry};
use crate::support::server::PROGRAM;

fn quinistry(arguments: &[&str]) -> Command {
    let mut command = command(PROGRAM);
    command.args(arguments).stdin(Stdio::null()).env("DOCKER_CONFIG", "/nonexistent");
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The one line of a failure.
fn failure(arguments: &[&str]) -> String {
    let output = output(&mut quinistry(arguments)).unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!((text.lines().count(), output.stdout.as_slice()), (1, b"".as_slice()), "{text}");
    text
}

#[test]
fn the_program_carries_an_image_from_a_docker_archive_to_a_registry_and_back() {
    let Some(registry) = Distribution::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("docker.tar");
    let plain = Image::new("amd64", &["one", "two"], Packing::Plain);
    fs::write(&archive, docker_archive(&plain, "x:y")).unwrap();
    let name = format!("{}/a:b", registry.host);
    let run = |arguments: &[&str]| {
        let output = output(&mut quinistry(arguments)).unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "nothing is drawn where there is no terminal");
        output.stdout
    };
    let text = |arguments: &[&str]| String::from_utf8(run(arguments)).unwrap();
    let pushed = text(&["push", archive.to_str().unwrap(), &name]);
    let (_, digest) = pushed.trim_end().split_once('@').unwrap();
    assert_eq!(pushed, format!("{name}@{digest}\n"));
    assert_eq!(Digest::sha256(&run(&["inspect", "--raw", &name])).as_str(), digest);
    let summary = text(&["inspect", &name]);
    assert!(summary.contains(digest) && summary.contains("linux/amd64"), "{summary}");
    assert_eq!(text(&["tags", &name]), "b\n");
    assert_eq!(text(&["list", &registry.host]), "a\n");
    let verified = text(&["verify", &name, "--expect", digest]);
    assert!(verified.contains("not a quinistry image: 3 blobs, "), "{verified}");
    let path = folder.path().join("back.tar");
    let pulled = text(&["pull", &name, path.to_str().unwrap()]);
    assert_eq!(pulled, format!("{}/a@{digest}\n", registry.host));
    assert_eq!(run(&["pull", &name, "-"]), fs::read(&path).unwrap());
    let other = Digest::sha256(b"");
    assert!(failure(&["verify", &name, "--expect", other.as_str()]).contains("another digest"));
}

#[test]
fn failures_are_one_line_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.tar");
    let path = path.to_str().unwrap();
    let error = failure(&["pull", "127.0.0.1:1/x", path]);
    assert!(error.contains("failed to reach 127.0.0.1:1 (is a registry running there?)"), "{error}");
    let registry = ScriptedRegistry::start(|request| {
        let answer = honest(&image(), request);
        if request.path().contains("/blobs/") { answer.cut_after(20) } else { answer }
    });
    let name = format!("{}/a", registry.host);
    assert!(failure(&["pull", &name, path]).contains("failed to fetch blob"));
    assert!(failure(&["pull", &name, path, "--format", "oci-layout"]).contains("failed to fetch blob"));
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "no half-written output");
    assert!(failure(&["push", "/dev/null", &name]).contains("/dev/null is not a regular file"));
    assert!(failure(&["push", "/missing", &name]).contains("/missing"));
    let registry = ScriptedRegistry::start(|request| honest(&image(), request));
    let full = failure(&["pull", &format!("{}/a", registry.host), "/dev/full"]);
    assert!(full.contains("failed to write /dev/full: No space left on device"), "{full}");
}

#[test]
fn a_closed_standard_output_is_no_panic() {
    let mut child = spawn(quinistry(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()));
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_login_is_tried_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let registry = with_tokens();
    let login = |password: &str| {
        let mut login = quinistry(&["login", &registry.host, "-u", "user", "--password-stdin"]);
        output_with(login.env("DOCKER_CONFIG", folder.path()), password.as_bytes()).unwrap()
    };
    let refused = login("wrong\n");
    assert!(stderr(&refused).contains("refused the credentials"), "{}", stderr(&refused));
    assert!(!folder.path().join("config.json").exists());
    let accepted = login("hunter2\n");
    assert!(accepted.status.success(), "{}", stderr(&accepted));
    let mut inspect = quinistry(&["inspect", "--raw", &format!("{}/a", registry.host)]);
    let inspected = output(inspect.env("DOCKER_CONFIG", folder.path())).unwrap();
    assert_eq!(inspected.stdout, image().manifest);
    let logout = || {
        let mut logout = quinistry(&["logout", &registry.host]);
        let output = output(logout.env("DOCKER_CONFIG", folder.path())).unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(logout(), format!("logged out of {}\n", registry.host));
    assert!(!fs::read_to_string(folder.path().join("config.json")).unwrap().contains(&registry.host));
    assert_eq!(logout(), format!("there were no credentials for {}\n", registry.host));
}

#[test]
fn a_credential_helper_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let helper = folder.path().join("docker-credential-scripted");
    let script = "#!/bin/sh\nread host; printf '{\"ServerURL\":\"%s\",\"Username\":\"user\",\"Secret\":\"hunter2\"}' \"$host\"\n";
    {
        let _guard = no_forks();
        fs::write(&helper, script).unwrap();
    }
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("config.json"), r#"{"credsStore":"scripted"}"#).unwrap();
    let registry = with_tokens();
    let output = output(
        quinistry(&["inspect", "--raw", &format!("{}/a", registry.host)])
            .env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap()))
            .env("DOCKER_CONFIG", folder.path()),
    )
    .unwrap();
    assert_eq!(output.stdout, image().manifest, "{}", stderr(&output));
}

#[test]
fn proxies_are_for_other_hosts_only() {
    let proxy = ScriptedRegistry::start(|_| Answer::ok(r#"{"repositories":["proxied"]}"#));
    let registry = ScriptedRegistry::start(|_| Answer::ok(r#"{"repositories":["direct"]}"#));
    let list = |host: &str| {
        let mut command = quinistry(&["list", "--plain-http", host]);
        let output = output(command.env("http_proxy", format!("http://{}", proxy.host))).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(list("registry.invalid"), "proxied\n");
    assert_eq!(list(&registry.host), "direct\n");
    assert_eq!(list(&registry.host.replace("127.0.0.1", "localhost")), "direct\n");
    assert_eq!(proxy.requests()[0].target, "http://registry.invalid/v2/_catalog?n=1000");
}

#[test]
fn an_interrupted_pull_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let registry = ScriptedRegistry::start(move |request| {
        if request.path().contains("/blobs/") {
            sender.send(()).unwrap();
            loop {
                std::thread::park();
            }
        }
        honest(&image(), request)
    });
    let path = folder.path().join("out.tar");
    let mut pull = quinistry(&["pull", &format!("{}/a", registry.host), path.to_str().unwrap()]);
    let mut child = spawn(pull.stderr(Stdio::null()));
    receiver.recv().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_without_certificates_is_named() {
    let error = failure(&["list", "localhost:1", "--ca", "/dev/null"]);
    assert!(
        error.contains("failed to read certificates from /dev/null: it holds no PEM certificate"),
        "{error}"
    );
}

#[test]
fn no_word_of_a_registry_reaches_the_terminal_with_its_escape_sequences() {
    let evil = "x\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\u{7f}\ny";
    let json = serde_json::to_string(evil).unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","annotations":{{{json}:{json}}},
            "manifests":[{{"mediaType":{json},"digest":"sha256:{0}","size":1,"artifactType":{json},
            "platform":{{"os":{json},"architecture":{json},"variant":{json}}}}}]}}"#,
        "0".repeat(64)
    );
    let registry = ScriptedRegistry::start(move |request| {
        let kind = "application/vnd.oci.image.index.v1+json";
        match request.path() {
            "/v2/_catalog" => Answer::ok(format!(r#"{{"repositories":[{json}]}}"#)),
            path if path.ends_with("/tags/list") => Answer::ok(format!(r#"{{"tags":[{json}]}}"#)),
            path if path.contains("/manifests/no")
                || path.contains("/uploads/")
                || path.contains("/blobs/") =>
            {
                Answer::new(403).body(format!(r#"{{"errors":[{{"code":{json},"message":{json}}}]}}"#))
            }
            _ => Answer::ok(manifest.clone()).with("content-type", kind),
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.tar");
    let out = out.to_str().unwrap();
    let name = |tag: &str| format!("{}/a:{tag}", registry.host);
    let (good, no) = (name("1"), name("no"));
    let commands: [&[&str]; 10] = [
        &["inspect", &good],
        &["inspect", &no],
        &["pull", &good, out],
        &["pull", &no, out],
        &["verify", &good],
        &["tags", &good],
        &["list", &registry.host],
        &["referrers", &good],
        &["delete", &no],
        &["copy", &good, &no],
    ];
    for arguments in commands {
        let output = output(&mut quinistry(arguments)).unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let dangerous = |c: char| c != '\n' && quinistry::escape::is_dangerous(c);
        assert!(!text.is_empty() && !text.contains(dangerous), "{arguments:?}: {text:?}");
    }
}

#[test]
fn a_password_in_a_name_is_not_repeated() {
    for arguments in [
        &["inspect", "user:hunter2@localhost:1/a:1"][..],
        &["tags", "https://user:hunter2@localhost:1/a"],
        &["list", "user:hunter2@localhost:1"],
        &["push", "user:hunter2@localhost:1/a"],
        &["push", "--self", "user:hunter2@localhost:1/a"],
        &["image", "save", "--name", "user:hunter2@localhost:1/a", "/nonexistent/x"],
        &["probe", "http://user:hunter2@127.0.0.1:1/v2/?token=hunter2"],
    ] {
        let output = output(&mut quinistry(arguments)).unwrap();
        let text = stderr(&output);
        assert!(!output.status.success() && !text.contains("hunter2"), "{arguments:?}: {text}");
    }
}

#[test]
fn a_registry_is_asked_through_the_proxy_of_the_environment_unless_it_is_excepted() {
    let proxy = ScriptedRegistry::start(|_| Answer::ok(r#"{"tags":["b"]}"#));
    let tags = |host: &str, except: &str| {
        let mut command = quinistry(&["tags", "--plain-http", &format!("{host}/a")]);
        command.env("HTTP_PROXY", format!("http://user:pass@{}", proxy.host)).env("NO_PROXY", except);
        output(&mut command).unwrap()
    };
    assert_eq!(tags("registry.test:5000", "registry.test:5001").stdout, b"b\n");
    let request = &proxy.requests()[0];
    assert!(request.target.starts_with("http://registry.test:5000/v2/a/tags/list"), "{}", request.target);
    assert_eq!(request.header("proxy-authorization"), Some("Basic dXNlcjpwYXNz"));
    let near = ScriptedRegistry::start(|_| Answer::ok(r#"{"tags":["c"]}"#));
    assert_eq!(tags(&near.host, "").stdout, b"c\n");
    assert_eq!(proxy.requests().len(), 1);
}
