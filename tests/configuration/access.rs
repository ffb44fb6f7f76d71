//! `quinistry access check`, and the page about users and rules as written.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::pages::{USERS, blocks, moved};

fn quinistry(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quinistry"));
    command.args(arguments.split_whitespace()).current_dir(folder).env_clear().output().unwrap()
}

/// Returns a folder with a configuration.
fn folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yml"), config).unwrap();
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Returns the example of the page about rules.
fn rules() -> String {
    blocks(USERS, "yaml").into_iter().find(|config| config.contains("team/**")).unwrap()
}

#[test]
fn the_commands_of_the_page_print_what_it_says() {
    let folder = folder("");
    let config = moved(&rules(), folder.path());
    std::fs::write(folder.path().join("config.yml"), config).unwrap();
    let commands = blocks(USERS, "console");
    let commands = commands.into_iter().filter(|block| block.contains("access check"));
    let mut ran = 0;
    for block in commands {
        let block = moved(&block, folder.path());
        let (command, expected) = block.strip_prefix("$ quinistry ").unwrap().split_once('\n').unwrap();
        let output = quinistry(folder.path(), command);
        assert_eq!(text(&output.stdout), expected, "{command}: {}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{command}");
        ran += 1;
    }
    assert!(ran >= 3, "{ran}");
}

#[test]
fn the_page_says_what_the_check_of_its_first_file_answers() {
    let folder = folder("");
    let config = moved(&blocks(USERS, "yaml")[0], folder.path());
    std::fs::write(folder.path().join("config.yml"), config).unwrap();
    let users = "alice:$2y$10$iHuUcM2Jh8gTNPlRLJ0Cw.BXWYsTuBXAGTVnNjBmp0rRpWwoMjyK2\n";
    std::fs::write(folder.path().join("htpasswd"), users).unwrap();
    assert!(quinistry(folder.path(), "tls init . --host localhost").status.success());
    let answer = text(&quinistry(folder.path(), "config check config.yml").stdout);
    assert!(answer.starts_with("ok: ") && blocks(USERS, "console")[1].contains(&answer), "{answer}");
}

#[test]
fn the_exit_code_tells_whether_a_right_is_granted() {
    let folder = folder(&rules());
    for (arguments, expected) in [
        ("access check config.yml bob team/app --can push", 0),
        ("access check config.yml bob team/secret/app --can pull", 1),
        ("access check config.yml bob team/secret/app", 0),
        ("access check config.yml bob Team/App", 2),
        ("access check config.yml bob team/app --can read", 2),
        ("access check absent.yml bob team/app", 1),
        ("access check config.yml authenticated team/app", 2),
        ("access check config.yml group:dev team/app", 2),
    ] {
        let output = quinistry(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(expected), "{arguments}: {}", text(&output.stderr));
    }
}

#[test]
fn programs_get_the_rights_with_their_rules() {
    let folder = folder(&rules());
    let output = quinistry(folder.path(), "access check config.yml bob team/app -o json");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["user"], &report["repository"]), (&"bob".into(), &"team/app".into()));
    assert_eq!(report["groups"], serde_json::json!(["dev"]));
    assert_eq!(
        report["rights"][1],
        serde_json::json!({
            "right": "push", "granted": true, "rule": {"file": "config.yml", "line": 21, "variable": null},
        })
    );
    assert_eq!(report["rights"][4], serde_json::json!({"right": "admin", "granted": false, "rule": null}));
    let output = quinistry(folder.path(), "access check config.yml anonymous public/app -o json");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["user"], &report["rights"][0]["granted"]), (&Value::Null, &true.into()));
}

#[test]
fn without_rules_the_command_says_who_may_do_everything() {
    let open = folder("version: 0.1\nstorage: inmemory\n");
    let output = quinistry(open.path(), "access check config.yml anonymous app");
    assert!(text(&output.stdout).contains("pull       yes  there are neither users nor rules"));
    let users = "version: 0.1\nstorage: inmemory\nauth: {htpasswd: {realm: r, path: /x}}\n";
    let users = folder(users);
    let output = quinistry(users.path(), "access check config.yml bob app");
    let expected = "pull       yes  there are no rules, and every user may do everything";
    assert!(text(&output.stdout).contains(expected), "{output:?}");
    let output = quinistry(users.path(), "access check config.yml anonymous app --can pull");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_right_that_a_setting_takes_from_every_client_is_not_granted() {
    let rules = "quinistry: {access: [{repositories: ['**'], who: [bob], can: [admin]}]}\n\
                 auth: {htpasswd: {realm: r, path: /x}}\n";
    let without_delete = folder(&format!("version: 0.1\nstorage: inmemory\n{rules}"));
    let output = quinistry(without_delete.path(), "access check config.yml bob app");
    let stdout = text(&output.stdout);
    assert!(stdout.contains("push       yes  config.yml:3:"), "{stdout}");
    assert!(stdout.contains("delete     no   storage.delete.enabled is false\n"), "{stdout}");
    let output = quinistry(without_delete.path(), "access check config.yml bob app --can delete -o json");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(
        report["rights"][3],
        serde_json::json!({
            "right": "delete", "granted": false, "rule": null, "disabledBy": "storage.delete.enabled is false",
        })
    );
    let storage =
        "storage: {inmemory: {}, delete: {enabled: true}, maintenance: {readonly: {enabled: true}}}\n";
    let read_only = folder(&format!("version: 0.1\n{storage}{rules}"));
    let stdout = text(&quinistry(read_only.path(), "access check config.yml bob app").stdout);
    let refusals = stdout.matches("no   storage.maintenance.readonly.enabled is true\n").count();
    assert!(refusals == 3 && stdout.contains("pull       yes"), "{stdout}");
}

#[test]
fn the_built_in_repository_is_read_by_all_or_by_rule_and_written_by_none() {
    let file = |builtin: &str| {
        format!(
            "version: 0.1\nstorage: {{inmemory: {{}}, delete: {{enabled: true}}}}\n\
             auth: {{htpasswd: {{realm: r, path: /x}}}}\nquinistry:\n  builtin: {{anonymous: {builtin}}}\n  \
             access: [{{repositories: ['**'], who: [bob], can: [admin]}}]\n"
        )
    };
    let rights = |builtin: &str, user: &str| {
        let folder = folder(&file(builtin));
        text(&quinistry(folder.path(), &format!("access check config.yml {user} quinistry")).stdout)
    };
    let public = "pull       yes  quinistry.builtin.anonymous is true\n";
    let writes = ["push     ", "overwrite", "delete   "];
    let writes = writes.map(|right| format!("{right}  no   the built-in repository is read-only\n")).concat();
    let by_nothing = format!("anonymous in quinistry:\npull       no\n{writes}admin      no\n");
    let as_public = format!("anonymous in quinistry:\n{public}{writes}admin      no\n");
    assert_eq!((rights("true", "anonymous"), rights("false", "anonymous")), (as_public, by_nothing));
    let rule = "yes  config.yml:6:12\n";
    assert_eq!(rights("true", "bob"), format!("bob in quinistry:\n{public}{writes}admin      {rule}"));
    let by_rule = format!("bob in quinistry:\npull       {rule}{writes}admin      {rule}");
    assert_eq!(rights("false", "bob"), by_rule);
    let open = folder("version: 0.1\nstorage: inmemory\n");
    let stdout = text(&quinistry(open.path(), "access check config.yml anonymous quinistry").stdout);
    assert!(
        stdout.contains("pull       yes  there are neither users nor rules\npush       no   the"),
        "{stdout}"
    );
    let public = folder(&file("true"));
    let output = quinistry(public.path(), "access check config.yml anonymous quinistry --can pull -o json");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    let pull = serde_json::json!({
        "right": "pull", "granted": true, "rule": null, "enabledBy": "quinistry.builtin.anonymous is true",
    });
    assert_eq!(report["rights"][0], pull);
}

#[test]
fn a_word_that_is_no_user_is_refused() {
    let open = folder("version: 0.1\nstorage: inmemory\n");
    for (user, expected) in [
        ("", "is empty; give the name of a user"),
        ("authenticated", "stands for every user; give the name of one"),
        ("group:dev", "stands for a group; give the name of one of its members"),
        ("a\nb", "has a line break or another control character"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quinistry"));
        command.args(["access", "check", "config.yml", user, "app"]).current_dir(&open).env_clear();
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{user:?}");
        assert!(text(&output.stderr).contains(expected), "{user:?}: {}", text(&output.stderr));
    }
}
