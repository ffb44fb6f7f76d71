//! Programs that print credentials, by the protocol of docker's credential helpers, within bounds of time and length.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use quinistry_client::Credentials;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// Time limit for a helper; a client waits for its answer.
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);

/// Length of the longest answer; tokens have some kilobytes.
const MAX_OUTPUT_BYTES: u64 = 64 * 1024;

/// Message of helpers that have no credentials for a server.
const NOT_FOUND: &[u8] = b"credentials not found";

/// Reasons why a helper gives no credentials. None repeats what the helper has written, which may be secret.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum HelperError {
    #[error("credential helper {program} cannot be run: {reason}")]
    Start { program: String, reason: String },
    #[error("credential helper {program} has not ended within {} seconds", HELPER_TIMEOUT.as_secs())]
    Timeout { program: String },
    #[error("credential helper {program} prints more than {} KiB", MAX_OUTPUT_BYTES / 1024)]
    TooLong { program: String },
    #[error("credential helper {program} failed: {status}")]
    Failed { program: String, status: String },
    #[error("credential helper {program} failed: {reason}")]
    Malformed { program: String, reason: &'static str },
}

/// Helper that runs, with all of its own programs; ended when dropped.
struct Running {
    child: Child,
    has_ended: bool,
}

/// Asks a helper for the credentials for a server; `None` if the helper has none.
pub(crate) async fn get(command: &Path, server: &str) -> Result<Option<Credentials>, HelperError> {
    get_within(command, server, HELPER_TIMEOUT).await
}

async fn get_within(
    command: &Path,
    server: &str,
    limit: Duration,
) -> Result<Option<Credentials>, HelperError> {
    let program = || command.display().to_string();
    let mut running = Running::start(command)
        .map_err(|error| HelperError::Start { program: program(), reason: error.to_string() })?;
    let output = tokio::time::timeout(limit, running.output(server))
        .await
        .map_err(|_| HelperError::Timeout { program: program() })?
        .map_err(|error| HelperError::Start { program: program(), reason: error.to_string() })?;
    let Some((status, output)) = output else {
        return Err(HelperError::TooLong { program: program() });
    };
    if status.success() {
        return Credentials::from_helper_output(&output)
            .map_err(|reason| HelperError::Malformed { program: program(), reason });
    }
    let is_none = output.windows(NOT_FOUND.len()).any(|part| part.eq_ignore_ascii_case(NOT_FOUND));
    if is_none {
        Ok(None)
    } else {
        Err(HelperError::Failed { program: program(), status: status.to_string() })
    }
}

// === impl Running ===

impl Running {
    fn start(command: &Path) -> io::Result<Self> {
        let child = Command::new(command)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Helpers write secrets there, too.
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child, has_ended: false })
    }

    /// Returns status and output; `None` if the output is too long.
    async fn output(&mut self, server: &str) -> io::Result<Option<(std::process::ExitStatus, Vec<u8>)>> {
        let mut stdin = self.child.stdin.take().expect("it was piped");
        let stdout = self.child.stdout.take().expect("it was piped");
        // A helper that does not read its input may have what it needs; its exit code decides.
        let _ = stdin.write_all(server.as_bytes()).await;
        drop(stdin);
        let mut output = Vec::new();
        stdout.take(MAX_OUTPUT_BYTES + 1).read_to_end(&mut output).await?;
        if output.len() as u64 > MAX_OUTPUT_BYTES {
            return Ok(None);
        }
        let status = self.child.wait().await?;
        self.has_ended = true;
        Ok(Some((status, output)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The number belongs to the child until it was waited for.
        let id = self.child.id().filter(|_| !self.has_ended).and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            // The helper may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Writes an executable by another process: one that this process has open for writing cannot be executed while a child
/// that another test forks has the file, too.
#[cfg(test)]
pub(crate) fn write_executable(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    let made =
        std::process::Command::new("install").args(["-m", "700"]).arg(&draft).arg(path).status().unwrap();
    assert!(made.success());
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Instant;

    use quinistry_client::Secret;

    use super::*;

    /// Creates a program in a folder that must outlive it.
    fn program(script: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("helper");
        write_executable(&path, &format!("#!/bin/sh\n{script}\n"));
        (folder, path)
    }

    #[tokio::test]
    async fn a_helper_is_asked_for_the_server() {
        let (_folder, path) =
            program(r#"test "$1" = get && printf '{"Username":"u","Secret":"%s"}' "$(cat)""#);
        let found = get(&path, "h:5000").await.unwrap();
        let password = Secret::new("h:5000");
        assert_eq!(found, Some(Credentials::Password { username: "u".into(), password }));
        let (_folder, path) = program("echo 'credentials not found in native keychain'; exit 1");
        assert_eq!(get(&path, "h").await.unwrap(), None);
        assert!(matches!(get(Path::new("/missing/helper"), "h").await, Err(HelperError::Start { .. })));
    }

    #[tokio::test]
    async fn row_168_helpers_that_hang_flood_or_tell_secrets_are_bounded() {
        let begin = Instant::now();
        let (folder, path) = program("echo hunter2 >&2; (sleep 5; touch \"$0.late\") & sleep 60");
        let error = get_within(&path, "h", Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(error, HelperError::Timeout { .. }), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(5));
        let (_folder, path) = program("head -c 1000000000 /dev/zero");
        let error = get(&path, "h").await.unwrap_err();
        assert!(matches!(error, HelperError::TooLong { .. }), "{error}");
        for script in ["echo hunter2; echo hunter2 >&2; exit 3", "echo hunter2", "echo '[\"hunter2\"]'"] {
            let (_folder, path) = program(script);
            let error = get(&path, "h").await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{script}");
        }
        tokio::time::sleep(Duration::from_secs(5).saturating_sub(begin.elapsed())).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!folder.path().join("helper.late").exists(), "the helper's own programs are ended, too");
    }
}
