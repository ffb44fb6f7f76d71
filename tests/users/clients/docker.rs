//! Docker 20.10, which asks `/v2/` alone whether a registry wants a login.

use std::fs;

use super::Client;
use crate::attempt::Attempt;
use crate::machine::Machine;
use crate::registry::Registry;
use crate::session::{Session, archive, image};

/// Named in full, since another engine's client may come first in `PATH`.
const DOCKER: &str = "/usr/bin/docker";
const DOCKERD: &str = "/usr/sbin/dockerd";

pub(crate) struct Docker {
    host: String,
}

impl Client for Docker {
    fn needs() -> Vec<&'static str> {
        vec![DOCKERD, DOCKER, "containerd", "runc", "iptables"]
    }

    fn start(machine: &mut Machine, registries: &[Registry]) -> Self {
        if registries.iter().any(|registry| registry.authority.is_some()) {
            trust(machine, registries);
        }
        Self::serve(machine)
    }

    fn login(&self, session: &Session<'_>) -> Option<Attempt> {
        let user = session.login?.user;
        let arguments = ["login", "--username", user, "--password-stdin", &session.registry.host];
        Some(session.attempt_with_password(self.command(session, &arguments)))
    }

    fn push(&self, session: &Session<'_>, repository: &str) -> Option<Attempt> {
        let reference = session.reference(repository);
        session.attempt(self.command(session, &["tag", "localhost/test:1", &reference])).allowed();
        Some(session.attempt(self.command(session, &["push", &reference])))
    }

    fn pull(&self, session: &Session<'_>, repository: &str) -> Attempt {
        session.attempt(self.command(session, &["pull", &session.reference(repository)]))
    }
}

impl Docker {
    /// Starts the engine with an image to push.
    pub(crate) fn serve(machine: &mut Machine) -> Self {
        let host = format!("unix://{}", machine.path("docker.sock"));
        let mut command = machine.command(DOCKERD);
        command
            .args(["--data-root", &machine.path("docker-data"), "--exec-root", &machine.path("docker-exec")])
            .args(["--host", &host, "--pidfile", &machine.path("docker.pid")])
            // A machine inside a container may not lower it, and cannot lay one overlay over another.
            .args(["--oom-score-adjust", "0", "--storage-driver", "vfs"])
            .args(["--cgroup-parent", &format!("/{}", machine.name())]);
        machine.daemon("dockerd", command);
        let docker = Self { host };
        machine.until("dockerd", || {
            let version = machine.command(DOCKER).args(["--host", &docker.host, "version"]).output().unwrap();
            version.status.success().then_some(())
        });
        let archive = archive(machine, &image("docker"));
        machine.run(DOCKER, &["--host", &docker.host, "load", "--input", &archive]);
        docker
    }

    /// Removes a pulled or pushed image from the engine, so that the next pull asks the registry.
    pub(crate) fn remove(&self, session: &Session<'_>, repository: &str) {
        session.attempt(self.command(session, &["rmi", &session.reference(repository)])).allowed();
    }

    fn command(&self, session: &Session<'_>, arguments: &[&str]) -> std::process::Command {
        let global = ["--host", &self.host, "--config", &session.path("")];
        session.command(DOCKER, &[&global, arguments].concat())
    }
}

/// Hides the real machine's `/etc/docker`, and lays out a folder as Docker wants it.
fn trust(machine: &Machine, registries: &[Registry]) {
    fs::create_dir_all("/etc/docker").unwrap();
    let folder = machine.path("etc-docker");
    for registry in registries {
        if let Some(authority) = &registry.authority {
            let certificates = format!("{folder}/certs.d/{}", registry.host);
            fs::create_dir_all(&certificates).unwrap();
            fs::copy(authority, format!("{certificates}/ca.crt")).unwrap();
        }
    }
    machine.run("mount", &["--bind", &folder, "/etc/docker"]);
}
