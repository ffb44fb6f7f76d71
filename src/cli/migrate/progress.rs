//! Progress of a migration: a line on a terminal, and otherwise log lines.

use std::io::{IsTerminal as _, stderr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::format_bytes;
use crate::store::MigrationObserver;

/// Bytes after which a log line is written where there is no terminal.
const LOGGED_BYTES: u64 = 10_000_000_000;

/// Progress of all passes.
#[derive(Debug)]
pub(super) struct Progress {
    /// Line on the terminal.
    bar: Option<ProgressBar>,
    bytes: AtomicU64,
    objects: AtomicU64,
}

// === impl Progress ===

impl Progress {
    pub(super) fn new(is_quiet: bool) -> Self {
        let bar = (stderr().is_terminal() && !is_quiet).then(|| {
            let style = ProgressStyle::with_template("{spinner} {bytes} copied ({bytes_per_sec}), {msg}")
                .expect("a constant template");
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, bytes: AtomicU64::new(0), objects: AtomicU64::new(0) }
    }

    /// Reports the end of a pass after which another one follows.
    pub(super) fn log_pass(&self, number: u64, changes: u64) {
        if self.bar.is_none() {
            tracing::info!(number, changes, "pass ended, next one begins");
        }
    }
}

impl MigrationObserver for Progress {
    fn copied(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_position(before + bytes);
        } else if before / LOGGED_BYTES != (before + bytes) / LOGGED_BYTES {
            let objects = self.objects.load(Ordering::Relaxed);
            tracing::info!(copied = %format_bytes(before + bytes), objects, "migration goes on");
        }
    }

    fn looked_at(&self, objects: u64) {
        let all = self.objects.fetch_add(objects, Ordering::Relaxed) + objects;
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{all} objects looked at"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
