//! Findings about a file of users or keys, each with its line.

use crate::config::Severity;

/// Most findings about one file that are kept. More are counted.
const MAX_FINDINGS: usize = 100;

/// Finding about a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFinding {
    /// Line, from 1.
    pub line: u32,
    /// Severity. An error makes the line void; the others hold.
    pub severity: Severity,
    /// Problem, without any secret.
    pub message: String,
}

/// Findings about one file, bounded, in the order of the lines.
#[derive(Debug, Default)]
pub(super) struct FileFindings {
    kept: Vec<FileFinding>,
    dropped: usize,
}

// === impl FileFindings ===

impl FileFindings {
    pub(super) fn warn(&mut self, line: u32, message: String) {
        self.add(FileFinding { line, severity: Severity::Warning, message });
    }

    pub(super) fn error(&mut self, line: u32, message: String) {
        self.add(FileFinding { line, severity: Severity::Error, message });
    }

    fn add(&mut self, finding: FileFinding) {
        if self.kept.len() < MAX_FINDINGS {
            self.kept.push(finding);
        } else {
            self.dropped += 1;
        }
    }

    pub(super) fn into_vec(mut self) -> Vec<FileFinding> {
        if let Some(last) = self.kept.last().filter(|_| self.dropped > 0) {
            let message = format!("{} more findings are not shown", self.dropped);
            let line = last.line;
            self.kept.push(FileFinding { line, severity: Severity::Warning, message });
        }
        self.kept
    }
}

/// Logs findings about a file, each on a line.
pub(super) fn log(file: &std::path::Path, findings: &[FileFinding]) {
    let file = file.display();
    for FileFinding { line, severity, message } in findings {
        match severity {
            Severity::Error => tracing::error!(place = format!("{file}:{line}"), "{message}"),
            Severity::Warning | Severity::Note => {
                tracing::warn!(place = format!("{file}:{line}"), "{message}");
            }
        }
    }
}
