//! The surface of the commands: forms, exit codes, what is printed in which form, and what is refused.

mod bundle;
mod config;
mod fields;
mod fsck;
mod load;
mod load_store;
mod output;
mod push;
mod refusals;
mod registries;
mod retention;
mod serve;
mod status;
mod upstream;

use std::process::{Command, Output, Stdio};

use crate::support::process::{command, output};
use crate::support::server::{PROGRAM, SERVE, Server};

/// Returns the program with arguments, and without credentials of the machine's user.
fn quinistry(arguments: &[&str]) -> Command {
    let mut command = command(PROGRAM);
    command.args(arguments).stdin(Stdio::null()).env("DOCKER_CONFIG", "/nonexistent");
    command
}

fn run(arguments: &[&str]) -> Output {
    output(&mut quinistry(arguments)).unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Runs the program, asserts success, and returns its standard output.
#[track_caller]
fn good(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output).to_owned()
}

/// Runs the program, asserts a failure with this exit code, and returns its standard error.
#[track_caller]
fn bad(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
    assert_eq!(stdout(&output), "", "{arguments:?}");
    stderr(&output).to_owned()
}

/// Starts a registry in memory to push to, and returns a name in it.
fn registry() -> (Server, String) {
    let server = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", "memory"]));
    let host = server.peer.0.to_string();
    (server, host)
}
