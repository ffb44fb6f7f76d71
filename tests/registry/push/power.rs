//! Power failures at every moment: the real program serves clients while its system calls are traced; from
//! the trace the disk is rebuilt as it may be left at each moment, a store is opened on it, and what clients
//! were told holds.
//!
//! Takes minutes, and needs `strace`: `cargo test --test registry -- --ignored power`.

mod disk;
mod trace;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use quinistry::registry::Settings;
use rustix::process::Signal;

use self::disk::Disk;
use self::trace::{CALLS, Event, Moment};
use crate::push::durability::{Acknowledged, Log, assert_consistent, run_workload};
use crate::push::registry::{Registry, Repository, store_in};
use crate::support::process::command;
use crate::support::server::{PROGRAM, SERVE, Server, run};
use crate::support::skip::{Need, lacks};

/// Number of disks rebuilt at each moment: the one that holds only what was flushed, and others by chance.
const DISKS: usize = 4;

/// A pseudo-random sequence (xorshift64*): a failure can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % bound
    }
}

/// A client's record: what it had been told, and since when.
struct Told {
    name: String,
    past: Vec<(f64, Acknowledged)>,
}

impl Told {
    fn of(name: String, log: Log) -> Self {
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        Self { name, past: log.past().into_iter().map(|(at, told)| (seconds(at), told)).collect() }
    }

    /// Returns the number of states that had been reached at that time.
    fn states(&self, until: f64) -> usize {
        self.past.partition_point(|(at, _)| *at < until)
    }

    fn until(&self, until: f64) -> Acknowledged {
        self.states(until).checked_sub(1).map(|last| self.past[last].1.clone()).unwrap_or_default()
    }
}

/// Returns the command that runs the program under `strace`, which is a child of its own: the program's
/// process is the caller's.
fn traced(file: &Path, arguments: &[&OsStr]) -> Command {
    let mut traced = command("strace");
    traced
        .args(["-D", "-f", "-ttt", "-xx", "-s", "16777216", "-e", &format!("trace={CALLS}"), "-o"])
        .arg(file);
    traced.arg(PROGRAM).args(arguments);
    traced
}

/// Runs several clients at once, each in a repository of its own, with layers in common.
fn load(server: &Server, clients: usize) -> Vec<Told> {
    let clients = (0..clients).map(|client| {
        let repository = Repository { peer: server.peer, name: format!("power/{client}") };
        thread::spawn(move || {
            let mut log = Log::default();
            run_workload(&repository, &mut log);
            // Blobs that the client pushed before, and deleted, come back.
            run_workload(&repository, &mut log);
            Told::of(repository.name, log)
        })
    });
    clients.collect::<Vec<_>>().into_iter().map(|client| client.join().unwrap()).collect()
}

/// Opens a store on each disk that may be left by these events and compares it with what clients were told;
/// the number of disks that differed.
fn check(disk: &mut Disk, events: &[Event], told: &[Told], chance: &mut Chance) -> usize {
    let mut seen = BTreeSet::new();
    for (place, event) in events.iter().enumerate() {
        if !disk.apply(event) {
            continue;
        }
        // The power fails just before the next event: until then clients may have been told of this one.
        let until = events.get(place + 1).map_or(f64::INFINITY, |next| next.at);
        for number in 0..DISKS {
            let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
            let mut choices = Vec::new();
            disk.rebuild(folder.path(), &mut |states| {
                let choice = if number == 0 { 0 } else { chance.below(states) };
                choices.push((states, choice));
                choice
            });
            let moments: Vec<usize> = told.iter().map(|told| told.states(until)).collect();
            if !seen.insert((choices, moments)) {
                continue;
            }
            let when = format!("event {place} ({} at {}), disk {number}", event.name, event.at);
            let registry = Registry::on(store_in(folder.path()), Settings::default(), Some(folder));
            for told in told {
                assert_consistent(&registry.repository(&told.name), &told.until(until), &when);
            }
            if number == 0 && place % 16 == 0 {
                // The same work can be done on what is left.
                let mut log = Log::default();
                let repository = registry.repository(&told[0].name);
                run_workload(&repository, &mut log);
                assert_consistent(&repository, &Told::of(String::new(), log).until(f64::INFINITY), &when);
            }
        }
    }
    seen.len()
}

#[test]
#[ignore = "takes minutes; cargo test --test registry -- --ignored power"]
fn nothing_acknowledged_is_lost_to_a_power_failure_at_any_moment() {
    if lacks(&[Need::Tool("strace")]) {
        return;
    }
    let seed = std::env::var("QUINISTRY_TESTS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    println!("QUINISTRY_TESTS_SEED={seed}");
    let mut chance = Chance(seed | 1);
    let scratch = tempfile::tempdir().unwrap();
    let (folder, file) = (scratch.path().join("store"), scratch.path().join("trace"));
    fs::create_dir(&folder).unwrap();
    let folder = folder.canonicalize().unwrap();
    let mut disk = Disk::new(&folder);

    let storage = [OsStr::new("--storage"), folder.as_os_str()];
    let server = Server::launch(&mut traced(&file, &[SERVE.map(OsStr::new).as_slice(), &storage].concat()));
    let told = load(&server, 3);
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert!(status.success(), "{log}");
    let events = trace::parse(&fs::read_to_string(&file).unwrap());
    let flushes =
        events.iter().filter(|event| event.name.contains("sync") && event.moment == Moment::Begin).count();
    assert!(flushes > 100, "the trace holds {flushes} flushes");
    let disks = check(&mut disk, &events, &told, &mut chance);
    println!("serve: {} events, {disks} disks", events.len());

    // Collection removes what nothing refers to, and nothing else.
    disk.next_process();
    let (status, log) = run(&mut traced(
        &file,
        &["gc", "--grace", "0"].map(OsStr::new).into_iter().chain([folder.as_os_str()]).collect::<Vec<_>>(),
    ));
    assert!(status.success(), "{log}");
    let events = trace::parse(&fs::read_to_string(&file).unwrap());
    let collected = |told: Told| Told { past: vec![(0.0, told.until(f64::INFINITY).collected())], ..told };
    let told: Vec<Told> = told.into_iter().map(collected).collect();
    let disks = check(&mut disk, &events, &told, &mut chance);
    println!("gc: {} events, {disks} disks", events.len());
}
