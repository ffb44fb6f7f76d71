//! Tests of the access to a cluster: proxies and kubeconfigs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::scripted_registry::{Answer, ScriptedRegistry};

/// Returns a Status of the API server, which ends every command.
fn forbidden() -> Answer {
    let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"not you","code":403}"#;
    Answer::new(403).with("content-type", "application/json").body(status)
}

fn kubeconfig(folder: &Path, server: &str, more: &str) -> PathBuf {
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
         clusters:\n- name: a\n  cluster: {{server: '{server}'{more}}}\n\
         users: [{{name: a, user: {{}}}}]\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn status(kubeconfig: &Path, variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quinistry"))
        .args(["status", "--kubeconfig", kubeconfig.to_str().unwrap()])
        .stdin(Stdio::null())
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_proxy_of_the_kubeconfig_is_asked_whatever_the_environment_excepts() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = ScriptedRegistry::start(|_| forbidden());
    let more = format!(", proxy-url: 'http://user:hunter2@{}'", proxy.host);
    let path = kubeconfig(folder.path(), "http://cluster.test", &more);
    let output = status(&path, &[("NO_PROXY", "*"), ("HTTPS_PROXY", "http://127.0.0.1:1")]);
    assert!(stderr(&output).contains("not you"), "{}", stderr(&output));
    let requests = proxy.requests();
    assert!(requests[0].target.starts_with("http://cluster.test/apis/"), "{}", requests[0].target);
    assert!(requests[0].header("proxy-authorization").is_some());
}

#[test]
fn the_environments_proxies_are_taken_and_their_exceptions_too() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = ScriptedRegistry::start(|_| forbidden());
    let url = format!("http://{}", proxy.host);
    let far = kubeconfig(folder.path(), "http://cluster.test", "");
    assert!(stderr(&status(&far, &[("http_proxy", &url)])).contains("not you"));
    assert_eq!(proxy.requests().len(), 1);

    let server = ScriptedRegistry::start(|_| forbidden());
    let near = kubeconfig(folder.path(), &format!("http://{}", server.host), "");
    for variables in [
        &[("HTTP_PROXY", url.as_str()), ("HTTPS_PROXY", &url)][..],
        &[("ALL_PROXY", &url), ("NO_PROXY", "127.0.0.0/8")],
    ] {
        assert!(stderr(&status(&near, variables)).contains("not you"));
    }
    assert_eq!(proxy.requests().len(), 1, "loopback is reached straight");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_malformed_kubeconfig_is_named_with_its_place_and_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    for text in [
        "users:\n- name: a\n  user:\n    token: [hunter2\n",
        "users:\n- name: a\n  user:\n    token: {a: hunter2}\n",
        "hunter2\n",
    ] {
        fs::write(&path, text).unwrap();
        for variables in [&[][..], &[("KUBECONFIG", path.to_str().unwrap())]] {
            let output = status(&path, variables);
            let text = stderr(&output);
            assert!(!text.contains("hunter2") && text.lines().count() == 1, "{text}");
            assert!(text.contains("line ") && text.contains(path.to_str().unwrap()), "{text}");
        }
    }
}
