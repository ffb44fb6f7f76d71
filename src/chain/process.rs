//! A generation's process: started on a socket that is already bound, and never outliving this process.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;

use crate::quine::LayerForm;

/// Time limit for a graceful stop: a little more than `serve` waits for responses under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// Length of the end of standard error that is kept to explain an exit.
const MAX_LAST_WORDS_BYTES: usize = 4096;

/// Binds a port for a generation. Binding here and handing the socket on makes a taken port an error of this
/// process, and keeps a free port (`port` 0) from being taken by another one.
pub(super) fn bind(port: u16) -> io::Result<TcpListener> {
    // Loopback only: these registries are for this machine.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

/// Process of a running generation, which is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: u32,
    stderr_end: Arc<Mutex<Vec<u8>>>,
    stderr_task: JoinHandle<()>,
}

impl Process {
    /// Runs `executable` as a registry on `listener`, with an empty environment.
    pub(super) fn start(executable: &Path, listener: TcpListener, form: LayerForm) -> io::Result<Self> {
        let mut child = Command::new(executable)
            .args(["serve", "--listen-stdin", "--layer", form.as_str()])
            // SIGKILL leaves this process no time to stop the child, so the kernel does it.
            .args(["--die-with", &std::process::id().to_string()])
            .env_clear()
            .env("RUST_LOG", "warn")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().expect("a child that was not waited for has an id");
        let stderr_end = Arc::default();
        let stderr = child.stderr.take().expect("standard error is piped");
        let stderr_task = tokio::spawn(keep_end(stderr, Arc::clone(&stderr_end)));
        Ok(Self { child, pid, stderr_end, stderr_task })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the process ends by itself.
    pub(super) async fn ended(&mut self) -> io::Result<Ended> {
        let status = self.child.wait().await?;
        // Output may still be in the pipe, which closes with the process.
        let _ = (&mut self.stderr_task).await;
        let end = self.stderr_end.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(Ended { status, last_words: String::from_utf8_lossy(&end).trim().to_owned() })
    }

    /// Sends SIGTERM to the process.
    pub(super) fn ask_to_stop(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        if let (Some(pid), Some(_)) = (pid, self.child.id()) {
            // An error means that the process has ended already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// Waits until the process has ended, and kills it if that takes too long.
    pub(super) async fn wait_stopped(&mut self) {
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            // Possible errors are that the process has ended and that waiting failed; neither leaves more to
            // do.
            let _ = self.child.kill().await;
        }
    }
}

/// Exit of a process, with the end of its standard error.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) last_words: String,
}

/// Keeps the end of standard error. Reading all of it keeps the process from blocking on a full pipe.
async fn keep_end(stderr: ChildStderr, end: Arc<Mutex<Vec<u8>>>) {
    let mut stderr = BufReader::new(stderr);
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        let mut end = end.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        end.extend_from_slice(&buffer[..length]);
        let surplus = end.len().saturating_sub(MAX_LAST_WORDS_BYTES);
        end.drain(..surplus);
    }
}
