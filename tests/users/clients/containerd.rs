//! containerd's own client, which never asks `/v2/` and takes the password with each command.

use std::fs;

use super::Client;
use crate::attempt::Attempt;
use crate::machine::Machine;
use crate::program::built;
use crate::registry::Registry;
use crate::session::{Session, archive, image};

/// Without the plugins for kubelets, which need networks and sandboxes.
const KEYS: &str = "disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.runtime\", \
    \"io.containerd.cri.v1.images\"]\n";

pub(crate) struct Containerd {
    socket: String,
    hosts: String,
}

impl Client for Containerd {
    fn needs() -> Vec<&'static str> {
        vec![built("containerd", "2.4.2"), ctr(), "runc"]
    }

    fn start(machine: &mut Machine, registries: &[Registry]) -> Self {
        let socket = serve(machine, KEYS, "");
        let client = Self { socket, hosts: trust(machine, registries) };
        let archive = archive(machine, &image("containerd"));
        machine.run(ctr(), &["--address", &client.socket, "images", "import", &archive]);
        client
    }

    fn login(&self, _: &Session<'_>) -> Option<Attempt> {
        None
    }

    fn push(&self, session: &Session<'_>, repository: &str) -> Option<Attempt> {
        Some(self.attempt(session, "push", &[&session.reference(repository), "localhost/test:1"]))
    }

    fn pull(&self, session: &Session<'_>, repository: &str) -> Attempt {
        self.attempt(session, "pull", &[&session.reference(repository)])
    }
}

impl Containerd {
    /// Starts the daemon, which trusts what a folder of hosts names.
    pub(crate) fn with_hosts(machine: &mut Machine, hosts: &str) -> Self {
        Self { socket: serve(machine, KEYS, ""), hosts: hosts.to_owned() }
    }

    fn attempt(&self, session: &Session<'_>, subcommand: &str, references: &[&str]) -> Attempt {
        let mut command = session.command(ctr(), &["--address", &self.socket, "images", subcommand]);
        command.args(session.registry.choose(&["--hosts-dir", &self.hosts], &["--plain-http"]));
        command.args(session.user_and_password().iter().flat_map(|login| ["--user", login]));
        session.attempt({
            command.args(references);
            command
        })
    }
}

fn ctr() -> &'static str {
    built("ctr", "2.4.2")
}

/// Starts the daemon. `keys` stand at the top of its configuration, `tables` at its end. Returns its socket.
pub(crate) fn serve(machine: &mut Machine, keys: &str, tables: &str) -> String {
    let socket = machine.path("containerd.sock");
    let config = format!(
        "version = 3\n{keys}root = {:?}\nstate = {:?}\n[grpc]\naddress = {socket:?}\n{tables}",
        machine.path("containerd-root"),
        machine.path("containerd-state"),
    );
    fs::write(machine.path("containerd.toml"), config).unwrap();
    let mut command = machine.command(built("containerd", "2.4.2"));
    command.args(["--config", &machine.path("containerd.toml")]);
    machine.daemon("containerd", command);
    machine.until("containerd", || {
        let version = machine.command(ctr()).args(["--address", &socket, "version"]).output().unwrap();
        version.status.success().then_some(())
    });
    socket
}

/// Writes a folder of hosts that names the authorities. Returns its path.
pub(crate) fn trust(machine: &Machine, registries: &[Registry]) -> String {
    let hosts = machine.path("hosts");
    fs::create_dir(&hosts).unwrap();
    for registry in registries {
        if let Some(authority) = &registry.authority {
            let folder = format!("{hosts}/{}", registry.host);
            fs::create_dir(&folder).unwrap();
            fs::write(format!("{folder}/hosts.toml"), format!("ca = {authority:?}\n")).unwrap();
        }
    }
    hosts
}
