//! Distribution's configuration: which file and variables apply, and reading them.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;

use super::output;
use super::serve::process::leave_termination_message;
use super::storage::bucket::{self, InvalidBucket};
use crate::http::tls::{LoadedTls, TlsError, TlsSettings};
use crate::registry::config::{
    self, AuditConfig, AuditPath, CONFIGURATION_PATH, Config, Diagnostic, Loaded, MAX_FILE_BYTES, ReadFile,
    SecretFile, Severity, Source, StorageConfig, StorageLocation,
};

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

/// Remarks about a configuration that is accepted, to log once the form of the log is known.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    warnings: Vec<Diagnostic>,
    /// Names of the variables that set a key.
    variables: Vec<String>,
    /// Names of the variables that were made for other services.
    service_links: Vec<String>,
}

/// Error of a configuration that is not accepted. Displayed as its first error.
#[derive(Debug)]
pub(super) struct Refused(Vec<Diagnostic>);

impl Configuration {
    /// Returns the configuration that the command line and the environment ask for, if they do: `file`, else
    /// the file that `REGISTRY_CONFIGURATION_PATH` names, else variables alone.
    pub(super) fn find(file: Option<PathBuf>) -> Option<Self> {
        let environment: Vec<_> = std::env::vars_os().collect();
        let named =
            || std::env::var_os(CONFIGURATION_PATH).filter(|path| !path.is_empty()).map(PathBuf::from);
        let file = file.or_else(named);
        (file.is_some() || config::sets_a_key(environment.iter().cloned()))
            .then_some(Self { file, environment })
    }

    /// Returns true if the file can be read again: a pipe cannot. Looks at the file system, so it is asked at the
    /// start, when the file is there.
    pub(super) fn can_be_read_again(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()))
    }

    /// Reads the configuration.
    pub(super) fn read(&self) -> anyhow::Result<ReadConfiguration> {
        let bytes = self.file.as_deref().map(read_file).transpose()?;
        let name = self.file.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
        let source = bytes.as_deref().map(|bytes| Source { name: &name, bytes });
        Ok(ReadConfiguration(config::load(source, self.environment.iter().cloned(), &Files)))
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => file.display().fmt(f),
            None => f.write_str("the environment"),
        }
    }
}

impl ReadConfiguration {
    /// Opens the files that the configuration names, and refuses it if one cannot be used. Warns of an open key.
    pub(super) fn check_files(mut self) -> Self {
        let tls = self.0.config.as_ref().and_then(|config| config.http.tls.clone());
        match tls.as_ref().map(|settings| (settings, LoadedTls::read(settings.clone()))) {
            Some((settings, Err(error))) => {
                let key = key_of(&error, settings);
                self.0.refuse(&key, format!("{:#}", anyhow::Error::from(error)));
            }
            Some((_, Ok(loaded))) => {
                if let Some(warning) = loaded.warning() {
                    self.0.warn("http.tls.key", warning);
                }
            }
            None => {}
        }
        let location = self.0.config.as_ref().map(|config| &config.storage.location);
        if let Some(StorageLocation::Bucket(config)) = location
            && let Err(InvalidBucket { key, message }) = bucket::options(config)
        {
            self.0.refuse(&key, message);
        }
        let audit = self.0.config.as_ref().and_then(|config| config.access.audit.as_ref());
        if let Some(AuditConfig { path: AuditPath::File(path), .. }) = audit
            && let Some(message) = audit_problem(path)
        {
            self.0.refuse("quinistry.audit.path", message);
        }
        self
    }

    /// Returns the configuration with its remarks; fails with all findings if one is an error.
    pub(super) fn accept(mut self) -> Result<(Config, Remarks), Refused> {
        match self.0.config.take() {
            Some(config) => Ok((config, Remarks::of(self.0))),
            None => Err(Refused(self.0.diagnostics)),
        }
    }

    /// Returns the storage with the remarks about it; fails with all findings about it if one is an error. Other
    /// parts of the configuration may have errors.
    pub(super) fn accept_storage(mut self) -> Result<(StorageConfig, Remarks), Refused> {
        let storage = self.0.storage.take();
        let concerns = Diagnostic::concerns_storage;
        // Of very many findings only the first ones are kept, none of which may be about the storage.
        if storage.is_some() || self.0.diagnostics.iter().any(|found| found.is_error() && concerns(found)) {
            self.0.diagnostics.retain(concerns);
        }
        match storage {
            Some(storage) => Ok((storage, Remarks::of(self.0))),
            None => Err(Refused(self.0.diagnostics)),
        }
    }
}

impl Remarks {
    fn of(loaded: Loaded) -> Self {
        let Loaded { diagnostics: mut warnings, set_by_environment: variables, service_links, .. } = loaded;
        // `serve` warns of a registry without users by itself: once it knows the address, and if clients can write.
        warnings.retain(|found| found.severity == Severity::Warning && found.key != "auth.none");
        Self { warnings, variables, service_links }
    }

    /// Logs the remarks, each on a line.
    pub(super) fn log(&self) {
        if !self.variables.is_empty() {
            tracing::info!(variables = %self.variables.join(" "), "environment sets keys");
        }
        if !self.service_links.is_empty() {
            tracing::debug!(variables = %self.service_links.join(" "), "ignoring variables of other services");
        }
        for found in &self.warnings {
            tracing::warn!(place = %found.origin, key = %found.key, "{}", found.message);
        }
    }
}

impl Refused {
    /// Prints the findings, and leaves the first error as the container's termination message.
    pub(super) fn report(&self) {
        for found in &self.0 {
            output::complain(&found.to_string());
        }
        if let Some(first) = self.first() {
            leave_termination_message(&first.to_string());
        }
    }

    /// Returns the first error.
    pub(super) fn first(&self) -> Option<&Diagnostic> {
        self.0.iter().find(|found| found.is_error())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first() {
            Some(first) => first.fmt(f),
            None => f.write_str("configuration is not accepted"),
        }
    }
}

impl std::error::Error for Refused {}

/// Returns the key that names the file of an error.
fn key_of(error: &TlsError, settings: &TlsSettings) -> String {
    let path = error.path();
    if path.is_none() || path == Some(&settings.certificate) {
        return "http.tls.certificate".into();
    }
    let authority = settings.client_cas.iter().position(|authority| path == Some(authority));
    authority.map_or_else(|| "http.tls.key".into(), |_| "http.tls.clientcas".into())
}

/// Says why lines cannot be added to a path. Opens nothing, since that would create the file.
fn audit_problem(path: &Path) -> Option<String> {
    let kind = path.metadata().ok()?.file_type();
    let shown = path.display();
    if kind.is_dir() {
        Some(format!("{shown} is a folder; name a file in it, such as {}", path.join("audit.log").display()))
    } else {
        kind.is_fifo()
            .then(|| format!("{shown} is a pipe, which blocks until there is a reader; name a file"))
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
        let pipe = Configuration { file: Some(path), environment: Vec::new() };
        assert!(!pipe.can_be_read_again());
    }
}
