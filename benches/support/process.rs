//! A server process, its connections and its memory.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::connection::Connection;
use super::{cores, guard};

/// Unit of processor times in `/proc`, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Returns an address that was free a moment ago. Its port is outside the range of outgoing connections, so
/// that no connection attempt of this program can occupy it.
pub(crate) fn free_address() -> SocketAddr {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).expect("it is less");
    loop {
        let next = TRIED.fetch_add(1, Ordering::Relaxed);
        assert!(next < 20_000, "no port is free");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000 + (first + next) % 12_000));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A server process, which ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    guard: guard::Process,
    address: SocketAddr,
    command: String,
}

impl Process {
    /// Starts a server that will listen on an address.
    pub(crate) fn start(mut command: Command, address: SocketAddr) -> Self {
        let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = cores::start_measured(|| guard::Process::start(silent))
            .unwrap_or_else(|error| panic!("{silent:?}: {error}"));
        Self { guard, address, command: format!("{command:?}") }
    }

    fn id(&self) -> i32 {
        self.guard.pid().as_raw_nonzero().get()
    }

    /// Returns the process IDs of the server and its children.
    pub(crate) fn ids(&self) -> Vec<i32> {
        let id = self.id();
        let children = children(id);
        let children = children.split_whitespace().map(|child| child.parse().expect("a number"));
        std::iter::once(id).chain(children).collect()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects as soon as the server listens, within a minute: a busy machine may delay it for seconds.
    pub(crate) fn connect(&self) -> Connection {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => return Connection::new(stream),
                Err(error) => assert!(
                    Instant::now() < deadline,
                    "{} does not listen: {error}; run it by hand to see what it says",
                    self.command
                ),
            }
            // Short beside the measured times, and leaves the processor to the server.
            thread::sleep(Duration::from_micros(100));
        }
    }

    /// Returns the high-water mark of resident memory in megabytes, its children included.
    pub(crate) fn high_water(&self) -> f64 {
        memory(self.id(), "VmHWM:")
    }

    /// Returns the processor time in seconds that the server and its children have taken.
    pub(crate) fn processor_seconds(&self) -> f64 {
        self.ids().into_iter().map(processor_seconds).sum()
    }

    /// Returns the resident memory in megabytes, its children included.
    pub(crate) fn resident(&self) -> f64 {
        memory(self.id(), "VmRSS:")
    }
}

fn processor_seconds(process: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    // The name, in parentheses, may have spaces. User and system time are the fields 14 and 15, in ticks.
    let fields = stat.rsplit_once(") ").expect("the name is in parentheses").1;
    let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

fn memory(process: i32, line: &str) -> f64 {
    // A process that has ended takes none.
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let own = status.lines().find_map(|text| text.strip_prefix(line)).map_or(0.0, |text| {
        text.trim().trim_end_matches(" kB").parse::<f64>().expect("a number of kB") * 1024.0 / 1e6
    });
    own + children(process).split_whitespace().map(|child| memory(child.parse().unwrap(), line)).sum::<f64>()
}

/// Returns the process IDs of the children, separated by spaces.
fn children(process: i32) -> String {
    fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default()
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process with children must end them itself; the guard kills any other.
        if !children(self.id()).trim().is_empty() && self.guard.signal(Signal::TERM).is_ok() {
            let _ = self.guard.wait();
        }
    }
}
