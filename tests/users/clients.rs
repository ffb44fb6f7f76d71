//! The clients: how each is started, logs in, pushes and pulls.

mod containerd;
mod crane;
mod crictl;
mod curl;
mod docker;
mod helm;
mod oras;
mod ours;
mod podman;
mod regctl;
mod skopeo;

pub(crate) use containerd::Containerd;
pub(crate) use crane::{Crane, crane};
pub(crate) use crictl::Crictl;
pub(crate) use curl::{Curl, curl};
pub(crate) use docker::Docker;
pub(crate) use helm::Helm;
pub(crate) use oras::Oras;
pub(crate) use ours::Ours;
pub(crate) use podman::Podman;
pub(crate) use regctl::Regctl;
pub(crate) use skopeo::Skopeo;

use crate::attempt::Attempt;
use crate::machine::Machine;
use crate::registry::Registry;
use crate::session::Session;

/// A client of registries.
pub(crate) trait Client: Sized {
    /// Programs that must be there.
    fn needs() -> Vec<&'static str>;

    /// Starts what the client needs, and makes it trust the authority of each registry that speaks TLS.
    fn start(machine: &mut Machine, registries: &[Registry]) -> Self;

    /// Logs in. `None` for a client that takes user and password with each command.
    fn login(&self, session: &Session<'_>) -> Option<Attempt>;

    /// Pushes to the tag `1` of a repository. `None` for a client that only pulls.
    fn push(&self, session: &Session<'_>, repository: &str) -> Option<Attempt>;

    /// Pulls what [`Client::push`] pushed.
    fn pull(&self, session: &Session<'_>, repository: &str) -> Attempt;
}
