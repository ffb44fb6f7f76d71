//! Registries with users: this program, and distribution's newest one, from the same configuration file.

use std::fs;

use crate::machine::Machine;
use crate::program::{QUINISTRY, built};

/// Name of the registry in certificates. `.test` never resolves outside (RFC 6761).
pub(crate) const NAME: &str = "registry.test";
/// Address of the registry in certificates, for documentation only (RFC 5737). Unlike one of loopback, engines
/// do not take it for one that needs no certificate.
pub(crate) const ADDRESS: &str = "192.0.2.1";

/// A user of the tests' password file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Login {
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
}

/// The user that every password file of these tests has.
pub(crate) const ALICE: Login = Login { user: "alice", password: "right-ox4Kq" };
/// That user with another password.
pub(crate) const WRONG: Login = Login { user: "alice", password: "wrong-pT9vb" };
/// A second user.
pub(crate) const BOB: Login = Login { user: "bob", password: "builder-T7wzn" };

/// [`ALICE`] and [`BOB`]. The lowest cost of bcrypt, since the programs under test are not optimised.
pub(crate) const PASSWORDS: &str = "alice:$2b$04$0K7Rm7wwqc3T835uAD/J6Osl8fopNTWsvqFLeT0LQzzP3oXN0koWK\n\
    bob:$2b$04$yL7urbipK.cLbY5FVzoeo.AgJv7Akyf0n5aVikE7.CAFnMctTh3LO\n";

/// Program that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Ours,
    /// Distribution 3.1, whose answers ours are compared with.
    Distribution,
}

/// Configuration of a registry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    pub(crate) program: Program,
    pub(crate) port: u16,
    pub(crate) is_tls: bool,
    /// Keys behind those of the certificate, such as `, clientauth: …`.
    pub(crate) tls: &'a str,
    /// Keys of `http` behind its address, such as `, prefix: …`.
    pub(crate) http: &'a str,
    /// Lines behind `version`, `storage`, `http` and `auth`.
    pub(crate) more: &'a str,
}

/// A running registry, as a client is told of it.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    /// Host and port.
    pub(crate) host: String,
    /// File of the authority to trust, if the registry speaks TLS.
    pub(crate) authority: Option<String>,
}

impl Program {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Ours => QUINISTRY,
            Self::Distribution => built("registry", "3.1.2"),
        }
    }
}

/// Configuration with passwords, whose log `daemon` of the machine keeps. The registry's folder is
/// `registry-<port>`.
pub(crate) fn start(machine: &mut Machine, given: Given<'_>) -> Registry {
    let folder = machine.path(&format!("registry-{}", given.port));
    fs::create_dir(&folder).unwrap();
    fs::write(format!("{folder}/htpasswd"), PASSWORDS).unwrap();
    let (listen, tls) = if given.is_tls {
        let certificate = machine.path("certificates/tls.crt");
        let key = machine.path("certificates/tls.key");
        (ADDRESS, format!(", tls: {{certificate: '{certificate}', key: '{key}'{}}}", given.tls))
    } else {
        ("127.0.0.1", String::new())
    };
    let config = format!(
        "version: 0.1\nlog: {{level: info}}\n\
         storage: {{filesystem: {{rootdirectory: '{folder}/root'}}, delete: {{enabled: true}}}}\n\
         http: {{addr: '{listen}:{port}'{tls}{http}}}\n\
         auth: {{htpasswd: {{realm: tests, path: '{folder}/htpasswd'}}}}\n{more}",
        port = given.port,
        http = given.http,
        more = given.more,
    );
    fs::write(format!("{folder}/config.yml"), config).unwrap();
    let mut command = machine.command(given.program.path());
    command.args(["serve", &format!("{folder}/config.yml")]);
    if given.program == Program::Distribution {
        command.env("OTEL_TRACES_EXPORTER", "none");
    }
    machine.daemon(&format!("registry-{}", given.port), command);
    let authority = given.is_tls.then(|| machine.path("certificates/ca.crt"));
    let host = if given.is_tls { NAME } else { "localhost" };
    let registry = Registry { host: format!("{host}:{}", given.port), authority };
    machine.until("the registry", || {
        let mut ask = machine.command("curl");
        ask.args(["-s", "-o", "/dev/null"])
            .args(registry.authority.iter().flat_map(|file| ["--cacert", file]));
        ask.arg(registry.url("/v2/")).output().unwrap().status.success().then_some(())
    });
    registry
}

impl Registry {
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.host)
    }

    /// Returns this registry under another name.
    pub(crate) fn at(&self, name: &str) -> Self {
        let (_, port) = self.host.rsplit_once(':').unwrap();
        Self { host: format!("{name}:{port}"), authority: self.authority.clone() }
    }

    /// Returns the first arguments if the registry speaks TLS, the second ones otherwise; `{ca}` is replaced
    /// by the file of the authority.
    pub(crate) fn choose(&self, tls: &[&str], plain: &[&str]) -> Vec<String> {
        let file = self.authority.as_deref().unwrap_or_default();
        let chosen = if self.authority.is_some() { tls } else { plain };
        chosen.iter().map(|argument| argument.replace("{ca}", file)).collect()
    }
}
