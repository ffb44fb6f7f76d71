//! Programs that run to their end. The error of a failed program contains its output.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

/// Builds the command of a program with arguments.
pub fn command<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().expect("a program").as_ref());
    command.args(words.map(|word| word.as_ref().to_owned()));
    command.kill_on_drop(true);
    command
}

/// Runs a command, and returns its standard output.
pub async fn output(mut command: Command) -> Result<Vec<u8>> {
    command.stdin(Stdio::null());
    finish(command).await
}

/// Runs a command with a file as its standard input, and returns its standard output.
pub async fn output_of(mut command: Command, input: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(input).with_context(|| format!("failed to open {}", input.display()))?;
    command.stdin(file);
    finish(command).await
}

async fn finish(mut command: Command) -> Result<Vec<u8>> {
    let shown = format!("{:?}", command.as_std());
    let output = command.output().await.with_context(|| format!("failed to start {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(output.stdout)
}

/// Runs a command that must fail, and returns its error output.
pub async fn failure(mut command: Command) -> Result<String> {
    command.stdin(Stdio::null());
    let shown = format!("{:?}", command.as_std());
    let output = command.output().await.with_context(|| format!("failed to start {shown}"))?;
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(!output.status.success(), "{shown} succeeded: {errors}");
    Ok(errors)
}

/// Runs a command, and returns its standard output and its error output as text.
pub async fn outputs(mut command: Command) -> Result<(String, String)> {
    command.stdin(Stdio::null());
    let shown = format!("{:?}", command.as_std());
    let output = command.output().await.with_context(|| format!("failed to start {shown}"))?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{shown}: {}\n{errors}", output.status);
    Ok((String::from_utf8(output.stdout).context("not text")?, errors))
}

/// Runs a command, and returns its standard output as text without surrounding space.
pub async fn text(command: Command) -> Result<String> {
    Ok(String::from_utf8(output(command).await?).context("not text")?.trim().to_owned())
}
