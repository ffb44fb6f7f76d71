//! The scripts and the tools that they need.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::process::{command, spawn};
use crate::support::server::{PROGRAM, SERVE, Server};
use crate::support::skip;

/// The tag of the version under test.
pub(crate) const TAG: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Returns the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the architecture of this machine, in the words of OCI images.
pub(crate) fn architecture() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Returns a script of `.ci/release` with its arguments, without credentials of the machine's user.
pub(crate) fn script(name: &str, arguments: &[&str]) -> Command {
    let mut script = command(root().join(".ci/release").join(name));
    script.args(arguments).env("DOCKER_CONFIG", "/nonexistent");
    script
}

/// Exit code and output of a script.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) fn outcome(command: &mut Command) -> Outcome {
    let child = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs a command that succeeds, and returns its standard output.
#[track_caller]
pub(crate) fn good(command: &mut Command) -> String {
    let outcome = outcome(command);
    assert_eq!(outcome.code, Some(0), "{command:?}: {}", outcome.stderr);
    outcome.stdout
}

/// Runs a command that fails with code 1 and one line, and returns that line.
#[track_caller]
pub(crate) fn refusal(command: &mut Command) -> String {
    let outcome = outcome(command);
    assert_eq!(outcome.code, Some(1), "{command:?}: {outcome:?}");
    let error = outcome.stderr.trim_end();
    assert!(error.starts_with("error: ") && !error.contains('\n'), "{error}");
    error.to_owned()
}

/// Runs the program under test, and returns its standard output.
#[track_caller]
pub(crate) fn quinistry(arguments: &[&str]) -> String {
    good(command(PROGRAM).args(arguments).env("DOCKER_CONFIG", "/nonexistent"))
}

/// Starts a registry in memory, and returns its host and port.
pub(crate) fn registry() -> (Server, String) {
    let server = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", "memory"]));
    let host = server.peer.0.to_string();
    (server, host)
}

/// Returns a value of PATH that begins with the folder of a tool that `.ci/tools` builds. None: the test is
/// skipped, and says so.
pub(crate) fn path_with(tool: &str, version: &str, folder: &str) -> Option<OsString> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    let folder = cache.join(format!("quinistry/tools/{tool}-{version}")).join(folder);
    if !folder.join(tool).is_file() {
        skip::missing(&format!("{tool} {version} (.ci/tools builds it)"));
        return None;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    Some(env::join_paths([folder].into_iter().chain(env::split_paths(&path))).unwrap())
}
