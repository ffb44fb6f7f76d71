//! Progress bars on standard error, if that is a terminal.

use std::collections::HashMap;
use std::io::{IsTerminal as _, stderr};
use std::sync::{Arc, Mutex};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::client::{Outcome, Progress};
use crate::oci::{Descriptor, Digest};

/// Returns bars for a terminal, and an observer without output otherwise or with `--quiet`.
pub(super) fn bars(quiet: bool) -> Arc<dyn Progress> {
    if stderr().is_terminal() && !quiet { Arc::new(Bars::default()) } else { Arc::new(()) }
}

/// As [`bars`], with a bar for all blobs, their rate and the remaining time.
pub(super) fn bars_with_total(quiet: bool) -> Arc<dyn Progress> {
    if !stderr().is_terminal() || quiet {
        return Arc::new(());
    }
    let style =
        ProgressStyle::with_template("{prefix:12} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left")
            .expect("a constant template");
    let total = ProgressBar::new(0).with_style(style).with_prefix("in all");
    let all = MultiProgress::new();
    let total = Some(all.add(total));
    Arc::new(Bars { all, total, by_blob: Mutex::default() })
}

/// Line on standard error that counts, if that is a terminal.
pub(super) struct Counter(Option<ProgressBar>);

impl Counter {
    /// Creates a counter that shows nothing with `quiet`.
    pub(super) fn new(quiet: bool) -> Self {
        if quiet || !stderr().is_terminal() {
            return Self(None);
        }
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("a constant template");
        Self(Some(ProgressBar::new_spinner().with_style(style)))
    }

    /// Shows a text.
    pub(super) fn set(&self, text: impl FnOnce() -> String) {
        if let Some(bar) = &self.0 {
            bar.set_message(text());
            bar.tick();
        }
    }

    /// Hides the line while other output is written.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        if let Some(total) = &self.total {
            total.finish();
        }
    }
}

#[derive(Default)]
struct Bars {
    all: MultiProgress,
    /// Bar for all blobs that are transferred.
    total: Option<ProgressBar>,
    by_blob: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Progress for Bars {
    fn expect(&self, _: usize, bytes: u64) {
        if let Some(total) = &self.total {
            total.inc_length(bytes);
        }
    }

    fn begin(&self, blob: &Descriptor) {
        let style =
            ProgressStyle::with_template("{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}")
                .expect("a constant template");
        let mut bars = self.by_blob.lock().expect("nothing panics while it is held");
        let bar =
            bars.entry(blob.digest.clone()).or_insert_with(|| self.all.add(ProgressBar::new(blob.size)));
        bar.set_style(style);
        bar.set_prefix(blob.digest.hex()[..12].to_owned());
        if let Some(total) = &self.total {
            total.dec(bar.position());
        }
        bar.set_position(0);
    }

    fn advance(&self, blob: &Descriptor, bytes: u64) {
        if let Some(bar) = self.by_blob.lock().expect("nothing panics while it is held").get(&blob.digest) {
            bar.inc(bytes);
            if let Some(total) = &self.total {
                total.inc(bytes);
            }
        }
    }

    fn end(&self, blob: &Descriptor, outcome: Outcome) {
        if let Some(bar) = self.by_blob.lock().expect("nothing panics while it is held").remove(&blob.digest)
        {
            if let (Some(total), Outcome::Existing | Outcome::Mounted) = (&self.total, outcome) {
                // The remaining time is that of what is transferred.
                total.set_length(total.length().unwrap_or_default().saturating_sub(blob.size));
            }
            bar.finish_with_message(match outcome {
                Outcome::Transferred => "",
                Outcome::Existing => "is there",
                Outcome::Mounted => "mounted",
            });
        }
    }
}
