//! Help: subcommands in groups, two examples for each, and the parts that kubectl's plugin and other tools
//! show.

mod examples;

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use self::examples::EXAMPLES;
use super::exit::Exit;

/// Name of a group, and its subcommands in the order in which they are shown.
type Group = (&'static str, &'static [&'static str]);

/// Every subcommand that is not hidden, once.
const GROUPS: &[Group] = &[
    (
        "Registry",
        &[
            "serve",
            "config",
            "user",
            "key",
            "access",
            "tls",
            "mirrors",
            "policy",
            "upstream",
            "storage",
            "prepare-storage",
            "gc",
            "retention",
            "fsck",
            "migrate",
            "garbage-collect",
            "bootstrap",
            "image",
        ],
    ),
    (
        "Images and registries",
        &[
            "pull",
            "push",
            "copy",
            "bundle",
            "load",
            "delete",
            "verify",
            "inspect",
            "referrers",
            "tags",
            "list",
            "login",
            "logout",
        ],
    ),
    ("Cluster", &["check", "up", "status", "down", "operator", "crd"]),
    ("Tools", &["probe", "version", "completions", "man", "help"]),
];

/// Groups of commands in the help of kubectl's plugin.
const PLUGIN_GROUPS: &[Group] =
    &[("Cluster", &["check", "up", "status", "down", "crd"]), ("Tools", &["version", "help"])];

/// Heading of the examples, in help and manual pages.
const EXAMPLES_HEADING: &str = "Examples:\n";

/// Returns the program's command line, with all of its help.
pub(super) fn program() -> Command {
    let program = with_examples(super::Cli::command(), "quinistry");
    let help = groups(&program, GROUPS);
    let options = "Options (those of `serve`, which is the default):\n{options}";
    program
        .help_template(format!(
            "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{help}\n\n{options}{{after-help}}"
        ))
        .after_help(format!(
            "`quinistry COMMAND --help` shows options and examples.\n\nExit codes:\n{}",
            exit_codes()
        ))
}

/// Returns the command line of `kubectl quinistry`: the commands about the cluster. Without a command, the
/// plugin shows the cluster's status.
pub(super) fn plugin() -> Command {
    let plugin = with_examples(super::Cli::command(), "kubectl quinistry");
    let help = groups(&plugin, PLUGIN_GROUPS);
    plugin
        .about("Raise, check, show and remove generations of a registry on this cluster")
        .long_about(None)
        .override_usage("kubectl quinistry [COMMAND]")
        .mut_args(|arg| if is_own(&arg) { arg } else { arg.hide(true) })
        .help_template(format!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{help}{{after-help}}"))
        .after_help(
            "Without a command it shows the status; `kubectl quinistry -n NAMESPACE` that of one namespace.\n\
             `kubectl quinistry COMMAND --help` shows options and examples.",
        )
}

/// Returns a copy without hidden commands and flags: for completions and manual pages.
pub(super) fn visible(command: &Command) -> Command {
    let mut copy = Command::new(command.get_name().to_owned());
    if let Some(about) = command.get_about() {
        copy = copy.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        copy = copy.long_about(about.clone());
    }
    if let Some(after) = command.get_after_help() {
        copy = copy.after_help(after.clone());
    }
    if let Some(version) = command.get_version() {
        copy = copy.version(version.to_owned());
    }
    copy.visible_aliases(command.get_visible_aliases().map(ToOwned::to_owned).collect::<Vec<_>>())
        .allow_missing_positional(command.is_allow_missing_positional_set())
        .args(command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned())
        .subcommands(command.get_subcommands().filter(|one| !one.is_hide_set()).map(visible))
}

/// Returns the lines of a command's examples, without indentation.
pub(super) fn examples(command: &Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let examples = help.split_once(EXAMPLES_HEADING).map(|(_, examples)| examples).unwrap_or_default();
    examples.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn is_own(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "help" | "version")
}

/// Adds to each command its examples, as they are typed to a program of that name.
fn with_examples(program: Command, name: &str) -> Command {
    EXAMPLES.iter().fold(program, |program, (path, examples)| {
        let mut text = EXAMPLES_HEADING.to_owned();
        for example in *examples {
            writeln!(text, "  {}", example.replace("quinistry ", &format!("{name} ")))
                .expect("writing to a string does not fail");
        }
        at(program, path, &|command| command.after_help(text.trim_end().to_owned()))
    })
}

/// Changes the command at a path of names.
fn at(command: Command, path: &str, change: &dyn Fn(Command) -> Command) -> Command {
    let (name, rest) = path.split_once(' ').unwrap_or((path, ""));
    command.mut_subcommand(name, |one| if rest.is_empty() { change(one) } else { at(one, rest, change) })
}

fn groups(program: &Command, groups: &[Group]) -> String {
    let mut text = String::new();
    let width = groups.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max().unwrap_or_default();
    for (title, names) in groups {
        writeln!(text, "{title}:").expect("writing to a string does not fail");
        for name in *names {
            let about = program.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
            let about = about.unwrap_or_else(|| "Show this, or the help of a command".into());
            writeln!(text, "  {name:<width$}  {about}").expect("writing to a string does not fail");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

fn exit_codes() -> String {
    super::output::lines(Exit::ALL.map(|exit| format!("  {}  {}", exit as u8, exit.meaning())))
}

/// Returns the long names of all hidden flags.
#[cfg(test)]
pub(super) fn hidden(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter(|arg| arg.is_hide_set());
    let own = own.filter_map(|arg| arg.get_long().map(ToOwned::to_owned));
    own.chain(command.get_subcommands().flat_map(hidden)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn leaves<'a>(command: &'a Command, path: &str, found: &mut Vec<(String, &'a Command)>) {
        for one in command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
            let path = format!("{path} {}", one.get_name()).trim().to_owned();
            if one.has_subcommands() {
                leaves(one, &path, found);
            } else {
                found.push((path, one));
            }
        }
    }

    #[test]
    fn every_command_is_in_one_group() {
        let program = program();
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut all: Vec<_> =
            program.get_subcommands().filter(|one| !one.is_hide_set()).map(Command::get_name).collect();
        all.push("help");
        grouped.sort_unstable();
        all.sort_unstable();
        assert_eq!(grouped, all);
        let shown = super::program().render_help().to_string();
        for (title, names) in GROUPS {
            assert!(shown.contains(&format!("{title}:\n")), "{title}");
            names.iter().for_each(|name| assert!(shown.contains(&format!("\n  {name} ")), "{name}"));
        }
    }

    #[test]
    fn every_command_shows_two_examples_that_parse() {
        let program = program();
        let mut commands = Vec::new();
        leaves(&program, "", &mut commands);
        assert!(commands.len() > 25, "{}", commands.len());
        for (path, command) in commands {
            let examples = examples(command);
            assert!(examples.len() >= 2, "{path} has {} examples", examples.len());
            for example in examples {
                let own = example.split(" | ").find(|part| part.contains("quinistry "));
                let own = own.unwrap_or_else(|| panic!("{example}"));
                let own = own.split(" > ").next().unwrap();
                let own = &own[own.find("quinistry ").unwrap()..];
                let words: Vec<_> = own.split_whitespace().map(|word| word.trim_matches('\'')).collect();
                let shown = format!("quinistry {path}");
                assert!(own == shown || own.starts_with(&format!("{shown} ")), "{path}: {example}");
                let parsed = super::program().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn short_flags_mean_what_they_mean_to_kubectl_everywhere() {
        let kubectl = BTreeMap::from([
            ('n', "namespace"),
            ('A', "all-namespaces"),
            ('o', "output"),
            ('w', "watch"),
            ('f', "filename"),
            ('l', "selector"),
        ]);
        let program = program();
        let mut commands = Vec::new();
        leaves(&program, "", &mut commands);
        for (path, command) in commands {
            for arg in command.get_arguments() {
                if let Some(meaning) = arg.get_short().and_then(|short| kubectl.get(&short)) {
                    assert_eq!(arg.get_long(), Some(*meaning), "{path}");
                }
                let long = arg.get_long().and_then(|long| kubectl.iter().find(|(_, name)| **name == long));
                if let Some((short, _)) = long {
                    assert_eq!(arg.get_short(), Some(*short), "{path}");
                }
            }
        }
    }

    #[test]
    fn the_plugin_speaks_of_the_cluster() {
        let help = plugin().render_help().to_string();
        assert!(!help.contains("serve") && !help.contains("--storage"), "{help}");
        for word in ["kubectl quinistry [COMMAND]", "  up ", "  status ", "  down ", "shows the status"] {
            assert!(help.contains(word), "{word}: {help}");
        }
        let status = plugin().find_subcommand("status").map(examples).unwrap();
        assert!(status.iter().all(|example| example.starts_with("kubectl quinistry status")), "{status:?}");
    }
}
