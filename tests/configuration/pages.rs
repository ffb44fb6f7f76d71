//! The pages about users, passwords, tokens and TLS as written: their files and the commands of a newcomer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// Pages, each with its name and the number of its configurations.
const PAGES: [(&str, &str, usize); 4] = [
    ("users.md", USERS, 3),
    ("passwords-and-keys.md", include_str!("../../docs/passwords-and-keys.md"), 1),
    ("tokens.md", include_str!("../../docs/tokens.md"), 4),
    ("tls.md", include_str!("../../docs/tls.md"), 2),
];

/// Page about users and rules.
pub(super) const USERS: &str = include_str!("../../docs/users.md");

/// Folders of the reader's machine that the pages name.
const FOLDERS: [&str; 2] = ["/etc/quinistry", "/etc/distribution"];

/// Set with the public key of RFC 8037, A.2.
const KEY_SET: &str =
    r#"{"keys":[{"kid":"1","kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPJHURo"}]}"#;

/// Commands of the pages that need no engine and no registry that runs.
const COMMANDS: [&str; 8] = [
    "tls init ",
    "user add ",
    "user list ",
    "user remove ",
    "config check ",
    "key add ",
    "key list ",
    "openssl genpkey ",
];

/// Returns the blocks of code in a language, without the indentation of the list that they are in.
pub(super) fn blocks(page: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    let blocks = page.split(begin.as_str()).skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let without_indent = |block: &str| {
        let indent = block.len() - block.trim_start_matches(' ').len();
        let lines = block.lines().map(|line| line.get(indent..).unwrap_or_default());
        lines.flat_map(|line| [line, "\n"]).collect::<String>()
    };
    blocks.map(without_indent).collect()
}

/// Replaces the folders of the reader's machine by one of the test.
pub(super) fn moved(text: &str, folder: &Path) -> String {
    FOLDERS.iter().fold(text.to_owned(), |text, from| text.replace(from, folder.to_str().unwrap()))
}

/// Runs a line of a shell, in which `quinistry` is the program of the test.
fn shell(line: &str, folder: &Path) -> Output {
    let programs = Path::new(env!("CARGO_BIN_EXE_quinistry")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).env_clear().env("PATH", path).output().unwrap()
}

/// Runs a line that must succeed.
fn done(line: &str, folder: &Path) -> String {
    let output = shell(line, folder);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Writes the files that the configurations of the pages name.
fn write_named_files(folder: &Path) {
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("password", "secret\n");
    done("quinistry tls init . --host registry.example.com", folder);
    done("quinistry user add htpasswd alice --password-stdin < password", folder);
    fs::copy(folder.join("ca.crt"), folder.join("clients.crt")).unwrap();
    write("auth.pem", include_str!("../../src/registry/auth/token/tests/root.pem"));
    write("auth.json", KEY_SET);
    write("quinistry.json", KEY_SET);
    write("token.pem", include_str!("../../src/registry/auth/token/tests/leaf.key"));
    fs::set_permissions(folder.join("token.pem"), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn every_configuration_of_the_pages_is_a_whole_file_without_findings() {
    let folder = tempfile::tempdir().unwrap();
    write_named_files(folder.path());
    for (name, page, count) in PAGES {
        let configurations = blocks(page, "yaml");
        assert_eq!(configurations.len(), count, "{name}");
        for text in configurations {
            let text = moved(&text, folder.path());
            fs::write(folder.path().join("config.yml"), &text).unwrap();
            let output = shell("quinistry config check config.yml --strict", folder.path());
            let found = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{name}: {found}{text}");
            assert!(found.lines().last().unwrap().starts_with("ok: "), "{name}: {found}{text}");
        }
    }
}

#[test]
fn the_commands_of_the_pages_work_on_a_fresh_machine() {
    for (name, page, _) in PAGES {
        let machine = tempfile::tempdir().unwrap();
        let folder = machine.path().join("etc/quinistry");
        fs::write(machine.path().join("password"), "secret\n").unwrap();
        let languages: Vec<String> =
            ["sh", "console"].into_iter().flat_map(|language| blocks(page, language)).collect();
        let lines = languages.iter().flat_map(|block| block.lines());
        let lines = lines.map(|line| line.trim_start_matches("$ "));
        let is_command = |line: &&str| {
            let line = line.strip_prefix("quinistry ").unwrap_or(line);
            COMMANDS.iter().any(|command| line.starts_with(command))
        };
        let mut configurations = blocks(page, "yaml").into_iter();
        let mut ran = 0;
        for line in lines.filter(is_command) {
            let mut line = moved(line, &folder);
            if line.contains(" user add ") && !line.contains("--password-stdin") {
                line.push_str(" --password-stdin < password");
            }
            // The reader writes the first file of the page before the commands that read it.
            if (line.contains("config check") || line.contains("openssl"))
                && let Some(text) = configurations.next()
            {
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("config.yml"), moved(&text, &folder)).unwrap();
            }
            done(&line, machine.path());
            ran += 1;
        }
        assert!(ran > 0, "{name}");
    }
}

#[test]
fn the_page_about_configurations_shows_what_the_check_says() {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 0.1\nstorage:\n  s3:\n    bucket: b\nhttp:\n  adrr: :5000\n";
    fs::write(folder.path().join("config.yml"), text).unwrap();
    let page = blocks(include_str!("../../docs/configuration.md"), "console");
    let (command, expected) = page[0].split_once('\n').unwrap();
    let output = shell(command.strip_prefix("$ ").unwrap(), folder.path());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}
