//! This program as a client.

use super::Client;
use crate::attempt::Attempt;
use crate::machine::Machine;
use crate::program::QUINISTRY;
use crate::registry::Registry;
use crate::session::{Session, archive, image};

pub(crate) struct Ours {
    archive: String,
}

impl Client for Ours {
    fn needs() -> Vec<&'static str> {
        Vec::new()
    }

    fn start(machine: &mut Machine, _: &[Registry]) -> Self {
        Self { archive: archive(machine, &image("ours")) }
    }

    fn login(&self, session: &Session<'_>) -> Option<Attempt> {
        let login = ["login", "--username", session.login?.user, "--password-stdin", &session.registry.host];
        Some(session.attempt_with_password(quinistry(session, &login)))
    }

    fn push(&self, session: &Session<'_>, repository: &str) -> Option<Attempt> {
        Some(session.attempt(quinistry(session, &["push", &self.archive, &session.reference(repository)])))
    }

    fn pull(&self, session: &Session<'_>, repository: &str) -> Attempt {
        let pull = ["pull", &session.reference(repository), &session.path("pulled.tar")];
        session.attempt(quinistry(session, &pull))
    }
}

fn quinistry(session: &Session<'_>, arguments: &[&str]) -> std::process::Command {
    let mut command = session.command(QUINISTRY, arguments);
    command.args(session.registry.choose(&["--ca", "{ca}"], &["--plain-http"]));
    command
}
