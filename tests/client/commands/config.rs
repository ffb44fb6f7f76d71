//! `config check` and `config keys`.

use std::fs;
use std::process::Output;

use serde_json::Value;

use super::{bad, good, quinistry, stderr, stdout};
use crate::support::process::output;

/// Configuration with a warning and a secret.
const ACCEPTED: &str =
    "version: 0.1\nstorage: inmemory\nhttp: {addr: 'localhost:5000', secret: hunter2, adrr: x}\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a file, and returns its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn with_variables(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    output(quinistry(arguments).envs(variables.iter().copied())).unwrap()
}

#[test]
fn an_accepted_configuration_is_counted() {
    let folder = Folder::new();
    let file = folder.file("c.yml", ACCEPTED);
    let warning = format!("{file}:3:49: warning: http.adrr: is not known; did you mean addr?\n");
    assert_eq!(good(&["config", "check", &file]), format!("{warning}ok: 5 keys, 1 warning\n"));
    let strict = output(&mut quinistry(&["config", "check", &file, "--strict"])).unwrap();
    assert_eq!((strict.status.code(), stdout(&strict)), (Some(1), warning.as_str()));
}

#[test]
fn a_refused_configuration_ends_with_exit_code_1() {
    let folder = Folder::new();
    let file =
        folder.file("c.yml", "version: 0.1\nstorage: inmemory\nauth: {silly: {realm: a, service: b}}\n");
    let refused = output(&mut quinistry(&["config", "check", &file])).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let text = stdout(&refused);
    assert!(
        text.starts_with(&format!("{file}:3:8: error: auth.silly: ")) && text.lines().count() == 1,
        "{text}"
    );
    let json = output(&mut quinistry(&["config", "check", &file, "-o", "json"])).unwrap();
    assert_eq!(json.status.code(), Some(1));
    let json: Value = serde_json::from_str(stdout(&json)).unwrap();
    assert_eq!(json["passes"], false);
    assert_eq!(
        (&json["findings"][0]["line"], &json["findings"][0]["severity"]),
        (&3.into(), &"error".into())
    );
}

#[test]
fn the_configuration_in_effect_is_printed_without_secrets_and_findings() {
    let folder = Folder::new();
    let file = folder.file("c.yml", ACCEPTED);
    let shown = output(&mut quinistry(&["config", "check", &file, "--show"])).unwrap();
    assert!(shown.status.success());
    let text = stdout(&shown);
    assert!(text.contains("  addr: \"localhost:5000\" # from ") && !text.contains("hunter2"), "{text}");
    assert!(!text.contains("warning") && stderr(&shown).contains("warning: http.adrr"), "{}", stderr(&shown));
    let again = folder.file("again.yml", text);
    assert!(good(&["config", "check", &again]).contains("ok: "));
}

#[test]
fn the_environment_names_the_file_or_stands_alone() {
    let folder = Folder::new();
    let file = folder.file("c.yml", "version: 0.1\nstorage: inmemory\n");
    let named = with_variables(&["config", "check"], &[("REGISTRY_CONFIGURATION_PATH", &file)]);
    assert_eq!(stdout(&named), "ok: 2 keys, 0 warnings\n");
    let alone =
        with_variables(&["config", "check", "--show"], &[("REGISTRY_STORAGE_DELETE_ENABLED", "true")]);
    assert!(
        stdout(&alone).contains("    enabled: true # from REGISTRY_STORAGE_DELETE_ENABLED"),
        "{}",
        stdout(&alone)
    );
    assert!(stdout(&alone).contains("rootdirectory: /var/lib/registry # from default"), "{}", stdout(&alone));
    let nothing = bad(&["config", "check"], 2);
    assert!(nothing.contains("give CONFIG"), "{nothing}");
    let missing = bad(&["config", "check", "/nonexistent.yml"], 1);
    assert!(missing.contains("/nonexistent.yml"), "{missing}");
}

#[test]
fn every_key_is_listed() {
    let text = good(&["config", "keys"]);
    assert!(
        text.lines().any(|line| line.starts_with("http.addr ") && line.contains(":5000 by default")),
        "{text}"
    );
    let json: Value = serde_json::from_str(&good(&["config", "keys", "-o", "json"])).unwrap();
    assert_eq!(json["keys"].as_array().unwrap().len(), text.lines().count());
}
