//! Password from standard input.

use std::io::{Read as _, stdin};

use anyhow::{Context as _, bail, ensure};

/// Longest input, in bytes: longer than any token in use, and short enough to hold if a wrong file is piped.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads a password from standard input to its end.
pub(super) fn read() -> anyhow::Result<String> {
    let mut text = String::new();
    stdin().take(MAX_BYTES + 1).read_to_string(&mut text).context("failed to read the password")?;
    ensure!(
        text.len() as u64 <= MAX_BYTES,
        "standard input is longer than any password; pipe the password alone"
    );
    line(&text).map(str::to_owned)
}

/// Returns the line that a text is. One line end is removed, as `docker login --password-stdin` does. Line breaks
/// that remain are those of a file of several passwords, or of another file.
fn line(text: &str) -> anyhow::Result<&str> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.contains(['\r', '\n']) {
        bail!("standard input has several lines; pipe the password alone, in one line");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_removed_and_several_lines_are_refused() {
        for text in ["secret", "secret\n", "secret\r\n", "secret\r"] {
            assert_eq!(line(text).unwrap(), "secret", "{text:?}");
        }
        assert_eq!((line(" a b \n").unwrap(), line("").unwrap(), line("\n").unwrap()), (" a b ", "", ""));
        for text in ["a\nb", "a\n\n", "\na", "a\rb\n", "a\r\r\n"] {
            assert!(line(text).is_err(), "{text:?}");
        }
    }
}
