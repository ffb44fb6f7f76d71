//! Distribution's configuration: which file and variables apply, and reading them.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;

use crate::registry::config::{self, Loaded, ReadFile, SecretFile, Source};

/// Variable that names the configuration file, as with distribution.
const PATH_VARIABLE: &str = "REGISTRY_CONFIGURATION_PATH";

/// Longest configuration file.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Longest time for reading a configuration file, which may be a pipe.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// File and variables that configure a registry.
#[derive(Clone, Debug)]
pub(super) struct Configuration {
    file: Option<PathBuf>,
    /// Variables of the start: those of the process, read once.
    environment: Vec<(OsString, OsString)>,
}

/// Configuration that was read, with all that was found in it.
#[derive(Debug)]
pub(super) struct ReadConfiguration(pub(super) Loaded);

impl Configuration {
    /// Returns the configuration that the command line and the environment ask for, if they do: `file`, else
    /// the file that `REGISTRY_CONFIGURATION_PATH` names, else variables alone.
    pub(super) fn find(file: Option<PathBuf>) -> Option<Self> {
        let environment: Vec<_> = std::env::vars_os().collect();
        let named = || std::env::var_os(PATH_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let file = file.or_else(named);
        (file.is_some() || config::sets_a_key(environment.iter().cloned()))
            .then_some(Self { file, environment })
    }

    /// Reads the configuration.
    pub(super) fn read(&self) -> anyhow::Result<ReadConfiguration> {
        let bytes = self.file.as_deref().map(read_file).transpose()?;
        let name = self.file.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
        let source = bytes.as_deref().map(|bytes| Source { name: &name, bytes });
        Ok(ReadConfiguration(config::load(source, self.environment.iter().cloned(), &Files)))
    }
}

/// Files that a configuration names, as the process sees them.
#[derive(Debug)]
pub(super) struct Files;

impl ReadFile for Files {
    fn read(&self, path: &Path, limit: usize) -> io::Result<SecretFile> {
        let mode = path.metadata()?.permissions().mode() & 0o7777;
        Ok(SecretFile { bytes: read_at_most(path.to_owned(), limit)?, mode: Some(mode) })
    }
}

/// Reads a configuration file, or a pipe such as a shell's `<(…)`.
fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = read_at_most(path.to_owned(), MAX_FILE_BYTES)
        .with_context(|| format!("failed to read configuration {}", path.display()))?;
    anyhow::ensure!(
        !bytes.is_empty(),
        "configuration {} is empty; it begins with `version: 0.1`",
        path.display()
    );
    Ok(bytes)
}

/// Reads a file that holds at most `limit` bytes. On a thread of its own, because a pipe whose writer is silent
/// has no deadline.
fn read_at_most(path: PathBuf, limit: usize) -> io::Result<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let read = || {
            let file = File::open(path)?;
            if file.metadata()?.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let mut bytes = Vec::new();
            file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let _ = sender.send(read());
    });
    let bytes = receiver.recv_timeout(READ_TIMEOUT).unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("not read to its end within {READ_TIMEOUT:?}")))
    })?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn failure(path: &Path) -> String {
        format!("{:#}", read_file(path).unwrap_err())
    }

    #[test]
    fn folders_endless_and_empty_files_are_not_configurations() {
        let folder = tempfile::tempdir().unwrap();
        assert!(failure(folder.path()).contains("is a directory"), "{}", failure(folder.path()));
        let zero = failure(Path::new("/dev/zero"));
        assert!(zero.ends_with("/dev/zero: longer than 1048576 bytes"), "{zero}");
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(failure(empty.path()).ends_with("is empty; it begins with `version: 0.1`"));
        let missing = failure(&folder.path().join("config.yml"));
        assert!(missing.contains("No such file"), "{missing}");
    }

    #[test]
    fn a_pipe_is_read_once_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let writer = std::thread::spawn({
            let path = path.clone();
            move || File::create(path).unwrap().write_all(b"version: 0.1\n").unwrap()
        });
        assert_eq!(read_file(&path).unwrap(), b"version: 0.1\n");
        writer.join().unwrap();
    }
}
