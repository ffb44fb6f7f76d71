//! distribution's registry, in the versions that are installed: another program's opinion.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::certificates::Pair;
use super::ports::reserved_address;
use super::process::{Process, isolated_command, output};
use super::skip::missing;

/// A version of distribution's registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 2.8, which Debian has.
    Second,
    /// 3.1, which `.ci/tools` builds.
    Third,
}

impl Version {
    fn program(self) -> &'static str {
        match self {
            Self::Second => "docker-registry",
            Self::Third => "registry",
        }
    }

    /// Returns a command of the registry, which tells others nothing about itself.
    fn command(self) -> Command {
        let mut command = isolated_command(self.program());
        command.env("OTEL_TRACES_EXPORTER", "none").stdin(Stdio::null());
        command
    }
}

/// A registry on a free port, in memory; ended when dropped.
pub struct Distribution {
    _process: Process,
    pub host: String,
    _folder: tempfile::TempDir,
}

impl Distribution {
    /// `None`, and a line that says so, if the program is not there.
    pub fn start() -> Option<Self> {
        Self::run(tempfile::tempdir().unwrap(), FREE_PORT)
    }

    /// Starts a registry of any version, on a folder that outlives it. `None` as above.
    pub fn on(version: Version, root: &Path) -> Option<Self> {
        Self::with(version, tempfile::tempdir().unwrap(), &on_folder(root), FREE_PORT)
    }

    /// Starts a registry that serves metrics; returns where.
    pub fn with_metrics(version: Version) -> Option<(Self, SocketAddr)> {
        // Distribution does not tell which port it has taken for these.
        let address = reserved_address();
        let http = format!(
            "{FREE_PORT}, debug: {{addr: '{address}', prometheus: {{enabled: true, path: /metrics}}}}"
        );
        let folder = tempfile::tempdir().unwrap();
        let storage = format!("filesystem: {{rootdirectory: '{}'}}", folder.path().join("store").display());
        Some((Self::with(version, folder, &storage, &http)?, address))
    }

    /// Starts a registry on any storage, by the section of its configuration, that allows deletes and sends
    /// bytes itself instead of redirecting. `None` as above.
    pub fn on_storage(version: Version, section: &str) -> Option<Self> {
        let storage = format!("{section}, delete: {{enabled: true}}, redirect: {{disable: true}}");
        Self::with(version, tempfile::tempdir().unwrap(), &storage, FREE_PORT)
    }

    /// Runs distribution's collection over a folder that no registry serves.
    pub fn collect(version: Version, root: &Path, flags: &[&str]) -> Option<()> {
        Self::collect_storage(version, &on_folder(root), flags).map(drop)
    }

    /// Runs distribution's collection over any storage that no registry serves, and returns its report.
    pub fn collect_storage(version: Version, section: &str, flags: &[&str]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let config = configure(folder.path(), section, FREE_PORT, "");
        let done = output(version.command().arg("garbage-collect").args(flags).arg(config));
        let Ok(done) = done else {
            missing(version.program());
            return None;
        };
        assert!(done.status.success(), "{version:?}: {}", String::from_utf8_lossy(&done.stderr));
        Some(String::from_utf8(done.stdout).unwrap())
    }

    /// Starts a registry in memory with TLS: `tls` holds further keys of that section, `sections` further sections
    /// of the file, a line each.
    pub fn with_tls(version: Version, pair: &Pair, tls: &str, sections: &str) -> Option<Self> {
        let (certificate, key) = (pair.certificate.display(), pair.key.display());
        let http = format!("{FREE_PORT}, tls: {{certificate: '{certificate}', key: '{key}'{tls}}}");
        let folder = tempfile::tempdir().unwrap();
        let config = configure(folder.path(), "inmemory: {}", &http, sections);
        Self::serve(version, folder, &config)
    }

    fn run(folder: tempfile::TempDir, http: &str) -> Option<Self> {
        Self::with(Version::Second, folder, "inmemory: {}", http)
    }

    fn with(version: Version, folder: tempfile::TempDir, storage: &str, http: &str) -> Option<Self> {
        let config = configure(folder.path(), storage, http, "");
        Self::serve(version, folder, &config)
    }

    fn serve(version: Version, folder: tempfile::TempDir, config: &Path) -> Option<Self> {
        let mut serve = version.command();
        serve.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::piped());
        let Ok(mut process) = Process::start(&mut serve) else {
            missing(version.program());
            return None;
        };
        let mut log = BufReader::new(process.child().stderr.take().unwrap());
        let mut line = String::new();
        let host = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "{} ended", version.program());
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split(['"', ' ', ',', '\n']).next().unwrap().to_owned();
            }
        };
        // It must not block on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Some(Self { _process: process, host, _folder: folder })
    }
}

const FREE_PORT: &str = "addr: '127.0.0.1:0'";

fn on_folder(root: &Path) -> String {
    format!("filesystem: {{rootdirectory: '{}'}}, delete: {{enabled: true}}", root.display())
}

/// Writes a configuration file; where it is.
fn configure(folder: &Path, storage: &str, http: &str, sections: &str) -> PathBuf {
    let config = folder.join("config.yml");
    let text =
        format!("version: 0.1\nstorage: {{{storage}}}\nhttp: {{{http}}}\nlog: {{level: info}}\n{sections}");
    std::fs::write(&config, text).unwrap();
    config
}
