//! `quinistry access check`, and the page about users and rules as written.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const PAGE: &str = include_str!("../../docs/users.md");

/// Returns the blocks of code in a language, without the indentation of the list that they are in.
fn blocks(language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    let blocks = PAGE.split(begin.as_str()).skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let without_indent = |block: &str| {
        let indent = block.len() - block.trim_start_matches(' ').len();
        let lines = block.lines().map(|line| line.get(indent..).unwrap_or_default());
        lines.flat_map(|line| [line, "\n"]).collect::<String>()
    };
    blocks.map(without_indent).collect()
}

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

#[test]
fn the_commands_of_the_page_print_what_it_says() {
    let rules = blocks("yaml").into_iter().find(|config| config.contains("team/**")).unwrap();
    let folder = folder(&rules);
    let commands = blocks("console");
    assert!(commands.len() >= 3, "{}", commands.len());
    for block in commands.into_iter().filter(|block| block.contains("access check")) {
        let (command, expected) = block.strip_prefix("$ quinistry ").unwrap().split_once('\n').unwrap();
        let output = quinistry(folder.path(), command);
        assert_eq!(text(&output.stdout), expected, "{command}: {}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{command}");
    }
}

#[test]
fn the_files_of_the_page_have_no_findings() {
    // The page names files of the reader's machine, which its own first command makes.
    let folder = folder("");
    let commands = blocks("console");
    let (make_certificate, rest) = commands[0].split_once('\n').unwrap();
    assert!(rest.starts_with("$ quinistry user add /etc/quinistry/htpasswd alice"), "{rest}");
    let make_certificate =
        make_certificate.strip_prefix("$ quinistry ").unwrap().replace("/etc/quinistry", ".");
    let made = quinistry(folder.path(), &make_certificate);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let users = "alice:$2y$10$iHuUcM2Jh8gTNPlRLJ0Cw.BXWYsTuBXAGTVnNjBmp0rRpWwoMjyK2\n";
    std::fs::write(folder.path().join("htpasswd"), users).unwrap();
    for (index, config) in blocks("yaml").into_iter().enumerate() {
        let config = config.replace("/etc/quinistry", folder.path().to_str().unwrap());
        std::fs::write(folder.path().join("config.yml"), &config).unwrap();
        let output = quinistry(folder.path(), "config check config.yml --strict");
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && stdout.starts_with("ok: "), "{stdout}{stderr}{config}");
        // The first one is the newcomer's, and the page says what the command answers.
        assert!(index > 0 || commands[1].contains(&stdout), "{stdout}{}", commands[1]);
    }
}

#[test]
fn the_exit_code_tells_whether_a_right_is_granted() {
    let rules = blocks("yaml").into_iter().find(|config| config.contains("team/**")).unwrap();
    let folder = folder(&rules);
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
    let rules = blocks("yaml").into_iter().find(|config| config.contains("team/**")).unwrap();
    let folder = folder(&rules);
    let output = quinistry(folder.path(), "access check config.yml bob team/app -o json");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["user"], &report["repository"]), (&"bob".into(), &"team/app".into()));
    assert_eq!(report["groups"], serde_json::json!(["dev"]));
    assert_eq!(
        report["rights"][1],
        serde_json::json!({
            "right": "push", "granted": true, "rule": {"file": "config.yml", "line": 18, "variable": null},
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
