//! Speed and memory of the registry: starts, responses, and downloads of its layer.
//!
//! The bench drives the real release binary from outside, over loopback, and prints one table; `benches/run`
//! calls the bench. Little but the standard library is used: the load generator shares two cores with the
//! measured program, and must not share its code.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![allow(clippy::cast_precision_loss, reason = "no figure here needs 53 bits")]

#[path = "../support/mod.rs"]
mod support;
mod table;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::connection::Connection;
use support::process::{Process, free_address};
use support::{bootstrap, load_average, milliseconds, parallel, wrk};
use table::{MeasurementTable, MedianGoal};

const QUINISTRY: &str = env!("CARGO_BIN_EXE_quinistry");

const MANIFEST: &str = "/v2/quinistry/manifests/latest";

/// The numbers of repetitions give a steady median on a busy machine, within a minute in all.
const STARTS: usize = 30;
const ROUNDS: usize = 5;
const ROUND_DURATION: Duration = Duration::from_secs(3);
const CONNECTIONS: usize = 8;
const DOWNLOADS: usize = 16;
const GENERATIONS: usize = 11;

fn main() {
    let before = load_average();
    let cores = std::thread::available_parallelism().unwrap();
    let mut table = MeasurementTable::default();
    for layer in ["tar", "gzip"] {
        let goal = (layer == "tar").then_some(MedianGoal::AtMost(20.0));
        let starts = (0..STARTS).map(|_| milliseconds(exec_to_first_manifest(layer))).collect();
        table.row(&format!("exec to first manifest, {layer} layer"), "ms", starts, goal);
    }
    let (idle, loaded): (Vec<_>, Vec<_>) = (0..ROUNDS).map(|_| high_water()).unzip();
    table.row("memory high-water, idle", "MB", idle, None);
    let name = format!("memory high-water, {DOWNLOADS} layer downloads at once");
    table.row(&name, "MB", loaded, Some(MedianGoal::AtMost(16.0)));
    requests(&mut table);
    let rates = (0..ROUNDS).map(|_| layer_rate()).collect();
    table.row(
        &format!("layer downloads, {CONNECTIONS} connections"),
        "GB/s",
        rates,
        Some(MedianGoal::AtLeast(2.5)),
    );
    let generations = bootstrap::generations(Path::new(QUINISTRY), GENERATIONS);
    table.row("one generation of bootstrap", "ms", generations, Some(MedianGoal::AtMost(60.0)));
    print!("{table}");
    println!("load on {cores} cores before: {before}; figures from a busy machine say little");
}

/// Starts the registry.
fn start(arguments: &[&str]) -> Process {
    let address = free_address();
    let mut command = Command::new(QUINISTRY);
    command.args(["serve", "--listen", &address.to_string()]).args(arguments);
    Process::start(command, address)
}

/// Returns the path of the served layer.
fn layer_of(server: &Process) -> String {
    let manifest: serde_json::Value = serde_json::from_slice(&server.connect().body(MANIFEST)).unwrap();
    format!("/v2/quinistry/blobs/{}", manifest["layers"][0]["digest"].as_str().unwrap())
}

/// Returns the time from before the start of the process to the last byte of a manifest.
fn exec_to_first_manifest(layer: &str) -> Duration {
    let begin = Instant::now();
    let server = start(&["--layer", layer]);
    let answer = server.connect().get(MANIFEST, |_| ());
    let time = begin.elapsed();
    assert!(answer > 0);
    time
}

/// Returns the kernel's high-water mark of the server's memory before and after all downloads at once, in
/// megabytes.
fn high_water() -> (f64, f64) {
    let server = start(&[]);
    server.connect().get(MANIFEST, |_| ());
    let idle = server.high_water();
    let layer = layer_of(&server);
    std::thread::scope(|scope| {
        for _ in 0..DOWNLOADS {
            scope.spawn(|| server.connect().get(&layer, |_| ()));
        }
    });
    (idle, server.high_water())
}

/// Measures manifest requests with `wrk` if it is installed, since it costs less than threads of this
/// program.
fn requests(table: &mut MeasurementTable) {
    let server = start(&[]);
    server.connect().get(MANIFEST, |_| ());
    let (tool, one): (_, fn(&Process) -> f64) =
        if wrk::is_installed() { ("wrk", wrk_rate) } else { ("threads of this program", request_rate) };
    let rates = (0..ROUNDS).map(|_| one(&server) / 1e3).collect();
    let name = format!("manifest requests, {CONNECTIONS} connections, by {tool}");
    table.row(&name, "k/s", rates, Some(MedianGoal::AtLeast(60.0)));
}

fn wrk_rate(server: &Process) -> f64 {
    wrk::rate(&format!("http://{}{MANIFEST}", server.address()), &[], CONNECTIONS, ROUND_DURATION.as_secs())
}

fn request_rate(server: &Process) -> f64 {
    on_all_connections(server, |connection, _| {
        connection.get(MANIFEST, |_| ());
        1
    })
}

/// Returns the rate of layer downloads, in gigabytes per second.
fn layer_rate() -> f64 {
    let server = start(&[]);
    let layer = layer_of(&server);
    on_all_connections(&server, |connection, deadline| connection.get_until(&layer, "", deadline)) / 1e9
}

fn on_all_connections(server: &Process, work: impl Fn(&mut Connection, Instant) -> usize + Sync) -> f64 {
    parallel::rate(CONNECTIONS, ROUND_DURATION, || server.connect(), work)
}
