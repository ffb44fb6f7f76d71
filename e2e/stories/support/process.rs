//! A program beside the stories, such as an operator of a story's own: it is killed, paused and resumed as a story
//! wishes, and ends with its guard.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// How many lines are the last words.
const LINES: usize = 80;

/// A running program, and the file that takes down what it says.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program, with its own environment and arguments. What it says is added to the log, so that one file
    /// tells of all that a story starts after each other.
    pub fn start(command: &Command, log: &Path) -> Result<Self> {
        let mut command = bound(command);
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let shown = format!("{:?}", command.as_std());
        command.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("failed to start {shown}"))?;
        Ok(Self { child, log: log.into() })
    }

    /// Its number; nothing once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// All that was said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it has not ended by itself.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it at once, wherever it is (SIGKILL).
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("failed to kill the process")
    }

    /// Asks it to end and waits until it has (SIGTERM).
    pub async fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.child.wait().await.map(drop).context("the process does not end")
    }

    /// Holds it where it is (SIGSTOP).
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        kill_process(id.context("the process has ended")?, signal).context("failed to signal the process")
    }
}

/// Plays with a log for processes; what they said last is told when it goes wrong.
pub async fn with_log<F>(play: impl FnOnce(PathBuf) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let result = play(log.clone()).await;
    result.with_context(|| format!("the operators said:\n{}", last_words(&log)))
}

/// The last lines of a log, which most often say what went wrong.
pub fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// The command, made to end with this process, however that ends.
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
