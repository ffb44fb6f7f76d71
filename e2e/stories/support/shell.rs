//! Programs that run to their end. The error of a failed program contains its output.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
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

/// Runs a command, and returns its standard output as text without surrounding space.
pub async fn text(command: Command) -> Result<String> {
    Ok(String::from_utf8(output(command).await?).context("not text")?.trim().to_owned())
}
