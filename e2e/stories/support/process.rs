//! A program beside the stories, such as a story's own operator. A story can kill, pause and resume the
//! process, which also ends with its guard.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// Number of log lines shown after a failure.
const LINES: usize = 80;

/// A running program, and the file that contains its output.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its own environment and arguments. The output is appended to the log, so that
    /// one file contains the output of all processes that a story starts one after another.
    pub fn start(command: &Command, log: &Path) -> Result<Self> {
        let mut command = bound(command);
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let shown = format!("{:?}", command.as_std());
        command.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("failed to start {shown}"))?;
        Ok(Self { child, log: log.into() })
    }

    /// Returns the process ID, unless the process has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns all output so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns true if the process has not ended by itself.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the process at once (SIGKILL).
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("failed to kill the process")
    }

    /// Asks the process to end, and waits until it has ended (SIGTERM).
    pub async fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.child.wait().await.map(drop).context("the process does not end")
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
        let id = self.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        kill_process(id.context("the process has ended")?, signal).context("failed to signal the process")
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
fn bound(command: &Command) -> Command {
    let given = command.as_std();
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
