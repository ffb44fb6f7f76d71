//! A generation's process: started on a socket that is already bound, and never outliving us.

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

/// As long as `serve` waits for running answers, and a little more.
const STOP: Duration = Duration::from_secs(12);

/// How much of what a process says is kept for the case that it dies.
const LAST_WORDS: usize = 4096;

/// Takes a port for a generation. It is bound here, and handed on, so that a taken port is our own error and a
/// free one (`port` 0) stays ours.
pub(super) fn bind(port: u16) -> io::Result<TcpListener> {
    // Loopback only: these registries are for this machine.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

/// A running generation. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: u32,
    said: Arc<Mutex<Vec<u8>>>,
    listening: JoinHandle<()>,
}

impl Process {
    /// Runs `executable` as a registry on `listener`, with nothing from our environment.
    pub(super) fn start(executable: &Path, listener: TcpListener, form: LayerForm) -> io::Result<Self> {
        let mut child = Command::new(executable)
            .args(["serve", "--listen-stdin", "--layer", form.as_str()])
            // SIGKILL leaves us no time to end it, so the kernel is asked to.
            .args(["--die-with", &std::process::id().to_string()])
            .env_clear()
            .env("RUST_LOG", "warn")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().expect("a child that was not waited for has an id");
        let said = Arc::default();
        let stderr = child.stderr.take().expect("standard error is piped");
        let listening = tokio::spawn(listen(stderr, Arc::clone(&said)));
        Ok(Self { child, pid, said, listening })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Resolves when the process ends by itself.
    pub(super) async fn ended(&mut self) -> io::Result<Ended> {
        let status = self.child.wait().await?;
        // Its words may still be in the pipe, which closes with it.
        let _ = (&mut self.listening).await;
        let said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(Ended { status, last_words: String::from_utf8_lossy(&said).trim().to_owned() })
    }

    /// Asks the process to stop.
    pub(super) fn ask_to_stop(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        if let (Some(pid), Some(_)) = (pid, self.child.id()) {
            // An error means that it has ended already, which is what is wanted.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// Waits until the process has ended, and ends it if it takes too long.
    pub(super) async fn wait_stopped(&mut self) {
        if tokio::time::timeout(STOP, self.child.wait()).await.is_err() {
            // The only errors are that it has ended, and that it cannot be waited for; neither leaves more to do.
            let _ = self.child.kill().await;
        }
    }
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) last_words: String,
}

/// Keeps the end of what is said; reading on keeps a talkative process from stopping at a full pipe.
async fn listen(stderr: ChildStderr, said: Arc<Mutex<Vec<u8>>>) {
    let mut stderr = BufReader::new(stderr);
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        let mut said = said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        said.extend_from_slice(&buffer[..length]);
        let surplus = said.len().saturating_sub(LAST_WORDS);
        said.drain(..surplus);
    }
}
