//! Destination of an archive: a path, or standard output. Terminals are refused.

use std::fs::File;
use std::io::{self, IsTerminal as _, stdout};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use super::exit::UsageError;
use super::output::{OutputArgs, ReaderGone};
use crate::client::ClientError;
use crate::layout::{LayoutError, Target};

/// Parses a destination, and refuses a terminal in any spelling: `-`, `/dev/tty`, `/dev/stdout`.
pub(super) fn target(typed: &str) -> anyhow::Result<Target> {
    let target = Target::parse(typed);
    let is_terminal = match &target {
        Target::Stdout => stdout().is_terminal(),
        Target::Path(path) => is_terminal(path),
    };
    anyhow::ensure!(
        !is_terminal,
        "{typed} is a terminal, and an archive is not text: name a file, or use a pipe"
    );
    Ok(target)
}

/// Refuses a result in JSON where the archive itself goes to standard output.
pub(super) fn ensure_one_output(target: &Target, output: OutputArgs) -> Result<(), UsageError> {
    if *target == Target::Stdout && output.is_json() {
        return Err(UsageError(
            "the archive goes to standard output, so --output json is not possible: name a file".into(),
        ));
    }
    Ok(())
}

/// Recognizes a reader of standard output that has seen enough of an archive.
pub(super) fn allow_closed_pipe(target: &Target, result: anyhow::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if *target == Target::Stdout && is_closed_pipe(&error) => Err(ReaderGone.into()),
        result => result,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let mut layout_errors = error.chain().filter_map(|error| match error.downcast_ref() {
        // Transparent, so the chain does not contain the error that it wraps.
        Some(ClientError::Layout(error)) => Some(error),
        _ => error.downcast_ref(),
    });
    layout_errors.any(|error| {
        matches!(error, LayoutError::Write { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    })
}

fn is_terminal(path: &Path) -> bool {
    let is_device = std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_char_device());
    // Opening a terminal for writing changes nothing; opening other devices may.
    is_device && File::options().write(true).open(path).is_ok_and(|file| file.is_terminal())
}
