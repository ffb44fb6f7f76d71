//! Exit codes: the table that docs/commands.md repeats word for word.

use std::fmt;
use std::process::ExitCode;

/// Exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Success = 0,
    Failure = 1,
    Usage = 2,
    Deviates = 3,
}

/// Error of a command line that the parser accepts and that makes no sense all the same: exit code 2.
#[derive(Debug)]
pub(super) struct UsageError(pub(super) String);

// === impl Exit ===

impl Exit {
    pub(super) const ALL: [Self; 4] = [Self::Success, Self::Failure, Self::Usage, Self::Deviates];

    /// Returns the meaning for documents and help.
    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Self::Success => {
                "done, or ended on request: Ctrl-C ends `serve`, `bootstrap --keep` and `status --watch`"
            }
            Self::Failure => {
                "failed, or what was examined is not as it must be; one line on standard error says why"
            }
            Self::Usage => {
                "the command line makes no sense, for example a malformed reference or digest; `fsck`: the storage could not be \
                 examined"
            }
            Self::Deviates => "`serve --expect-digest`: the image of this executable has another digest",
        }
    }

    /// Returns the exit code that the error's type stands for.
    pub(super) fn of(error: &anyhow::Error) -> Self {
        if error.is::<UsageError>() { Self::Usage } else { Self::Failure }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_commands_page_has_the_table_and_nothing_else() {
        let rows: Vec<_> = Exit::ALL.map(|exit| format!("| {} | {} |", exit as u8, exit.meaning())).into();
        let text = include_str!("../../docs/commands.md");
        let (_, table) =
            text.split_once("| exit code | meaning |\n|---|---|\n").expect("a table of exit codes");
        let found: Vec<_> = table.lines().take_while(|line| line.starts_with('|')).collect();
        assert_eq!(found, rows);
    }
}
