//! The chain on one machine, driven as a person drives it: `quinistry bootstrap`, its output, its exit code,
//! and what it leaves behind, which must be nothing.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use quinistry::chain::{Chain, DeviationReason, Plan};
use quinistry::client::{Client, ClientOptions};
use quinistry::quine::{Executable, LayerForm, Quine};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::ports::reserved_address;
use crate::support::process::{Process, command, no_forks, output};
use crate::support::server::PROGRAM;

/// `quinistry bootstrap` with a temporary folder of its own, so that what is left behind is seen.
struct Bootstrap {
    command: Command,
    folder: TempDir,
}

impl Bootstrap {
    fn new(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(PROGRAM);
        command.arg("bootstrap").args(args).env("TMPDIR", folder.path()).stdin(Stdio::null());
        Self { command, folder }
    }

    /// Runs to the end.
    fn run(mut self) -> Finished {
        let output = output(&mut self.command).unwrap();
        Finished { left: entries(self.folder.path()), output }
    }

    /// Runs until all generations stand.
    fn keep(mut self, generations: usize) -> Kept {
        self.command.arg("--keep").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::start(&mut self.command).unwrap();
        let mut stdout = BufReader::new(process.child().stdout.take().unwrap());
        let mut pids = Vec::new();
        let mut line = String::new();
        while !line.starts_with("serving until interrupted") {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it ended early");
            if let Some((_, rest)) = line.split_once("  pid ") {
                pids.push(rest.split_once(' ').unwrap().0.parse().unwrap());
            }
        }
        assert_eq!(pids.len(), generations);
        Kept { process, pids, folder: self.folder, _stdout: stdout }
    }
}

struct Finished {
    output: Output,
    left: Vec<String>,
}

impl Finished {
    fn stdout(&self) -> &str {
        std::str::from_utf8(&self.output.stdout).unwrap()
    }

    /// Asserts exit code 1, one line on standard error that says all of `words`, no fixed point, and nothing
    /// left behind.
    fn assert_deviation(&self, words: &[&str]) {
        let stderr = String::from_utf8_lossy(&self.output.stderr);
        assert_eq!(self.output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "{word:?} is not in {stderr}");
        }
        assert!(!self.stdout().contains("fixed point"), "{}", self.stdout());
        assert_eq!(self.left, [""; 0]);
        for pid in pids(self.stdout()) {
            assert!(!runs(pid), "process {pid} is left");
        }
    }
}

struct Kept {
    process: Process,
    pids: Vec<i32>,
    folder: TempDir,
    _stdout: BufReader<ChildStdout>,
}

impl Kept {
    fn end(mut self, signal: Signal) -> Output {
        self.process.signal(signal).unwrap();
        self.wait()
    }

    fn wait(&mut self) -> Output {
        let status = self.process.wait().unwrap();
        let mut stderr = Vec::new();
        std::io::copy(&mut self.process.child().stderr.take().unwrap(), &mut stderr).unwrap();
        for &pid in &self.pids {
            // The kernel ends them after the parent, so not quite at the same moment.
            until(|| !runs(pid), "a generation outlived the command");
        }
        assert_eq!(entries(self.folder.path()), [""; 0]);
        Output { status, stdout: Vec::new(), stderr }
    }
}

fn pids(stdout: &str) -> Vec<i32> {
    let pid = |line: &str| line.split_once("  pid ")?.1.split_once(' ')?.0.parse().ok();
    stdout.lines().filter_map(pid).collect()
}

fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Returns true if a process exists and is not a zombie.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn until(condition: impl Fn() -> bool, failure: &str) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{failure}");
        std::thread::yield_now();
    }
}

fn entries(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Returns the name of this process, as the kernel shows it.
fn comm() -> String {
    fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned()
}

/// Two neighbouring ports, the first reserved for the chain and the second held by the listener.
fn port_before_a_taken_one() -> (u16, TcpListener) {
    loop {
        let first = reserved_address().port();
        let Some(second) = first.checked_add(1) else { continue };
        if let Ok(taken) = TcpListener::bind((Ipv4Addr::LOCALHOST, second)) {
            return (first, taken);
        }
    }
}

#[test]
fn three_generations_serve_one_digest_and_leave_nothing() {
    let finished = Bootstrap::new(&["--base-port", "0"]).run();
    assert!(finished.output.status.success(), "{}", String::from_utf8_lossy(&finished.output.stderr));
    assert_eq!(String::from_utf8_lossy(&finished.output.stderr), "");
    let lines: Vec<&str> = finished.stdout().lines().collect();
    assert!(lines[0].starts_with("generation 1  localhost:"), "{lines:#?}");
    assert!(lines[0].contains("this executable"), "{lines:#?}");
    assert!(lines[1].starts_with("└─ generation 2  localhost:"), "{lines:#?}");
    assert!(lines[2].starts_with("   └─ generation 3  localhost:"), "{lines:#?}");
    assert_eq!(lines.last(), Some(&"fixed point: yes"));
    assert_eq!(finished.left, [""; 0]);
    let pids = pids(finished.stdout());
    assert_eq!(pids.len(), 3);
    assert!(!pids.into_iter().any(runs));
}

/// Generations stay anonymous and in plain HTTP where the variables of another registry are set: each of these
/// makes `serve` refuse to start, or to answer without a password or without TLS.
#[test]
fn variables_of_distributions_configuration_do_not_reach_a_generation() {
    for variables in [
        &[("REGISTRY_AUTH_HTPASSWD_REALM", "users"), ("REGISTRY_AUTH_HTPASSWD_PATH", "/nowhere/htpasswd")][..],
        &[("REGISTRY_HTTP_TLS_CERTIFICATE", "/nowhere/crt"), ("REGISTRY_HTTP_TLS_KEY", "/nowhere/key")],
        &[("REGISTRY_CONFIGURATION_PATH", "/nowhere/config.yml")],
        &[("REGISTRY_QUINISTRY_ACCESS", "[]"), ("REGISTRY_HTTP_ADDR", "nowhere:1")],
    ] {
        let mut bootstrap = Bootstrap::new(&["--base-port", "0", "--generations", "2"]);
        bootstrap.command.envs(variables.iter().copied());
        let finished = bootstrap.run();
        let stderr = String::from_utf8_lossy(&finished.output.stderr);
        assert!(finished.output.status.success(), "{variables:?}: {stderr}");
        assert_eq!(stderr, "", "{variables:?}");
        assert_eq!(finished.stdout().lines().last(), Some("fixed point: yes"), "{variables:?}");
    }
}

#[test]
fn both_layer_forms_hold_five_deep_and_are_the_images_own() {
    for layer in ["tar", "gzip"] {
        let args = ["--base-port", "0", "--generations", "5", "--layer", layer, "--output", "json"];
        let finished = Bootstrap::new(&args).run();
        let report: serde_json::Value = serde_json::from_str(finished.stdout()).unwrap();
        let digest = output(command(PROGRAM).args(["image", "digest", "--layer", layer])).unwrap();
        let digest = String::from_utf8(digest.stdout).unwrap();
        assert_eq!(report["fixedPoint"], true);
        let generations = report["generations"].as_array().unwrap();
        assert_eq!(generations.len(), 5);
        for (index, generation) in generations.iter().enumerate() {
            assert_eq!(generation["generation"], index + 1);
            assert_eq!(generation["digest"], digest.trim());
            assert_eq!(generation["bytes"].as_u64().unwrap() > 0, index > 0);
        }
    }
}

#[test]
fn generations_need_no_file_once_they_run() {
    let kept = Bootstrap::new(&["--base-port", "0"]).keep(3);
    assert_eq!(entries(kept.folder.path()), [""; 0]);
    let output = kept.end(Signal::INT);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn terminating_the_command_ends_all_generations_in_order() {
    let output = Bootstrap::new(&["--base-port", "0"]).keep(3).end(Signal::TERM);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn no_generation_outlives_a_killed_command() {
    let output = Bootstrap::new(&["--base-port", "0"]).keep(3).end(Signal::KILL);
    assert_eq!(output.status.signal(), Some(9));
}

#[test]
fn a_generation_that_dies_ends_the_command_with_its_number() {
    let mut kept = Bootstrap::new(&["--base-port", "0"]).keep(3);
    send(kept.pids[1], Signal::KILL);
    let output = kept.wait();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("generation 2: its process ended with signal: 9"), "{stderr}");
}

#[test]
fn a_taken_port_stops_the_chain_at_its_generation() {
    let (port, taken) = port_before_a_taken_one();
    let finished = Bootstrap::new(&["--base-port", &port.to_string()]).run();
    let address = taken.local_addr().unwrap().to_string();
    let holder = format!("held by {} (pid {})", comm(), std::process::id());
    finished.assert_deviation(&["generation 2: ", &address, "in use", "--base-port", &holder]);
    assert_eq!(pids(finished.stdout()).len(), 1);
}

#[test]
fn a_taken_port_is_told_in_json_too() {
    let (port, _taken) = port_before_a_taken_one();
    let finished = Bootstrap::new(&["--base-port", &port.to_string(), "--output", "json"]).run();
    assert_eq!(finished.output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_str(finished.stdout()).unwrap();
    assert_eq!(report["fixedPoint"], serde_json::Value::Null, "nothing to compare");
    assert_eq!(report["deviation"]["generation"], 2);
    assert!(report["deviation"]["reason"].as_str().unwrap().contains("in use"));
}

#[test]
fn ports_past_the_last_one_are_refused_before_anything_runs() {
    let finished = Bootstrap::new(&["--base-port", "65534"]).run();
    assert_eq!(finished.output.status.code(), Some(1));
    assert_eq!(finished.stdout(), "");
    let stderr = String::from_utf8_lossy(&finished.output.stderr);
    assert!(stderr.contains("65536") && stderr.contains("65535"), "{stderr}");
}

/// Runs with a temporary folder that is a file system mounted with `options`; `None` where that cannot be
/// had.
fn on_file_system(options: &str) -> Option<Finished> {
    let bootstrap = Bootstrap::new(&["--base-port", "0"]);
    let script = r#"mount -t tmpfs -o "$1" quinistry "$TMPDIR" || exit 99; shift; "$@"; code=$?; ls -A "$TMPDIR" >&3; exit $code"#;
    let mut left = tempfile::tempfile().unwrap();
    let mut command = command("unshare");
    command
        .args(["--mount", "sh", "-c", &format!("exec 3>/dev/stdin; {script}"), "sh", options])
        .args([PROGRAM, "bootstrap", "--base-port", "0"])
        .env("TMPDIR", bootstrap.folder.path())
        .stdin(left.try_clone().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = {
        let _guard = no_forks();
        command.spawn().ok()?
    };
    let output = child.wait_with_output().unwrap();
    // Without root, unshare or mount say so.
    if output.status.code() == Some(99) || String::from_utf8_lossy(&output.stderr).contains("unshare failed")
    {
        return None;
    }
    left.flush().unwrap();
    let left = std::io::read_to_string({
        use std::io::Seek as _;
        left.rewind().unwrap();
        left
    })
    .unwrap();
    Some(Finished { output, left: left.lines().map(str::to_owned).collect() })
}

#[test]
fn a_folder_that_runs_nothing_stops_the_chain_with_advice() {
    let Some(finished) = on_file_system("noexec") else {
        return crate::support::skip::missing("root, to mount a file system noexec");
    };
    finished.assert_deviation(&["generation 2: failed to run ", "Permission denied", "noexec", "TMPDIR"]);
}

#[test]
fn a_full_disk_stops_the_chain_with_advice() {
    let Some(finished) = on_file_system("size=1m") else {
        return crate::support::skip::missing("root, to mount a small file system");
    };
    finished.assert_deviation(&["generation 2: failed to unpack its layer", "TMPDIR", "No space left"]);
}

/// Raises a chain whose first generation is `first`.
fn raise(first: &Path) -> DeviationReason {
    let executable = Executable::parse([fs::read(PROGRAM).unwrap().into()].into()).unwrap();
    let quine = Quine::new(&executable, LayerForm::Tar).unwrap();
    let plan = Plan { first: first.into(), ..Plan::of_this_executable(&quine, 2, 0) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(ClientOptions::default()).unwrap();
    // The chain starts processes by itself.
    let _guard = no_forks();
    let deviation =
        runtime.block_on(Chain::raise(&plan, &client, |_| panic!("nothing can be proven"))).unwrap_err();
    assert_eq!(deviation.generation, 1);
    deviation.reason
}

#[test]
fn another_digest_is_a_deviation() {
    use std::os::unix::fs::PermissionsExt as _;
    // One byte more than ours runs all the same, and is another image.
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    {
        let _guard = no_forks();
        fs::write(&other, [&fs::read(PROGRAM).unwrap()[..], b"!"].concat()).unwrap();
    }
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    let DeviationReason::DigestDiffers { expected, found } = raise(&other) else { panic!("it differs") };
    assert_ne!(expected, found);
}

#[test]
fn a_program_that_is_no_registry_is_a_deviation() {
    let DeviationReason::Died { status, last_words } = raise(Path::new("/bin/ls")) else { panic!("it ends") };
    assert_eq!(status, "exit status: 2");
    assert!(last_words.contains("ls --help"), "{last_words}");
    assert!(matches!(raise(Path::new("/bin/nothing")), DeviationReason::Run { .. }));
}
