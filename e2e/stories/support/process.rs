//! A program beside the stories, such as a story's own operator. A story can kill, pause and resume the
//! process, which also ends with its guard.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

#[path = "../../../tests/support/process.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod guard;

/// Number of the log's last lines that an error shows.
const LINES: usize = 80;

/// Pause between two checks whether a process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A running program, and the file that contains its output.
pub struct Process {
    guard: guard::Process,
    has_ended: bool,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its own environment and arguments. The output is appended to the log, so that
    /// one file contains the output of all processes that a story starts one after another.
    pub fn start(command: &tokio::process::Command, log: &Path) -> Result<Self> {
        let mut command = bound(command.as_std());
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        command.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let guard =
            guard::Process::start(&mut command).with_context(|| format!("failed to start {command:?}"))?;
        Ok(Self { guard, has_ended: false, log: log.into() })
    }

    /// Returns the process ID, unless the process has ended.
    pub fn id(&self) -> Option<u32> {
        (!self.has_ended).then(|| self.guard.pid().as_raw_nonzero().get().unsigned_abs())
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns true if the process has not ended by itself.
    pub fn is_alive(&mut self) -> bool {
        self.has_ended = !self.guard.is_running();
        !self.has_ended
    }

    /// Ends the process at once (SIGKILL).
    pub async fn kill(self) -> Result<()> {
        self.end(Signal::KILL).await
    }

    /// Asks the process to end, and waits until it has ended (SIGTERM).
    pub async fn stop(self) -> Result<()> {
        self.end(Signal::TERM).await
    }

    async fn end(mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        while self.is_alive() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Stops the process (SIGSTOP).
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Continues the process (SIGCONT).
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        anyhow::ensure!(!self.has_ended, "the process has ended");
        self.guard.signal(signal).context("failed to signal the process")
    }
}

/// Runs a story with a log for its processes, and adds the last lines of the log to an error.
pub async fn with_log<F>(play: impl FnOnce(PathBuf) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let result = play(log.clone()).await;
    result.with_context(|| format!("log of the operators:\n{}", last_words(&log)))
}

/// Returns the last lines of a log, which most often contain the reason of a failure.
pub fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Wraps a command so that the process ends with this one, however this one ends.
fn bound(given: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(given.get_program()).args(given.get_args());
    for (name, value) in given.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    bound
}
