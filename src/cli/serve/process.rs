//! Properties of the serving process: its parent, its file limit, and its termination message.

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File from which Kubernetes reads a container's termination message.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Leaves a message for the status of the container, where Kubernetes runs one.
pub(in crate::cli) fn leave_termination_message(message: &str) {
    // The file is absent outside Kubernetes. A failure to write it is ignored: the message is printed as well.
    if std::fs::exists(TERMINATION_LOG).unwrap_or(false) {
        let _ = std::fs::write(TERMINATION_LOG, message);
    }
}

/// Raises the soft limit of open files to the hard limit, because every connection is an open file. The
/// customary soft limit of 1024 protects programs that use select(2), which this one does not.
pub(super) fn lift_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

/// Makes the kernel kill this process when its parent ends, even by SIGKILL.
pub(super) fn die_with(parent: i32) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("failed to tie this process to its parent's life")?;
    // The parent may have ended before the line above, and then no signal comes.
    let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_pid);
    anyhow::ensure!(now == Some(parent), "the parent process {parent} is gone");
    Ok(())
}
