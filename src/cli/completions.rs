//! `quinistry completions`: prints a completion script.

use clap_complete::Shell;

use super::help;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Shell that runs the script
    shell: Shell,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        super::print(script(self.shell))
    }
}

/// Renders the script of a shell. What is hidden in help is not offered either.
fn script(shell: Shell) -> Vec<u8> {
    // Into memory first: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut help::visible(&help::program()), "quinistry", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use clap_complete::Shell;

    use crate::cli::help;

    #[test]
    fn hidden_flags_are_not_offered_and_paths_are_completed() {
        let hidden: Vec<String> = help::hidden(&help::program());
        assert!(hidden.contains(&"listen-stdin".into()) && hidden.contains(&"image".into()), "{hidden:?}");
        for shell in Shell::value_variants() {
            let script = String::from_utf8(super::script(*shell)).unwrap();
            for flag in ["listen-stdin", "die-with"] {
                assert!(!script.contains(flag), "{shell}: {flag}");
            }
            assert!(script.contains("mount-from") && script.contains("version"), "{shell}");
        }
        let zsh = String::from_utf8(super::script(Shell::Zsh)).unwrap();
        assert!(zsh.contains("_files -/"), "folders are completed");
    }
}
