//! One command of a client, and what the registry's answer made of it.

use std::process::Command;

use crate::support::process::output_with;

/// Words by which clients say that a registry refused them for who they are.
const REFUSALS: [&str; 9] = [
    "unauthorized",
    "authorization failed",
    "authentication required",
    "authentication failed",
    "no basic auth credentials",
    "basic credential not found",
    "invalid username/password",
    "requires credentials",
    "denied",
];

/// Statuses of such refusals.
const REFUSAL_STATUSES: [&str; 2] = ["401", "403"];

/// Result of a client's command.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    succeeded: bool,
    stdout: String,
    said: String,
}

/// Decision of a registry, as a client shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    Refused,
}

impl Attempt {
    /// Runs a command with `input` on its standard input.
    pub(crate) fn run(mut command: Command, input: &str) -> Self {
        let output = output_with(&mut command, input.as_bytes()).unwrap();
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let said = format!("{command:?}: {}\n{stdout}{stderr}", output.status);
        Self { succeeded: output.status.success(), stdout, said }
    }

    /// Returns the verdict. Panics if the command failed for another reason than a refusal, since such a
    /// failure proves nothing.
    #[track_caller]
    pub(crate) fn verdict(&self) -> Verdict {
        if self.succeeded {
            return Verdict::Allowed;
        }
        // The command itself, the first line, names tags and users.
        let answer = self.said.split_once('\n').map_or("", |(_, answer)| answer).to_lowercase();
        // Digests have the digits of a status, too.
        let has_status = || {
            let mut words = answer.split(|c: char| !c.is_ascii_alphanumeric());
            words.any(|word| REFUSAL_STATUSES.contains(&word))
        };
        let is_refused = REFUSALS.iter().any(|words| answer.contains(words)) || has_status();
        assert!(is_refused, "another failure: {}", self.said);
        Verdict::Refused
    }

    /// Returns the standard output of the command.
    pub(crate) fn stdout(&self) -> &str {
        &self.stdout
    }

    /// Everything that the command printed, behind the command itself.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    /// Asserts that the registry allowed it.
    #[track_caller]
    pub(crate) fn allowed(&self) {
        assert!(self.succeeded, "{}", self.said);
    }
}
