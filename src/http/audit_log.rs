//! Audit log: a JSON object on a line for each event that an administrator must be able to account for.
//!
//! Events go to a bounded queue, and a thread of its own writes them. An event that finds the queue full is dropped,
//! counted and warned about: a slow output never makes a request wait. A file is opened for appending, and opened
//! again when a program that rotates logs asks for it.

mod entry;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::access_log::stdout::Stdout;

pub use self::entry::{AuditDecision, AuditEntry};

/// Capacity of the queue, in bytes of lines: some ten thousand of them.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// Permission bits of a new file: its lines name users and addresses.
const FILE_MODE: u32 = 0o600;

/// Place of an audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditPlace {
    /// Standard output.
    Stdout,
    /// File, to whose end lines are added. A file that is absent is made.
    File(PathBuf),
}

/// Audit log. Clones share it; the thread ends with the last of them.
#[derive(Clone, Debug)]
pub struct AuditLog(Arc<Owner>);

/// Part that ends the thread when it is dropped.
#[derive(Debug)]
struct Owner {
    place: AuditPlace,
    shared: Arc<SharedLines>,
}

#[derive(Debug, Default)]
struct SharedLines {
    lines: Mutex<Lines>,
    /// Signalled when there is something to do for the thread.
    filled: Condvar,
    /// Signalled when all lines were written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<u8>,
    /// Output to use from now on.
    next_output: Option<File>,
    /// The thread writes lines that it has taken.
    is_writing: bool,
    is_closed: bool,
    is_full: bool,
    dropped: u64,
}

// === impl AuditLog ===

impl AuditLog {
    /// Opens the place, and starts the thread.
    pub fn start(place: AuditPlace) -> io::Result<Self> {
        match &place {
            AuditPlace::Stdout => Self::start_on(place, Stdout::new()?),
            AuditPlace::File(path) => {
                let file = open(path)?;
                Self::start_on(place, file)
            }
        }
    }

    /// Starts the thread on an output that is open.
    fn start_on(place: AuditPlace, output: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<SharedLines>::default();
        let log = Self(Arc::new(Owner { place, shared: shared.clone() }));
        std::thread::Builder::new().name("audit-log".into()).spawn(move || shared.run(Box::new(output)))?;
        Ok(log)
    }

    /// Returns the place of the lines.
    #[must_use]
    pub fn place(&self) -> &AuditPlace {
        &self.0.place
    }

    /// Queues the line of an event. Never waits for the output.
    pub fn log(&self, entry: &AuditEntry<'_>) {
        let mut lines = self.0.shared.lines();
        if lines.text.len() >= QUEUE_BYTES {
            lines.dropped += 1;
            let is_first = !std::mem::replace(&mut lines.is_full, true);
            drop(lines);
            if is_first {
                tracing::warn!(place = %self.0.place, "audit log is too slow, dropping its lines");
            }
            return;
        }
        entry.append_to(&mut lines.text);
        drop(lines);
        self.0.shared.filled.notify_one();
    }

    /// Opens the file again, for one that was renamed. Lines that were logged before go to the former file. On an
    /// error the former file stays in use. Blocks.
    pub fn reopen(&self) -> io::Result<()> {
        let AuditPlace::File(path) = &self.0.place else { return Ok(()) };
        let file = open(path)?;
        self.flush(Duration::from_secs(1));
        self.0.shared.lines().next_output = Some(file);
        self.0.shared.filled.notify_one();
        Ok(())
    }

    /// Returns true if both write to the same queue.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the number of lines that were not written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.shared.lines().dropped
    }

    /// Waits until all lines were written, at most for `timeout`. Call before the process ends.
    pub fn flush(&self, timeout: Duration) {
        let lines = self.0.shared.lines();
        let is_busy = |lines: &mut Lines| lines.is_writing || !lines.text.is_empty();
        // The result tells no more than the queue does.
        drop(self.0.shared.emptied.wait_timeout_while(lines, timeout, is_busy));
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.lines().is_closed = true;
        self.shared.filled.notify_one();
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A pipe without a reader would block as soon as it is opened. Devices such as /dev/stderr do not.
    if path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        return Err(io::Error::other("is a pipe, which blocks until there is a reader; name a file"));
    }
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)
}

// === impl AuditPlace ===

impl std::fmt::Display for AuditPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

// === impl SharedLines ===

impl SharedLines {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        // Nothing panics between two changes that belong together.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes lines until the log is closed.
    fn run(&self, mut output: Box<dyn Write>) {
        let mut is_failing = false;
        while let Some((text, next_output)) = self.next() {
            if let Some(file) = next_output {
                output = Box::new(file);
            }
            let written = output.write_all(&text).and_then(|()| output.flush());
            if let Err(error) = &written {
                self.lines().dropped += text.split_inclusive(|byte| *byte == b'\n').count() as u64;
                if !is_failing {
                    tracing::error!(%error, "cannot write audit log, dropping its lines");
                }
            }
            is_failing = written.is_err();
        }
    }

    /// Waits for lines, or another output, and takes them; `None` once the log is closed and all were taken.
    fn next(&self) -> Option<(Vec<u8>, Option<File>)> {
        let mut lines = self.lines();
        lines.is_writing = false;
        if lines.text.is_empty() {
            self.emptied.notify_all();
        }
        let is_idle =
            |lines: &mut Lines| lines.text.is_empty() && lines.next_output.is_none() && !lines.is_closed;
        let mut lines = self.filled.wait_while(lines, is_idle).unwrap_or_else(PoisonError::into_inner);
        if lines.text.is_empty() && lines.next_output.is_none() {
            return None;
        }
        lines.is_writing = true;
        lines.is_full = false;
        Some((std::mem::take(&mut lines.text), lines.next_output.take()))
    }
}
