//! Checks of a configuration that hold for every input.

use std::io;
use std::path::Path;

use quinistry::registry::config::{self, Loaded, Origin, ReadFile, SecretFile, Source};

/// Files that a configuration names: none.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl ReadFile for NoFiles {
    fn read(&self, _: &Path, _: usize) -> io::Result<SecretFile> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Checks that findings fit the result, stand on one line each, and that an accepted configuration is shown as
/// a text that gives the same configuration.
pub fn check(loaded: &Loaded) {
    let has_errors = loaded.diagnostics.iter().any(config::Diagnostic::is_error);
    assert_eq!(loaded.config.is_none(), has_errors, "{:?}", loaded.diagnostics);
    assert_eq!(loaded.show().is_some(), loaded.config.is_some());
    for finding in &loaded.diagnostics {
        let line = finding.to_string();
        assert!(!line.contains(char::is_control) && line.len() < 100_000, "{line:?}");
        if let Origin::File { line, column, .. } = &finding.origin {
            assert!(*line > 0 && *column > 0, "{finding:?}");
        }
    }
    // Aliases may make a short file a long text.
    if let Some(shown) = loaded.show().filter(|shown| shown.len() <= config::MAX_FILE_BYTES) {
        let again = config::load(Some(Source { name: "shown", bytes: shown.as_bytes() }), [], &NoFiles);
        let shown_again = again.show();
        let findings: Vec<_> = again.diagnostics.iter().map(ToString::to_string).collect();
        assert!(shown_again.is_some(), "{shown}\n{findings:#?}");
        assert_eq!(shown_again.as_deref().map(without_places), Some(without_places(&shown)));
    }
}

/// Returns a text without the comments that name the place of each value.
fn without_places(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.rsplit_once(" # from ").map_or(line, |(value, _)| value).to_owned())
        .collect()
}
