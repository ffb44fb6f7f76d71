//! Variables of the environment over the untyped tree.
//!
//! Understands every variable that distribution understands, and those that it drops or that end it. The name
//! is resolved along the keys, so that keys with `_` can be reached.

mod apply;
mod resolve;

use std::ffi::{OsStr, OsString};

pub(super) use self::apply::apply;
use self::resolve::{Resolved, resolve};
use super::service_link::is_service_link;

/// Beginning of the names of all variables.
const PREFIX: &str = "REGISTRY_";

/// Variable that names the file, and sets no key.
pub const CONFIGURATION_PATH: &str = "REGISTRY_CONFIGURATION_PATH";

/// End of the name of a variable that names a file with the value.
const FILE_SUFFIX: &str = "_FILE";

/// Returns true if at least one variable sets a key, so that a start without a file means a configured
/// registry. A variable that would be refused counts as well: a mistyped lock must not be ignored. Variables
/// without effect do not count, nor do those that Kubernetes and Docker make for Services.
#[must_use]
pub fn sets_a_key(environment: impl IntoIterator<Item = (OsString, OsString)>) -> bool {
    environment.into_iter().any(|(name, value)| {
        // As when variables are applied: a name that is not UTF-8 can lie below a map of any names.
        let name = name.to_string_lossy();
        let Some(rest) = setting(&name) else { return false };
        match meaning(rest, &value) {
            Meaning::Key(target) | Meaning::KeyOfFile(target) => {
                target.effect == resolve::KeyEffect::Configures
            }
            Meaning::Unknown(unresolved) => unresolved.is_locked(),
            Meaning::ServiceLink => false,
        }
    })
}

/// Returns the names of the variables that have the prefix and set no key, sorted. Variables that Kubernetes and
/// Docker make for Services are not among them.
#[must_use]
pub fn unresolved_variables(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<String> {
    let is_unresolved = |name: &str, value: &OsStr| {
        setting(name).is_some_and(|rest| matches!(meaning(rest, value), Meaning::Unknown(_)))
    };
    let mut names: Vec<_> = environment
        .into_iter()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, value)| is_unresolved(name, value))
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names
}

/// Returns the part of a variable's name that stands for a key.
fn setting(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX).filter(|_| name != CONFIGURATION_PATH)
}

/// Meaning of a variable.
enum Meaning {
    /// Sets a key.
    Key(resolve::KeyTarget),
    /// Names a file with the value of a key.
    KeyOfFile(resolve::KeyTarget),
    ServiceLink,
    Unknown(resolve::Unresolved),
}

fn meaning(rest: &str, value: &OsStr) -> Meaning {
    let is_link = || value.to_str().is_some_and(|value| is_service_link(rest, value));
    match resolve(rest) {
        // A Service named registry-http-headers gives names that look like headers.
        Resolved::Target(target) if target.is_free && is_link() => Meaning::ServiceLink,
        Resolved::Target(target) => Meaning::Key(target),
        Resolved::Unresolved(_) if is_link() => Meaning::ServiceLink,
        Resolved::Unresolved(unresolved) => {
            let base = rest.get(..rest.len().saturating_sub(FILE_SUFFIX.len()));
            let has_suffix = rest.len() > FILE_SUFFIX.len()
                && rest.get(rest.len() - FILE_SUFFIX.len()..) == Some(FILE_SUFFIX);
            match base.filter(|_| has_suffix).map(resolve) {
                Some(Resolved::Target(target)) if target.kind.is_text() && !target.is_free => {
                    Meaning::KeyOfFile(target)
                }
                _ => Meaning::Unknown(unresolved),
            }
        }
    }
}
