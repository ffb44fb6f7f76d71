//! Collection of findings, bounded, and sorted by place at the end.

use super::diagnostic::{Diagnostic, Origin, Severity};

/// Most findings that are kept. More are counted: no reader wants them, and a hostile file has as many as it
/// has lines.
const MAX_FINDINGS: usize = 500;

/// Findings so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Diagnostic>,
    dropped_errors: usize,
    dropped: usize,
}

impl Findings {
    pub(super) fn error(&mut self, origin: &Origin, key: &str, message: String) {
        self.add(Severity::Error, origin, key, message);
    }

    pub(super) fn warn(&mut self, origin: &Origin, key: &str, message: String) {
        self.add(Severity::Warning, origin, key, message);
    }

    pub(super) fn note(&mut self, origin: &Origin, key: &str, message: String) {
        self.add(Severity::Note, origin, key, message);
    }

    pub(super) fn add(&mut self, severity: Severity, origin: &Origin, key: &str, message: String) {
        if self.is_full() {
            self.dropped += 1;
            self.dropped_errors += usize::from(severity == Severity::Error);
            return;
        }
        self.kept.push(Diagnostic { origin: origin.clone(), severity, key: key.to_owned(), message });
    }

    /// Returns true if further findings are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= MAX_FINDINGS
    }

    pub(super) fn has_errors(&self) -> bool {
        self.dropped_errors > 0 || self.kept.iter().any(Diagnostic::is_error)
    }

    /// Returns true if a finding that may concern this part of the configuration is an error.
    pub(super) fn has_errors_of(&self, concerns: impl Fn(&Diagnostic) -> bool) -> bool {
        self.dropped_errors > 0 || self.kept.iter().any(|found| found.is_error() && concerns(found))
    }

    /// Returns the findings, sorted by place.
    pub(super) fn sorted(mut self) -> Vec<Diagnostic> {
        self.kept.sort_by(|one, other| one.origin.cmp(&other.origin));
        if let Some(last) = self.kept.last().filter(|_| self.dropped > 0) {
            let severity = if self.dropped_errors > 0 { Severity::Error } else { Severity::Warning };
            let message = format!("{} more findings are not shown", self.dropped);
            let origin = last.origin.clone();
            self.kept.push(Diagnostic { origin, severity, key: String::new(), message });
        }
        self.kept
    }
}
