//! Configuration of a registry in distribution's format: a file and `REGISTRY_*` variables.
//!
//! [`load`] turns bytes and variables into a [`Config`], or into [`Diagnostic`]s with their places. Pure: reads
//! no file, no variable and no clock but through its arguments. Each value keeps the place that it came from
//! until it is typed. One table, [`keys`](all_keys), types, prints and documents the keys. Distribution reads
//! its file in `configuration/parser.go` and `configuration/configuration.go` of versions 2.8 and 3.x.

mod build;
mod check;
mod default;
mod diagnostic;
mod env;
mod findings;
mod keys;
mod listen_address;
mod model;
mod nearest;
mod normalise;
mod rules;
mod scalar;
mod schema;
mod service_link;
mod show;
#[cfg(test)]
mod tests;
mod tree;
mod user_files;
mod values;
mod yaml;

use std::ffi::OsString;
use std::io;
use std::path::Path;

pub use self::diagnostic::{Diagnostic, Origin, Severity};
pub use self::env::{CONFIGURATION_PATH, sets_a_key, unresolved_variables};
use self::findings::Findings;
pub use self::keys::all as all_keys;
pub use self::model::*;
use self::rules::drivers_of;
pub use self::schema::{ConfigKey, KeyTreatment, Kind, ReleaseLines, Unless};
use self::tree::ConfigNode;
use self::yaml::YamlBudget;

/// Longest configuration file, in bytes.
pub const MAX_FILE_BYTES: usize = yaml::MAX_BYTES;

/// Access to the files that a configuration names.
pub trait ReadFile {
    /// Reads a file of at most `limit` bytes as a whole.
    fn read(&self, path: &Path, limit: usize) -> io::Result<SecretFile>;
}

/// Content of a file that holds a secret, or another value.
#[derive(Clone)]
pub struct SecretFile {
    /// Content.
    pub bytes: Vec<u8>,
    /// Permission bits, if the file system has them.
    pub mode: Option<u32>,
}

/// File with a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Name as it was given, for diagnostics.
    pub name: &'a str,
    /// Content.
    pub bytes: &'a [u8],
}

/// Result of [`load`].
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Configuration, unless a diagnostic is an error.
    pub config: Option<Config>,
    /// Storage part of the configuration, unless an error [concerns it](Diagnostic::concerns_storage).
    pub storage: Option<StorageConfig>,
    /// Findings, sorted by place.
    pub diagnostics: Vec<Diagnostic>,
    /// Names of the variables that set a key, sorted.
    pub set_by_environment: Vec<String>,
    /// Names of the variables that were made for other services and are ignored, sorted.
    pub service_links: Vec<String>,
    /// Number of values that the file and the environment set.
    pub keys: usize,
    tree: Option<ConfigNode>,
}

/// Reads a configuration.
///
/// Without a file, the built-in default configuration applies below the environment: a folder
/// `/var/lib/registry`, port 5000, and a health check of the storage.
#[must_use]
pub fn load(
    file: Option<Source<'_>>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    files: &dyn ReadFile,
) -> Loaded {
    let (mut budget, mut findings) = (YamlBudget::default(), Findings::default());
    let parsed = match file {
        Some(Source { name, bytes }) => yaml::parse_file(name, bytes, &mut budget, &mut findings),
        None => Ok(default::tree()),
    };
    let mut tree = match parsed {
        Ok(tree) => tree,
        Err(error) => {
            findings.error(&error.origin, "", error.message);
            return Loaded::failed(findings);
        }
    };
    normalise::normalise(&mut tree);
    let applied = env::apply(environment, &mut tree, &mut budget, &mut findings, files);
    rules::drop_default_driver(&mut tree);
    check::check(&tree, &mut findings);
    rules::check(&tree, &mut findings);
    rules::tokens::check_files(&tree, files, &mut findings);
    let is_accepted = !findings.has_errors();
    let has_storage = !findings.has_errors_of(Diagnostic::concerns_storage);
    Loaded {
        config: is_accepted.then(|| build::build(&tree)),
        storage: has_storage.then(|| build::storage(&tree)),
        diagnostics: findings.sorted(),
        set_by_environment: applied.set,
        service_links: applied.service_links,
        keys: tree.count_leaves(),
        tree: is_accepted.then_some(tree),
    }
}

// === impl Loaded ===

impl Loaded {
    fn failed(findings: Findings) -> Self {
        Self {
            config: None,
            storage: None,
            diagnostics: findings.sorted(),
            set_by_environment: Vec::new(),
            service_links: Vec::new(),
            keys: 0,
            tree: None,
        }
    }

    /// Refuses the configuration for a problem with a file that it names; `key` is the key that names it. The
    /// storage part is not concerned.
    pub fn refuse(&mut self, key: &str, message: String) {
        self.add_about_file(key, Severity::Error, message);
        self.config = None;
    }

    /// Adds a warning about a file that the configuration names; `key` is the key that names it.
    pub fn warn(&mut self, key: &str, message: String) {
        self.add_about_file(key, Severity::Warning, message);
    }

    fn add_about_file(&mut self, key: &str, severity: Severity, message: String) {
        let origin = self.tree.as_ref().and_then(|tree| tree.at(key)).map(|node| node.origin.clone());
        let origin = origin.unwrap_or(Origin::Default);
        self.diagnostics.push(Diagnostic { origin, severity, key: key.to_owned(), message });
        self.diagnostics.sort_by(|one, other| one.origin.cmp(&other.origin));
    }

    /// Counts the findings of a severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Writes the configuration that is in effect as YAML, with the place of each value, and secrets as `***`;
    /// `None` if it is not accepted. Read again, it gives the same text but for the places.
    #[must_use]
    pub fn show(&self) -> Option<String> {
        self.tree.as_ref().map(show::show)
    }
}
