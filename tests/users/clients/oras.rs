//! oras, which looks at the first challenge of an answer alone.

use std::fs;

use super::Client;
use crate::attempt::Attempt;
use crate::machine::Machine;
use crate::program::built;
use crate::registry::Registry;
use crate::session::Session;

pub(crate) struct Oras;

impl Client for Oras {
    fn needs() -> Vec<&'static str> {
        vec![oras_path()]
    }

    fn start(_: &mut Machine, _: &[Registry]) -> Self {
        Self
    }

    fn login(&self, session: &Session<'_>) -> Option<Attempt> {
        let login = ["login", "--username", session.login?.user, "--password-stdin", &session.registry.host];
        Some(session.attempt_with_password(oras(session, &login)))
    }

    fn push(&self, session: &Session<'_>, repository: &str) -> Option<Attempt> {
        // The machine runs commands in its own folder, and oras takes no absolute path.
        fs::write(session.machine.path("artifact.txt"), "an artifact").unwrap();
        let push = ["push", &session.reference(repository), "artifact.txt:text/plain"];
        Some(session.attempt(oras(session, &push)))
    }

    fn pull(&self, session: &Session<'_>, repository: &str) -> Attempt {
        let pull = ["pull", "--output", &session.path("pulled"), &session.reference(repository)];
        session.attempt(oras(session, &pull))
    }
}

fn oras_path() -> &'static str {
    built("oras", "1.3.6")
}

fn oras(session: &Session<'_>, arguments: &[&str]) -> std::process::Command {
    let mut command = session.command(oras_path(), arguments);
    command.args(session.registry.choose(&["--ca-file", "{ca}"], &["--plain-http"]));
    command.args(["--registry-config", &session.logins()]);
    command
}
