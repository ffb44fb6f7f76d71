//! regctl, whose author writes the specification's conformance tests.

use super::Client;
use crate::attempt::Attempt;
use crate::machine::Machine;
use crate::program::built;
use crate::registry::Registry;
use crate::session::{Session, image, layout};

pub(crate) struct Regctl {
    layout: String,
}

impl Client for Regctl {
    fn needs() -> Vec<&'static str> {
        vec![built("regctl", "0.11.7")]
    }

    fn start(machine: &mut Machine, _: &[Registry]) -> Self {
        Self { layout: layout(machine, &image("regctl")) }
    }

    fn login(&self, session: &Session<'_>) -> Option<Attempt> {
        configure(session);
        let (host, user) = (&session.registry.host, session.login?.user);
        let login = regctl(session, &["registry", "login", host, "--user", user, "--pass-stdin"]);
        Some(session.attempt_with_password(login))
    }

    fn push(&self, session: &Session<'_>, repository: &str) -> Option<Attempt> {
        configure(session);
        let source = format!("ocidir://{}:1", self.layout);
        Some(session.attempt(regctl(session, &["image", "copy", &source, &session.reference(repository)])))
    }

    fn pull(&self, session: &Session<'_>, repository: &str) -> Attempt {
        configure(session);
        let target = format!("ocidir://{}:1", session.path("pulled"));
        session.attempt(regctl(session, &["image", "copy", &session.reference(repository), &target]))
    }
}

fn configure(session: &Session<'_>) {
    let authority = session.registry.authority.as_ref();
    let authority = authority.map(|file| std::fs::read_to_string(file).unwrap()).unwrap_or_default();
    let connection: &[&str] =
        if authority.is_empty() { &["--tls", "disabled"] } else { &["--cacert", &authority] };
    let set = ["registry", "set", &session.registry.host, "--skip-check"];
    session.attempt(regctl(session, &[&set, connection].concat())).allowed();
}

fn regctl(session: &Session<'_>, arguments: &[&str]) -> std::process::Command {
    session.command(built("regctl", "0.11.7"), arguments)
}
