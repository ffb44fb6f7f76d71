//! Counts of a server's work that the load of the machine changes little: system calls, and instructions
//! where the machine counts them. Counted by `perf stat`, which stops no process as `strace` does.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use super::process::Process;

/// Event that perf counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    SystemCalls,
    /// In user space alone: those of the kernel depend on where its packets go.
    Instructions,
}

impl Event {
    const ALL: [Self; 2] = [Self::SystemCalls, Self::Instructions];

    /// Returns the events that perf counts on this machine; none if it is not installed, or may not.
    /// `scratch` is a file to overwrite.
    pub(crate) fn available(scratch: &Path) -> Vec<Self> {
        let report = perf(&Self::ALL, scratch).args(["--", "true"]).output().ok().map(|_| read(scratch));
        let Some(report) = report else { return Vec::new() };
        Self::ALL.into_iter().filter(|event| event.figure(&report).is_some()).collect()
    }

    /// Name in a table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SystemCalls => "system calls",
            Self::Instructions => "instructions",
        }
    }

    /// Name for perf.
    fn id(self) -> &'static str {
        match self {
            Self::SystemCalls => "raw_syscalls:sys_enter",
            Self::Instructions => "instructions:u",
        }
    }

    /// Returns the number of this event in perf's report of comma-separated values; `None` for `<not
    /// supported>`.
    fn figure(self, report: &str) -> Option<f64> {
        report.lines().find_map(|line| {
            let mut fields = line.split(',');
            let (number, _unit, name) = (fields.next()?, fields.next()?, fields.next()?);
            if name == self.id() { number.parse().ok() } else { None }
        })
    }
}

/// Runs `work`, and returns how often the server had each of the events, which must be available, until the
/// end of `work`.
pub(crate) fn count(events: &[Event], server: &Process, scratch: &Path, work: impl FnOnce()) -> Vec<f64> {
    let ids = server.ids().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    // perf counts until this program ends.
    let mut command = perf(events, scratch);
    command
        .args(["-p", &ids, "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut perf = command.spawn().expect("perf is installed");
    let mut input = perf.stdin.take().expect("it is piped");
    let mut output = perf.stdout.take().expect("it is piped");
    // A byte that has come back was passed on by `cat`, which runs only while perf counts.
    input.write_all(b"\n").expect("cat reads");
    output.read_exact(&mut [0]).expect("cat writes");
    work();
    drop((input, output));
    assert!(perf.wait().expect("perf ends").success(), "{command:?}");
    let report = read(scratch);
    // An event that never happened has no number.
    events.iter().map(|event| event.figure(&report).unwrap_or_default()).collect()
}

fn perf(events: &[Event], scratch: &Path) -> Command {
    let mut command = Command::new("perf");
    command.args(["stat", "-x,", "-o"]).arg(scratch);
    for event in events {
        command.args(["-e", event.id()]);
    }
    command
}

fn read(scratch: &Path) -> String {
    fs::read_to_string(scratch).unwrap_or_default()
}
