//! What both benches are made of: processes, connections to them, `wrk`, and what repeated figures come to.
//!
//! It deliberately uses little but the standard library: a load generator shares its processors with what it measures,
//! and nothing of it must come from what is measured.

#![allow(dead_code, reason = "each bench uses its part")]

#[path = "../../tests/support/process.rs"]
#[allow(unreachable_pub, reason = "the same file is a module of the tests")]
mod guard;
#[path = "../../tests/support/http.rs"]
#[allow(unreachable_pub, reason = "the same file is a module of the tests")]
mod http;

pub(crate) mod bootstrap;
pub(crate) mod connection;
pub(crate) mod parallel;
pub(crate) mod process;
pub(crate) mod spread;
pub(crate) mod wrk;

use std::time::Duration;

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The load on this machine, as the kernel tells it: of the last minute, of five, and of fifteen.
pub(crate) fn load_average() -> String {
    let all = std::fs::read_to_string("/proc/loadavg").expect("Linux tells the load");
    all.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
