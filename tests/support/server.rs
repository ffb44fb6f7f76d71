//! The real program, serving.

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::http::Peer;
use super::process::{Process, command};

/// Time in which a program must say its next line, or end: a debug program compresses and hashes itself first.
const LINE_TIMEOUT: Duration = Duration::from_mins(5);

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_quinistry");

/// Arguments that serve on a free port.
pub const SERVE: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];

/// Begin of the line by which the program says that it serves.
const SERVING: &str = "serving quinistry";

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Server {
    pub peer: Peer,
    /// Digest of the manifest, from the line that the program prints at its start.
    pub manifest: String,
    pub config: String,
    pub layer: String,
    running: Running,
}

impl Server {
    /// Starts the program in an empty folder.
    pub fn start() -> Self {
        Self::launch(command(PROGRAM).args(SERVE))
    }

    /// Starts whatever becomes a serving program.
    pub fn launch(command: &mut Command) -> Self {
        let running = Running::start(command);
        let line = running.line(SERVING);
        let field = |name: &str| {
            let field = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            field.unwrap_or_else(|| panic!("{name} in {line:?}")).to_owned()
        };
        let (peer, manifest) = (Peer(field("address").parse().unwrap()), field("digest"));
        let parts = peer.get(&format!("/v2/quinistry/manifests/{manifest}")).json();
        let digest = |part: &serde_json::Value| part["digest"].as_str().expect("a descriptor").to_owned();
        Self { peer, manifest, config: digest(&parts["config"]), layer: digest(&parts["layers"][0]), running }
    }

    pub fn pid(&self) -> Pid {
        self.running.process.pid()
    }

    pub fn signal(&self, signal: Signal) {
        self.running.process.signal(signal).unwrap();
    }

    /// Waits for the line of the log that contains `text`.
    pub fn log_line(&self, text: &str) -> String {
        self.running.line(text)
    }

    /// Everything that it has said on standard error so far.
    pub fn log(&self) -> String {
        self.running.log.lock().unwrap().clone()
    }

    /// All files in its working directory, however deep, in order. A folder that it removes at the same time has none.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        let mut open = vec![self.running.folder.path().to_path_buf()];
        while let Some(folder) = open.pop() {
            let entries = match folder.read_dir() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries.unwrap(),
            };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() { open.push(path) } else { all.push(path) }
            }
        }
        all.sort();
        all
    }

    /// Waits for its end.
    pub fn wait(self) -> (ExitStatus, String) {
        self.running.wait()
    }
}

/// A running program that may end at any time; killed when dropped.
#[derive(Debug)]
pub struct Mortal {
    pub peer: Peer,
    _running: Running,
}

impl Mortal {
    /// Starts a program. `None` if it ends before it serves.
    pub fn launch(command: &mut Command) -> Option<Self> {
        let running = Running::start(command);
        let line = running.find_line(SERVING)?;
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("address="));
        Some(Self { peer: Peer(address?.parse().unwrap()), _running: running })
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> (ExitStatus, String) {
    Running::start(command).wait()
}

#[derive(Debug)]
struct Running {
    process: Process,
    /// Complete lines of standard error, until its end.
    lines: Receiver<String>,
    log: Arc<Mutex<String>>,
    folder: TempDir,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let folder = TempDir::new().unwrap();
        if command.get_current_dir().is_none() {
            command.current_dir(folder.path());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::start(command).unwrap_or_else(|error| panic!("{error}: {command:?}"));
        let stderr = BufReader::new(process.child().stderr.take().unwrap());
        let log = Arc::<Mutex<String>>::default();
        let (sender, lines) = mpsc::channel();
        let shared = log.clone();
        thread::spawn(move || {
            for line in stderr.lines() {
                let line = line.unwrap_or_else(|error| format!("({error})"));
                shared.lock().unwrap().extend([&line, "\n"]);
                let _ = sender.send(line);
            }
        });
        Self { process, lines, log, folder }
    }

    fn line(&self, text: &str) -> String {
        let line = self.find_line(text);
        line.unwrap_or_else(|| panic!("ended before {text:?}; said: {}", self.log.lock().unwrap()))
    }

    /// Waits for a line. `None` if the program ends before.
    fn find_line(&self, text: &str) -> Option<String> {
        loop {
            match self.lines.recv_timeout(LINE_TIMEOUT) {
                Ok(line) if line.contains(text) => return Some(line),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(error) => panic!("waiting for {text:?}: {error}; said: {}", self.log.lock().unwrap()),
            }
        }
    }

    fn wait(mut self) -> (ExitStatus, String) {
        // The end of standard error comes with the end of the process, and can be waited for with a bound.
        loop {
            match self.lines.recv_timeout(LINE_TIMEOUT) {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("it does not end: {error}; said: {}", self.log.lock().unwrap()),
            }
        }
        let status = self.process.wait().unwrap();
        (status, self.log.lock().unwrap().clone())
    }
}

/// Last lines of the log that a test which fails shows.
const SHOWN_LINES: usize = 60;

impl Drop for Running {
    /// Shows the end of the log if a test fails: an answer with 500 says no more than to look there.
    fn drop(&mut self) {
        if thread::panicking()
            && let Ok(log) = self.log.lock()
        {
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("log of process {:?}:\n{}", self.process.pid(), shown.join("\n"));
        }
    }
}
