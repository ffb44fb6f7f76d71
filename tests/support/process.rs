//! Processes that end with the value that holds them, and starts that do not disturb a test that writes an
//! executable.
//!
//! Benches and the stories on a real cluster include this file too: it uses the standard library and rustix
//! alone.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

/// A running program, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a command. When this returns, its program runs.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let _guard = no_forks();
        Ok(Self { child: command.spawn()? })
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Process ID; also that of a process that has ended.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Returns true if the process has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Kills the process, and waits for its end.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Lock that a test holds while it writes an executable, and each start of a process holds too. Between fork
/// and exec a child has every file of the tests open, also one that another test is writing, and the kernel
/// executes no file that is open for writing (ETXTBSY).
pub fn no_forks() -> MutexGuard<'static, ()> {
    static FORKS: Mutex<()> = Mutex::new(());
    // A test that failed with the lock does not concern the others.
    FORKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a command that its caller waits for. When this returns, its program runs.
pub fn spawn(command: &mut Command) -> Child {
    let _guard = no_forks();
    command.spawn().unwrap_or_else(|error| panic!("{error}: {command:?}"))
}

/// Runs a command to its end, with empty standard input, and returns its output.
pub fn output(command: &mut Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = {
        let _guard = no_forks();
        command.spawn()?
    };
    child.wait_with_output()
}

/// Runs a command to its end with `input` on its standard input, and returns its output. A program that reads nothing may
/// have ended before the input is written.
pub fn output_with(command: &mut Command, input: &[u8]) -> io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = {
        let _guard = no_forks();
        command.spawn()?
    };
    let written = child.stdin.take().expect("a pipe").write_all(input);
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(error);
    }
    child.wait_with_output()
}

/// Variables that a command of [`isolated_command`] keeps: where programs, settings and temporary files are.
const KEPT_VARIABLES: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// Returns a command with almost none of the caller's variables. Clients of object stores read many: where a machine
/// has `AWS_CA_BUNDLE`, for example, an old client of Amazon does not start.
pub fn isolated_command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    let kept = KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(kept);
    command
}

/// Returns a command without the variables of the caller that change the program's output.
pub fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env_remove("RUST_LOG");
    command
}
