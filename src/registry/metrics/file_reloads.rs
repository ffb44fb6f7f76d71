//! Failed reloads of the files that a registry watches.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use quinistry_http::metrics::Exposition;

/// Numbers of failed reloads, by the name of the value that was to be read. Names are constants of the program, so
/// that the number of series is bounded.
#[derive(Debug, Default)]
pub(super) struct FileReloadFailures(Mutex<BTreeMap<&'static str, u64>>);

impl FileReloadFailures {
    /// Shows the value's number, also while it is 0.
    pub(super) fn watch(&self, what: &'static str) {
        self.add(what, 0);
    }

    /// Counts a failure.
    pub(super) fn failed(&self, what: &'static str) {
        self.add(what, 1);
    }

    fn add(&self, what: &'static str, count: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what).or_default() += count;
    }

    pub(super) fn write(&self, page: &mut Exposition) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !counts.is_empty() {
            page.counter_series(
                "quinistry_reload_failures_total",
                "Changed files that could not be used.",
                counts.iter().map(|(what, count)| ([("what", *what)], *count)),
            );
        }
    }
}
