//! Quiet results, closed pipes, terminals, and what `verify` says of which image.

use std::process::Stdio;

use super::{bad, good, quinistry, registry, run, stderr};
use crate::support::client::{honest, image};
use crate::support::process::{command, output, spawn};
use crate::support::scripted_registry::ScriptedRegistry;
use crate::support::server::PROGRAM;
use crate::support::skip::{Need, lacks};

#[test]
fn quiet_commands_print_the_essential_result_alone() {
    let (server, host) = registry();
    let (name, copy) = (format!("{host}/a:1"), format!("{host}/b:1"));
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("q.tar");
    let archive = archive.to_str().unwrap();
    let digest = format!("{}\n", server.manifest);
    for arguments in [
        &["push", "-q", "--self", &name][..],
        &["inspect", "-q", &name],
        &["verify", "--quiet", &name],
        &["pull", "-q", &name, archive],
        &["push", "-q", archive, &copy],
        &["bundle", "-q", archive, &name],
        &["copy", "-q", "--all", &name, &format!("{host}/c:1")],
        &["bootstrap", "-q", "--base-port", "0", "--generations", "2"],
    ] {
        let output = run(arguments);
        assert_eq!(String::from_utf8_lossy(&output.stdout), digest, "{arguments:?}");
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
    assert_eq!(good(&["tags", "-q", &name]), "1\n");
    assert_eq!(good(&["list", "-q", &host]), "a\nb\nc\nquinistry\n");
    assert_eq!(good(&["version", "-q"]), concat!(env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(good(&["delete", "-q", &name]), format!("{name}\n"));
    let failed = bad(&["delete", "-q", &name], 1);
    assert_eq!(failed.lines().count(), 1, "errors are told: {failed}");
    bad(&["tags", "-q", "-o", "json", &name], 2);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (_server, host) = registry();
    let builtin = format!("{host}/quinistry:latest");
    for arguments in [
        &["image", "save", "-"][..],
        &["image", "digest"],
        &["image", "manifest"],
        &["pull", &builtin, "-"],
        &["tags", &builtin],
        &["inspect", "-o", "json", &builtin],
        &["bootstrap", "--base-port", "0"],
        &["version"],
        &["crd"],
        &["--help"],
        &["completions", "zsh"],
    ] {
        let mut child = spawn(quinistry(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()));
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_closed_standard_error_is_no_panic() {
    let mut child = spawn(quinistry(&["tags", "127.0.0.1:1/a"]).stderr(Stdio::piped()));
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn an_archive_is_not_written_to_a_terminal() {
    if lacks(&[Need::Tool("script")]) {
        return;
    }
    for path in ["-", "/dev/tty", "/dev/stdout", "/proc/self/fd/1"] {
        let shell = format!("{PROGRAM} image save {path}; echo code $?");
        let output = output(command("script").args(["-qec", &shell, "/dev/null"])).unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("is a terminal") && said.contains("code 1"), "{path}: {said:.300}");
        assert!(said.len() < 1000, "{path}: {} bytes", said.len());
    }
}

#[test]
fn verify_compares_only_what_is_an_image_of_quinistry() {
    let (_server, host) = registry();
    assert!(good(&["verify", &format!("{host}/quinistry")]).ends_with("fixed point: yes\n"));
    let other = ScriptedRegistry::start(|request| honest(&image(), request));
    let said = good(&["verify", &format!("{}/a", other.host)]);
    assert!(said.contains("not a quinistry image: ") && said.contains("no fixed point to compare"), "{said}");
    assert!(!said.contains("fixed point: no"), "{said}");

    // The image for nodes has another digest, and serves the same fixed point.
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("q.tar");
    let archive = archive.to_str().unwrap();
    good(&["image", "save", "--bootstrap", archive]);
    let name = format!("{host}/nodes:1");
    good(&["push", archive, &name]);
    let said = good(&["verify", &name]);
    assert!(said.contains("fixed point: yes, by the bootstrap image"), "{said}");
}
