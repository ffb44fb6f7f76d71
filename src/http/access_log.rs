//! Access log: one line for each request, in Apache's Combined format or as JSON.
//!
//! Requests hand their entries to a bounded queue, and a thread of its own formats and writes them. An entry
//! that finds the queue full is dropped and counted: a slow, full or closed output never makes a request wait.

mod entry;
mod format;
pub(crate) mod stdout;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::metrics::Counter;

pub use self::entry::AccessLogEntry;

/// Capacity of the queue, in bytes of entries: some ten thousand of them.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// Number of formatted bytes from which they are written.
const WRITE_BYTES: usize = 64 * 1024;

/// Form of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Apache's Combined format.
    #[default]
    Combined,
    /// JSON objects.
    Json,
}

/// Log of the requests. Clones share it; the thread ends with the last of them.
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Owner>);

/// Part that ends the thread when it is dropped.
#[derive(Debug)]
struct Owner(Arc<SharedQueue>);

#[derive(Debug)]
struct SharedQueue {
    queue: Mutex<Queue>,
    /// Signalled when the queue has entries or is closed.
    filled: Condvar,
    /// Signalled when all entries were written.
    emptied: Condvar,
    is_json: AtomicBool,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Queue {
    entries: Vec<AccessLogEntry>,
    bytes: usize,
    /// The thread writes entries that it has taken.
    is_writing: bool,
    is_closed: bool,
}

// === impl AccessLog ===

impl AccessLog {
    /// Starts a log on standard output.
    pub fn on_stdout(format: AccessLogFormat) -> std::io::Result<Self> {
        Self::start(stdout::Stdout::new()?, format)
    }

    /// Starts a log on `output`. Each write has whole lines.
    pub fn start(output: impl Write + Send + 'static, format: AccessLogFormat) -> std::io::Result<Self> {
        let shared = Arc::new(SharedQueue {
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            is_json: AtomicBool::new(format == AccessLogFormat::Json),
            dropped: Counter::default(),
        });
        let log = Self(Arc::new(Owner(shared.clone())));
        std::thread::Builder::new().name("access-log".into()).spawn(move || shared.run(output))?;
        Ok(log)
    }

    /// Returns the form of the lines.
    #[must_use]
    pub fn format(&self) -> AccessLogFormat {
        self.shared().format()
    }

    /// Changes the form of the lines that are not written yet.
    pub fn set_format(&self, format: AccessLogFormat) {
        self.shared().is_json.store(format == AccessLogFormat::Json, Ordering::Relaxed);
    }

    /// Queues the line of a request. Never waits for the output.
    pub fn log(&self, entry: AccessLogEntry) {
        let shared = self.shared();
        let bytes = entry.bytes();
        let mut queue = shared.queue();
        if queue.bytes + bytes > QUEUE_BYTES {
            drop(queue);
            shared.dropped.increment();
            return;
        }
        queue.bytes += bytes;
        queue.entries.push(entry);
        let is_first = queue.entries.len() == 1 && !queue.is_writing;
        drop(queue);
        if is_first {
            shared.filled.notify_one();
        }
    }

    /// Returns the number of lines that were not written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared().dropped.get()
    }

    /// Waits until all lines were written, at most for `timeout`. Call before the process ends.
    pub fn flush(&self, timeout: Duration) {
        let queue = self.shared().queue();
        let is_busy = |queue: &mut Queue| queue.is_writing || !queue.entries.is_empty();
        // The result tells no more than the queue does.
        drop(self.shared().emptied.wait_timeout_while(queue, timeout, is_busy));
    }

    fn shared(&self) -> &SharedQueue {
        &self.0.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.queue().is_closed = true;
        self.0.filled.notify_one();
    }
}

// === impl Shared ===

impl SharedQueue {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics between two changes that belong together.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn format(&self) -> AccessLogFormat {
        if self.is_json.load(Ordering::Relaxed) { AccessLogFormat::Json } else { AccessLogFormat::Combined }
    }

    /// Writes entries until the log is closed.
    fn run(&self, mut output: impl Write) {
        let mut text = Vec::new();
        let mut is_failing = false;
        while let Some(entries) = self.next() {
            let mut lines = 0;
            let count = entries.len();
            for (index, entry) in entries.iter().enumerate() {
                format::append(self.format(), entry, &mut text);
                lines += 1;
                if text.len() < WRITE_BYTES && index + 1 < count {
                    continue;
                }
                let written = output.write_all(&text).and_then(|()| output.flush());
                if let Err(error) = &written {
                    self.dropped.add(lines);
                    if !is_failing {
                        tracing::warn!(%error, "cannot write access log, dropping its lines");
                    }
                }
                is_failing = written.is_err();
                text.clear();
                lines = 0;
            }
        }
    }

    /// Waits for entries and takes them; `None` once the log is closed and all were taken.
    fn next(&self) -> Option<Vec<AccessLogEntry>> {
        let mut queue = self.queue();
        queue.is_writing = false;
        if queue.entries.is_empty() {
            self.emptied.notify_all();
        }
        let wait = |queue: &mut Queue| queue.entries.is_empty() && !queue.is_closed;
        let mut queue = self.filled.wait_while(queue, wait).unwrap_or_else(PoisonError::into_inner);
        if queue.entries.is_empty() {
            return None;
        }
        queue.is_writing = true;
        queue.bytes = 0;
        Some(std::mem::take(&mut queue.entries))
    }
}
