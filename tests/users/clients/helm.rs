//! helm, with our own chart. The chart's name is the repository's last component.

use super::Client;
use crate::attempt::Attempt;
use crate::machine::Machine;
use crate::program::built;
use crate::registry::Registry;
use crate::session::Session;

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) struct Helm {
    chart: String,
}

impl Client for Helm {
    fn needs() -> Vec<&'static str> {
        vec![built("helm", "4.3.1")]
    }

    fn start(machine: &mut Machine, _: &[Registry]) -> Self {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/quinistry");
        machine.run(built("helm", "4.3.1"), &["package", "--destination", &machine.path(""), chart]);
        Self { chart: machine.path(&format!("quinistry-{VERSION}.tgz")) }
    }

    fn login(&self, session: &Session<'_>) -> Option<Attempt> {
        let (host, user) = (&session.registry.host, session.login?.user);
        let login = helm(session, &["registry", "login", host, "--username", user, "--password-stdin"]);
        Some(session.attempt_with_password(login))
    }

    fn push(&self, session: &Session<'_>, repository: &str) -> Option<Attempt> {
        let target = format!("oci://{}/{repository}", session.registry.host);
        Some(session.attempt(helm(session, &["push", &self.chart, &target])))
    }

    fn pull(&self, session: &Session<'_>, repository: &str) -> Attempt {
        let source = format!("oci://{}/{repository}/quinistry", session.registry.host);
        let pull = ["pull", &source, "--version", VERSION, "--destination", &session.path("")];
        session.attempt(helm(session, &pull))
    }
}

fn helm(session: &Session<'_>, arguments: &[&str]) -> std::process::Command {
    let mut command = session.command(built("helm", "4.3.1"), arguments);
    command.args(session.registry.choose(&["--ca-file", "{ca}"], &["--plain-http"]));
    command.args(["--registry-config", &session.logins()]);
    command
}
