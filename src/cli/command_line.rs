//! Parsing of the command line, usage errors, and the kubectl plugin's command line.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, FromArgMatches as _};

use super::exit::Exit;
use super::{Cli, help, output};
use crate::escape;

/// Name of this program as a plugin of kubectl.
const PLUGIN_NAME: &str = "kubectl-quinistry";

/// Parses the arguments of this process; ends it with help, or with a usage error.
#[must_use]
pub fn parse() -> Cli {
    let (command, arguments) = command_line(std::env::args_os().collect());
    match try_parse(command, arguments) {
        Ok(cli) => cli,
        Err(error) => end(&error),
    }
}

fn try_parse(mut command: Command, arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

fn end(error: &clap::Error) -> ! {
    if error.use_stderr() {
        output::complain(message(error).trim_end());
        std::process::exit(Exit::Usage as i32);
    }
    let failed = output::go_on_unread(output::print(error.render().to_string())).is_err();
    std::process::exit(if failed { Exit::Failure } else { Exit::Success } as i32);
}

/// Formats a usage error with near suggestions only, and without control characters.
fn message(error: &clap::Error) -> String {
    let typed = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(typed)) if error.kind() == ErrorKind::InvalidSubcommand => typed.as_str(),
        _ => "",
    };
    let mut lines = error.render().to_string();
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg] {
        if let Some(ContextValue::String(typed)) = error.get(kind) {
            lines = lines.replace(typed.as_str(), &escape::without_userinfo(typed));
        }
    }
    let far = |line: &&str| {
        let tip = line.trim_start();
        tip.starts_with("tip: some similar subcommands") || tip.starts_with("tip: a similar subcommand")
    };
    let mut text = String::new();
    for line in lines.lines() {
        if far(&line) {
            if let Some(near) = nearest(typed, error) {
                text = text + "  tip: a similar subcommand exists: '" + near + "'\n";
            }
        } else {
            text = text + &super::sanitize(line) + "\n";
        }
        // The first line says what is wrong with a value; help adds nothing to it.
        if error.kind() == ErrorKind::ValueValidation {
            break;
        }
    }
    text
}

/// Returns the suggestion that differs least from the argument that was typed; the parser suggests every
/// argument that has letters in common.
fn nearest<'a>(typed: &str, error: &'a clap::Error) -> Option<&'a str> {
    let suggestions = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(several)) => several.iter().map(String::as_str).collect(),
        Some(ContextValue::String(one)) => vec![one.as_str()],
        _ => Vec::new(),
    };
    let far = |name: &str| if name.starts_with(typed) { 0 } else { distance(typed, name) };
    let nearest = suggestions.into_iter().min_by_key(|name| far(name))?;
    (far(nearest) <= 1 + nearest.len() / 4).then_some(nearest)
}

/// Counts the letters to insert, remove or replace (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, candidate) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *candidate);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

/// Returns the command line that was typed, and the one that it is parsed by: kubectl's plugin has its own
/// help, and shows the status if no command is named.
fn command_line(mut arguments: Vec<OsString>) -> (Command, Vec<OsString>) {
    let is_plugin =
        arguments.first().is_some_and(|path| Path::new(path).file_name() == Some(PLUGIN_NAME.as_ref()));
    if !is_plugin {
        if arguments.get(1).is_some_and(|word| is_configuration(word)) {
            arguments.insert(1, "serve".into());
        }
        return (help::program(), arguments);
    }
    arguments[0] = "kubectl quinistry".into();
    let asks_for_help = |word: &OsString| ["-h", "--help", "-V", "--version"].iter().any(|flag| word == flag);
    let names_a_command = arguments
        .get(1)
        .is_some_and(|word| asks_for_help(word) || !word.as_encoded_bytes().starts_with(b"-"));
    if !names_a_command {
        arguments.insert(1, "status".into());
    }
    (help::plugin(), arguments)
}

/// Returns true if the first argument is a configuration file: distribution's image is started with it alone.
fn is_configuration(word: &OsStr) -> bool {
    Path::new(word).extension().is_some_and(|kind| kind == "yml" || kind == "yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &[&str]) -> String {
        let (command, arguments) = command_line(words.iter().map(Into::into).collect());
        message(&try_parse(command, arguments).unwrap_err())
    }

    #[test]
    fn a_plugin_of_kubectl_shows_the_status() {
        let given = |words: &[&str]| command_line(words.iter().map(Into::into).collect()).1;
        assert_eq!(given(&["/bin/kubectl-quinistry"]), ["kubectl quinistry", "status"]);
        assert_eq!(
            given(&["kubectl-quinistry", "-n", "edge"]),
            ["kubectl quinistry", "status", "-n", "edge"]
        );
        assert_eq!(given(&["kubectl-quinistry", "up"]), ["kubectl quinistry", "up"]);
        assert_eq!(given(&["kubectl-quinistry", "--help"]), ["kubectl quinistry", "--help"]);
        assert_eq!(given(&["/bin/quinistry"]), ["/bin/quinistry"]);
    }

    #[test]
    fn the_command_line_is_well_formed() {
        help::program().debug_assert();
        help::plugin().debug_assert();
        help::visible(&help::program()).debug_assert();
    }

    #[test]
    fn a_misspelt_command_is_told_the_nearest_one_and_no_other() {
        for (typed, meant) in [
            ("tag", "tags"),
            ("pul", "pull"),
            ("stauts", "status"),
            ("verfy", "verify"),
            ("complet", "completions"),
        ] {
            assert!(said(&["quinistry", typed]).contains(&format!("exists: '{meant}'")), "{typed}");
        }
        let (command, arguments) = command_line(["quinistry", "completion", "bash"].map(Into::into).into());
        assert!(try_parse(command, arguments).is_ok(), "kubectl's name of the command");
        for typed in ["completing", "comp", "collect-garbage"] {
            assert!(!said(&["quinistry", typed]).contains("operator'"), "{typed}");
        }
    }

    #[test]
    fn a_usage_error_is_harmless_on_a_terminal() {
        let said = said(&["quinistry", "tags", "a\u{1b}[2J\u{9b}/b"]);
        assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    #[test]
    fn a_configuration_file_alone_is_served() {
        let given = |words: &[&str]| command_line(words.iter().map(Into::into).collect()).1;
        for file in ["/etc/distribution/config.yml", "config.yaml"] {
            assert_eq!(given(&["quinistry", file]), ["quinistry", "serve", file]);
        }
        assert_eq!(given(&["quinistry", "serve", "a.yml"]), ["quinistry", "serve", "a.yml"]);
        assert_eq!(given(&["kubectl-quinistry", "a.yml"]), ["kubectl quinistry", "a.yml"]);
    }

    #[test]
    fn a_storage_flag_conflicts_with_a_configuration_file() {
        let flags = [
            "--storage=/srv",
            "--storage=/srv --upload-timeout=5",
            "--storage=memory --memory-limit=5",
            "--storage=/a --allow-sparse",
            "--storage=/a --exclusive",
        ];
        for flags in flags {
            let words: Vec<&str> =
                ["quinistry", "serve", "a.yml"].into_iter().chain(flags.split(' ')).collect();
            assert!(said(&words).contains("cannot be used with"), "{flags}");
        }
        let (command, arguments) = command_line(
            ["quinistry", "serve", "a.yml", "--read-only", "--no-delete"].map(Into::into).into(),
        );
        assert!(try_parse(command, arguments).is_ok());
    }
}
