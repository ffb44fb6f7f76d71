//! Findings about a configuration, each with its place.

use std::fmt;
use std::sync::Arc;

use quinistry_oci::escape::Escaped;

/// Place that a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Place in a file.
    File {
        /// Name of the file, as it was given.
        file: Arc<str>,
        /// Line, from 1.
        line: u32,
        /// Column in characters, from 1.
        column: u32,
    },
    /// Variable of the environment.
    Variable(Arc<str>),
    /// Built-in default configuration.
    Default,
}

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Configuration that is not accepted.
    Error,
    /// Configuration that is accepted, and probably not meant.
    Warning,
    /// Difference from distribution in a key that is implemented.
    Note,
}

/// Finding about a configuration. Displayed on one line: `config.yml:14:9: error: http.addr: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Place of the value, or of the nearest one.
    pub origin: Origin,
    /// Severity.
    pub severity: Severity,
    /// Key with its sections, such as `http.addr`; empty if the finding is about the whole.
    pub key: String,
    /// Problem, and its remedy. Never holds the value of a secret.
    pub message: String,
}

// === impl Severity ===

impl Severity {
    /// Returns the word in front of a finding.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

// === impl Origin ===

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(f, "{}:{line}:{column}", Escaped(file)),
            Self::Variable(name) => write!(f, "{}", Escaped(name)),
            Self::Default => f.write_str("default"),
        }
    }
}

// === impl Diagnostic ===

impl Diagnostic {
    /// Returns true if the configuration is not accepted.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Returns true if the finding is about `storage`, a variable that looks like a key of it, or the file as a
    /// whole.
    #[must_use]
    pub fn concerns_storage(&self) -> bool {
        match (&self.origin, self.key.split('.').next()) {
            (Origin::Variable(name), Some("")) => name.to_ascii_uppercase().starts_with("REGISTRY_STORAGE"),
            (_, section) => matches!(section, Some("" | "storage" | "version")),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.origin, self.severity.as_str())?;
        if !self.key.is_empty() {
            write!(f, "{}: ", Escaped(&self.key))?;
        }
        write!(f, "{}", Escaped(&self.message))
    }
}
