//! Tests of `serve`: its refusals to start, and its answers to writes without storage.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use super::{bad, quinistry, run, stderr};
use crate::support::process::{command, output};
use crate::support::server::{PROGRAM, SERVE, Server};
use crate::support::skip::{Need, lacks};

#[test]
fn a_configuration_file_that_is_not_there_is_named() {
    for arguments in [&["serve", "config.yml"][..], &["/nowhere/config.yml"]] {
        let said = bad(arguments, 1);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("failed to read configuration") && said.contains("config.yml"), "{said}");
    }
}

#[test]
fn a_flag_that_needs_storage_says_so() {
    for flag in ["--read-only", "--no-delete"] {
        let said = bad(&["serve", flag], 2);
        assert!(said.contains(&format!("{flag} needs --storage DIR")), "{said}");
    }
}

#[test]
fn a_lock_in_a_variable_keeps_it_from_starting() {
    for arguments in [&SERVE[..], &["--listen", "127.0.0.1:0"]] {
        let output = output(quinistry(arguments).env("REGISTRY_HTTP_TLS_CERTIFICATE", "/tls.crt")).unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).starts_with("REGISTRY_HTTP_TLS_CERTIFICATE: error: "), "{}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1);
    }
}

#[test]
fn service_links_of_kubernetes_are_ignored() {
    let server = Server::launch(
        command(PROGRAM)
            .args(SERVE)
            .env("REGISTRY_PORT", "tcp://10.96.0.7:5000")
            .env("REGISTRY_SERVICE_HOST", "10.96.0.7")
            .env("REGISTRY_PORT_5000_TCP_ADDR", "10.96.0.7"),
    );
    assert_eq!(server.peer.get("/v2/").status, 200);
}

#[test]
fn a_refused_push_names_the_option() {
    let server = Server::start();
    let output = run(&["push", "--self", &format!("{}/a:1", server.peer.0)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--storage"), "{}", stderr(&output));
}

#[test]
fn a_folder_of_another_user_is_answered_with_the_command_that_mends_it() {
    if lacks(&[Need::Root, Need::Tool("setpriv")]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(folder.path(), Some(0), Some(0)).unwrap();
    let path = folder.path().to_str().unwrap();
    let mut other_user = command("setpriv");
    other_user.args(["--reuid", "65532", "--regid", "65532", "--clear-groups", PROGRAM]);
    let output = output(other_user.args(SERVE).args(["--storage", path])).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains(&format!("`chown 65532:65532 {path}`")), "{}", stderr(&output));
}
