//! A machine for one test: network, mounts and processes of its own, and a folder for its files.
//!
//! So `localhost:8080` belongs to the test alone, and whatever a daemon leaves behind (shims, containers,
//! mounts, bridges, firewall rules, sockets in `/run`) goes with the machine. Its first process reads from a
//! pipe that the test holds: when the test ends, be it by a panic or by SIGKILL, that process ends, and the
//! kernel ends the rest.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::program::QUINISTRY;
use crate::support::process::Process;

/// Longest wait for a daemon. Far longer than a daemon needs, since the machine that runs the tests may be
/// busy.
const DAEMON_TIMEOUT: Duration = Duration::from_mins(1);

/// Script of the first process. A `/run` of its own hides that of the real machine, and goes with the
/// namespace.
const INIT: &str = "mount -t tmpfs tmpfs /run && ip link set lo up && echo ready && exec cat";

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    init: Process,
    daemons: Vec<Process>,
    folder: TempDir,
}

impl Machine {
    /// Needs root, util-linux and iproute2.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("quinistry-engine-").tempdir().unwrap();
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", INIT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut init = Process::start(&mut unshare).unwrap();
        let mut ready = String::new();
        BufReader::new(init.child().stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "the machine did not start");
        Self { init, daemons: Vec::new(), folder }
    }

    /// The name of this machine, unlike any other's.
    pub(crate) fn name(&self) -> &str {
        self.folder.path().file_name().and_then(OsStr::to_str).unwrap()
    }

    /// A path in the machine's folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A command that will run in the machine, without the user's own settings.
    pub(crate) fn command(&self, program: &str) -> Command {
        let namespace =
            |kind: &str, file: &str| format!("--{kind}=/proc/{}/ns/{file}", self.init.pid().as_raw_nonzero());
        let mut command = Command::new("nsenter");
        command
            .args([namespace("net", "net"), namespace("mount", "mnt"), namespace("pid", "pid_for_children")])
            .arg(format!("--wdns={}", self.folder.path().display()))
            .args(["--", program])
            .env("HOME", self.folder.path())
            .env_remove("DOCKER_HOST")
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null());
        command
    }

    /// Runs a program to its end, which must be a success, and gives what it printed.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, program: &str, arguments: &[A]) -> String {
        let output = self.command(program).args(arguments).output().unwrap();
        String::from_utf8(succeeded(program, arguments, output)).unwrap()
    }

    /// Pipes one program's standard output into another, as `a | b` does; both must succeed.
    pub(crate) fn pipe(mut from: Command, mut into: Command) -> String {
        let mut left = from.stdout(Stdio::piped()).spawn().unwrap();
        let output = into.stdin(left.stdout.take().unwrap()).output().unwrap();
        let left = left.wait().unwrap();
        let printed = succeeded("the right side of a pipe", &[] as &[&str], output);
        assert!(left.success(), "the left side of a pipe: {left}");
        String::from_utf8(printed).unwrap()
    }

    /// Starts a program that stays, with its output in `<name>.log`.
    pub(crate) fn daemon(&mut self, name: &str, mut command: Command) {
        let log = File::create(self.path(&format!("{name}.log"))).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.daemons.push(Process::start(&mut command).unwrap());
    }

    /// Starts a program that stays until [`stop`](Self::stop), with its output in `<name>.log`.
    pub(crate) fn background(&self, name: &str, command: &[&str]) {
        const START: &str = r#"log=$1 pid=$2; shift 2; "$@" >>"$log" 2>&1 </dev/null & echo $! >"$pid""#;
        let (log, pid) = (self.path(&format!("{name}.log")), self.path(&format!("{name}.pid")));
        self.run("sh", &[&["-c", START, "sh", &log, &pid], command].concat());
    }

    /// Stops a program of [`background`](Self::background), and waits for its end. The number of one that has ended
    /// stays until it is waited for, but has no file.
    pub(crate) fn stop(&self, name: &str) {
        const STOP: &str =
            r#"pid=$(cat "$1"); kill "$pid"; while [ -e "/proc/$pid/exe" ]; do sleep 0.05; done"#;
        self.run("timeout", &["60", "sh", "-c", STOP, "sh", &self.path(&format!("{name}.pid"))]);
    }

    /// Starts the registry under test, and waits until it answers.
    pub(crate) fn registry(&mut self, port: u16, arguments: &[&str]) {
        let mut command = self.command(QUINISTRY);
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}")]).args(arguments);
        self.daemon(&format!("registry-{port}"), command);
        self.await_registry(port);
    }

    /// Waits until a registry answers on a port, and gives the digest of `quinistry:latest` there.
    pub(crate) fn await_registry(&self, port: u16) -> String {
        let url = format!("http://localhost:{port}/v2/quinistry/manifests/latest");
        self.until(&format!("a registry on port {port}"), || {
            let output = self.command("curl").args(["-sfI", &url]).output().unwrap();
            let headers = String::from_utf8_lossy(&output.stdout).to_lowercase();
            let digest = headers.lines().find_map(|line| line.strip_prefix("docker-content-digest: "));
            digest.map(|digest| digest.trim().to_owned())
        })
    }

    /// Asks until there is an answer.
    pub(crate) fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + DAEMON_TIMEOUT;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(
                Instant::now() < deadline,
                "{}: waited {DAEMON_TIMEOUT:?} in vain for {what}",
                self.name()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Prints the logs of the daemons, for a test that failed.
    fn print_logs(&self) {
        for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = fs::read(&path).unwrap_or_default();
                eprintln!("--- {}\n{}", path.display(), String::from_utf8_lossy(&log));
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The end of its input is what the first process waits for.
        drop(self.init.child().stdin.take());
        let _ = self.init.wait();
        for daemon in &mut self.daemons {
            let _ = daemon.wait();
        }
        if thread::panicking() {
            self.print_logs();
        }
        remove_cgroups(Path::new("/sys/fs/cgroup"), self.name());
    }
}

/// Control groups are the one thing that outlives the machine: engines were told to put theirs in one of its
/// name, which lies at the top of the one hierarchy (version 2) or of each of them (version 1).
fn remove_cgroups(top: &Path, name: &str) {
    let hierarchies = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([top.to_owned()]) {
        remove_empty(&hierarchy.join(name));
    }
}

/// Removes a tree of folders, children first, as far as the kernel lets it: control files cannot be removed.
fn remove_empty(folder: &Path) {
    let children = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders: Vec<PathBuf> = children.map(|child| child.path()).filter(|path| path.is_dir()).collect();
    for child in folders {
        remove_empty(&child);
    }
    let _ = fs::remove_dir(folder);
}

/// The standard output of a program that succeeded; else all that it said.
fn succeeded<A: AsRef<OsStr>>(program: &str, arguments: &[A], output: Output) -> Vec<u8> {
    assert!(
        output.status.success(),
        "{program} {:?}: {}\n{}{}",
        arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output.stdout
}
