//! Support for the benches: processes, connections to them, `wrk`, and statistics of repeated figures.
//!
//! Little but the standard library is used: a load generator shares its processors with the measured program,
//! and must not share its code.

#![allow(dead_code, reason = "each bench uses its part")]

#[path = "../../tests/support/process.rs"]
#[allow(unreachable_pub, reason = "the same file is a module of the tests")]
mod guard;
#[path = "../../tests/support/http.rs"]
#[allow(unreachable_pub, reason = "the same file is a module of the tests")]
mod http;

pub(crate) mod bootstrap;
pub(crate) mod connection;
pub(crate) mod image_push;
pub(crate) mod parallel;
pub(crate) mod process;
pub(crate) mod spread;
pub(crate) mod wrk;

use std::time::Duration;

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns the load averages of the last minute, five minutes, and fifteen minutes.
pub(crate) fn load_average() -> String {
    let all = std::fs::read_to_string("/proc/loadavg").expect("Linux tells the load");
    all.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
