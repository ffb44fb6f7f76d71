//! podman, which shares its library with skopeo, buildah and CRI-O.

use super::Client;
use super::skopeo::connection;
use crate::attempt::Attempt;
use crate::machine::Machine;
use crate::registry::Registry;
use crate::session::{Session, archive, image};

pub(crate) struct Podman {
    storage: Vec<String>,
}

impl Client for Podman {
    fn needs() -> Vec<&'static str> {
        vec!["podman"]
    }

    fn start(machine: &mut Machine, _: &[Registry]) -> Self {
        let (root, run) = (machine.path("podman-root"), machine.path("podman-run"));
        let storage = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs"].map(str::to_owned);
        let podman = Self { storage: storage.into() };
        let archive = archive(machine, &image("podman"));
        let mut load = machine.command("podman");
        load.args(&podman.storage).args(["load", "--input", &archive]);
        Attempt::run(load, "").allowed();
        podman
    }

    fn login(&self, session: &Session<'_>) -> Option<Attempt> {
        let mut login = self.command(session, "login");
        login.args(["--username", session.login?.user, "--password-stdin", &session.registry.host]);
        Some(session.attempt_with_password(login))
    }

    fn push(&self, session: &Session<'_>, repository: &str) -> Option<Attempt> {
        let mut push = self.command(session, "push");
        push.args(["localhost/test:1", &session.reference(repository)]);
        Some(session.attempt(push))
    }

    fn pull(&self, session: &Session<'_>, repository: &str) -> Attempt {
        let mut pull = self.command(session, "pull");
        pull.arg(session.reference(repository));
        session.attempt(pull)
    }
}

impl Podman {
    fn command(&self, session: &Session<'_>, subcommand: &str) -> std::process::Command {
        let mut command = session.command("podman", &[]);
        command.args(&self.storage).args([subcommand, "--authfile", &session.logins()]);
        command.args(connection(session, ""));
        command
    }
}
