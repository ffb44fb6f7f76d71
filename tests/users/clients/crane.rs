//! crane, and with it the Go library of ko and cosign. Its login only writes the password down.

use super::Client;
use crate::attempt::Attempt;
use crate::machine::Machine;
use crate::program::built;
use crate::registry::Registry;
use crate::session::{Session, image, layout};
use crate::support::images::Image;

pub(crate) struct Crane {
    image: Image,
    layout: String,
}

impl Crane {
    /// Digest of the image that it pushes.
    pub(crate) fn digest(&self) -> &str {
        self.image.digest().as_str()
    }

    /// Digest of the first layer of that image.
    pub(crate) fn layer(&self) -> &str {
        self.image.layers[0].0.digest.as_str()
    }
}

/// A command of crane.
pub(crate) fn crane(session: &Session<'_>, arguments: &[&str]) -> std::process::Command {
    let mut command = session.command(built("crane", "0.22.1"), arguments);
    if let Some(authority) = &session.registry.authority {
        command.env("SSL_CERT_FILE", authority);
    }
    command
}

impl Client for Crane {
    fn needs() -> Vec<&'static str> {
        vec![built("crane", "0.22.1")]
    }

    fn start(machine: &mut Machine, _: &[Registry]) -> Self {
        let image = image("crane");
        Self { layout: layout(machine, &image), image }
    }

    fn login(&self, session: &Session<'_>) -> Option<Attempt> {
        let (host, user) = (&session.registry.host, session.login?.user);
        let login = crane(session, &["auth", "login", host, "--username", user, "--password-stdin"]);
        Some(session.attempt_with_password(login))
    }

    fn push(&self, session: &Session<'_>, repository: &str) -> Option<Attempt> {
        Some(session.attempt(crane(session, &["push", &self.layout, &session.reference(repository)])))
    }

    fn pull(&self, session: &Session<'_>, repository: &str) -> Attempt {
        let pulled = session.path("pulled.tar");
        session.attempt(crane(session, &["pull", &session.reference(repository), &pulled]))
    }
}
