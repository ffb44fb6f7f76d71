//! A registry that is started from a configuration file, variables, or both.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::net::TcpSocket;

use crate::support::http::{Peer, TEST_TIMEOUT};
use crate::support::ports::reserved_address;
use crate::support::process::Process;
use crate::support::server::PROGRAM;
use crate::support::skip::missing;

/// Program that reads distribution's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Ours,
    /// Distribution 2.8, which Debian has.
    Second,
    /// Distribution 3.1, which `.ci/tools` builds.
    Third,
}

/// Configuration to start from. `{root}` in the file and in values stands for the storage folder, `{addr}` for
/// a free address, and `{folder}` for the folder that holds both.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given<'a> {
    pub(crate) file: Option<&'a str>,
    pub(crate) variables: &'a [(&'a str, &'a str)],
    /// Flags behind the file, which only this program has.
    pub(crate) flags: &'a [&'a str],
}

/// Folder of one start: storage, configuration file, and what the test puts beside them.
#[derive(Debug)]
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

/// A running registry, killed when dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    process: Process,
    pub(crate) peer: Peer,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// End of a program that was started.
#[derive(Debug)]
pub(crate) enum Start {
    Serves(Registry),
    Refuses { status: ExitStatus, log: String },
}

// === impl Place ===

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(place.root()).unwrap();
        place
    }

    /// Makes a place whose storage is a copy of another folder.
    pub(crate) fn with_storage_of(root: &Path) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        copy_folder(root, &place.root());
        place
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn fill(&self, text: &str, address: SocketAddr) -> String {
        text.replace("{root}", &self.root().display().to_string())
            .replace("{folder}", &self.folder.path().display().to_string())
            .replace("{addr}", &address.to_string())
            .replace("{port}", &address.port().to_string())
    }

    /// Writes the configuration file again, for the program that serves at `peer`.
    pub(crate) fn write_file(&self, text: &str, peer: Peer) {
        fs::write(self.path("config.yml"), self.fill(text, peer.0)).unwrap();
    }

    /// Starts a program, and waits until it serves or has ended. `None`, and a line that says so, if the
    /// program is not there.
    pub(crate) fn start(&self, program: Program, given: Given<'_>) -> Option<Start> {
        let registry = self.spawn(program, given)?;
        let peer = registry.peer;
        Some(registry.wait_until(|_| peer.is_listening()))
    }

    /// Starts a program, and waits for nothing.
    fn spawn(&self, program: Program, given: Given<'_>) -> Option<Registry> {
        let address = reserved_address();
        let mut command = program.command();
        command.arg("serve");
        if let Some(text) = given.file {
            let path = self.path("config.yml");
            fs::write(&path, self.fill(text, address)).unwrap();
            command.arg(path);
        }
        command.args(given.flags.iter().map(|flag| self.fill(flag, address)));
        for (name, value) in given.variables {
            command.env(name, self.fill(value, address));
        }
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let Ok(process) = Process::start(&mut command) else {
            missing(program.name());
            return None;
        };
        Some(Registry::new(process, Peer(address)))
    }

    /// Starts a program that must serve.
    pub(crate) fn serve(&self, program: Program, given: Given<'_>) -> Option<Registry> {
        match self.start(program, given)? {
            Start::Serves(registry) => Some(registry),
            Start::Refuses { status, log } => panic!("{program:?} ended with {status}: {log}"),
        }
    }

    /// Starts this program, which must serve.
    pub(crate) fn serve_ours(&self, given: Given<'_>) -> Registry {
        self.serve(Program::Ours, given).expect("this program is there")
    }

    /// Starts this program, which must end by itself. Returns its exit code and what it said.
    pub(crate) fn refuse_ours(&self, given: Given<'_>) -> (Option<i32>, String) {
        // The program listens before it has read all files, and may still refuse to serve.
        let registry = self.spawn(Program::Ours, given).expect("this program is there");
        match registry.wait_until(|log| log.contains("serving quinistry")) {
            Start::Serves(registry) => panic!("it serves: {}", registry.log()),
            Start::Refuses { status, log } => (status.code(), log),
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target);
        } else {
            assert!(fs::copy(source, target).is_ok());
        }
    }
}

// === impl Registry ===

impl Registry {
    /// Reads the log of a process that was started to serve at `peer`.
    fn new(mut process: Process, peer: Peer) -> Self {
        let stderr = process.child().stderr.take().unwrap();
        let log = Arc::<Mutex<String>>::default();
        let shared = log.clone();
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                shared.lock().unwrap().extend([&line, "\n"]);
            }
        });
        Self { process, peer, log, reader: Some(reader) }
    }

    /// Waits until the process serves, by its log so far, or has ended.
    fn wait_until(mut self, serves: impl Fn(&str) -> bool) -> Start {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while self.process.is_running() {
            if serves(&self.log()) {
                return Start::Serves(self);
            }
            assert!(Instant::now() < deadline, "it does not serve: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
        let status = self.process.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        Start::Refuses { status, log: self.log() }
    }

    /// Everything that it has said on standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal).unwrap();
    }

    /// Waits until the log contains `text` `times` times.
    pub(crate) fn wait_for_log(&self, text: &str, times: usize) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while self.log().matches(text).count() < times {
            assert!(Instant::now() < deadline, "waiting for {text:?}, {times} times: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to stop, and waits for its end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.process.wait().unwrap()
    }
}

// === impl Program ===

impl Program {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => PROGRAM,
            Self::Second => "docker-registry",
            Self::Third => "registry",
        }
    }

    fn command(self) -> Command {
        let mut command = Command::new(self.name());
        // No variable of the caller configures it.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if self == Self::Third {
            command.env("OTEL_TRACES_EXPORTER", "none");
        }
        command
    }
}

#[test]
fn a_reserved_address_is_free_for_a_server_and_for_nothing_else() {
    let address = reserved_address();
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let other = TcpSocket::new_v4().unwrap();
    assert_eq!(
        other.bind(address).unwrap_err().kind(),
        ErrorKind::AddrInUse,
        "as for a port 0 of the kernel"
    );
    for _ in 0..2 {
        let server = TcpListener::bind(address).unwrap();
        assert!(Peer(address).is_listening());
        drop(server);
    }
}
