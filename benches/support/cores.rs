//! Cores of a measurement: one for the measured program, the others for the load.
//!
//! A program and its load that share cores move between them, and what one round measures is the luck of the
//! scheduler.

use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Sets of cores of a pinned measurement.
#[derive(Debug)]
struct Cores {
    server: CpuSet,
    load: CpuSet,
}

static PINNED: OnceLock<Cores> = OnceLock::new();

/// Leaves one core to the measured programs, and moves this thread and the threads and processes that it
/// starts from now on to the others. Returns the number of cores of the load; `None`, and changes nothing, if
/// there is one core only.
pub(crate) fn pin() -> Option<u32> {
    let all = sched_getaffinity(None).expect("Linux tells the cores of a thread");
    let server = (0..CpuSet::MAX_CPU).rev().find(|core| all.is_set(*core)).expect("a thread has a core");
    let mut cores = Cores { server: CpuSet::new(), load: all };
    cores.server.set(server);
    cores.load.unset(server);
    let count = cores.load.count();
    if count == 0 {
        return None;
    }
    enter(&PINNED.get_or_init(|| cores).load);
    Some(count)
}

/// Calls `start`, whose process runs on the core of measured programs if this measurement is pinned.
pub(crate) fn start_measured<T>(start: impl FnOnce() -> T) -> T {
    let Some(cores) = PINNED.get() else { return start() };
    // A process inherits the cores of the thread that starts it.
    enter(&cores.server);
    let started = start();
    enter(&cores.load);
    started
}

fn enter(cores: &CpuSet) {
    sched_setaffinity(None, cores).expect("a thread may choose among its cores");
}
