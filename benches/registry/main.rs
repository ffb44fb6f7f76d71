//! How fast the registry starts, answers and gives its layer, and how much memory that takes.
//!
//! Drives the real release binary from outside, over loopback, and prints one table; `benches/run` is the way to
//! call it. It deliberately uses nothing but the standard library: the load generator shares two cores with what
//! it measures, and nothing of it must come from what is measured.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![allow(clippy::cast_precision_loss, reason = "no figure here needs 53 bits")]

mod load;
mod table;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use load::{Connection, Server};
use table::{Goal, Table};

const QUINISTRY: &str = env!("CARGO_BIN_EXE_quinistry");

const MANIFEST: &str = "/v2/quinistry/manifests/latest";

/// The numbers of repetitions are what a busy machine needs for a steady median, within a minute in all.
const STARTS: usize = 30;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const CONNECTIONS: usize = 8;
const DOWNLOADS: usize = 16;
const GENERATIONS: usize = 11;

fn main() {
    let before = std::fs::read_to_string("/proc/loadavg").unwrap();
    let before = before.split(' ').next().unwrap_or_default();
    let cores = std::thread::available_parallelism().unwrap();
    let mut table = Table::default();
    for layer in ["tar", "gzip"] {
        let goal = (layer == "tar").then_some(Goal::AtMost(20.0));
        let starts = (0..STARTS).map(|_| milliseconds(exec_to_first_manifest(layer))).collect();
        table.row(&format!("exec to first manifest, {layer} layer"), "ms", starts, goal);
    }
    let (idle, loaded): (Vec<_>, Vec<_>) = (0..ROUNDS).map(|_| high_water()).unzip();
    table.row("memory high-water, idle", "MB", idle, None);
    let name = format!("memory high-water, {DOWNLOADS} layer downloads at once");
    table.row(&name, "MB", loaded, Some(Goal::AtMost(16.0)));
    requests(&mut table);
    let rates = (0..ROUNDS).map(|_| layer_rate()).collect();
    table.row(
        &format!("layer downloads, {CONNECTIONS} connections"),
        "GB/s",
        rates,
        Some(Goal::AtLeast(2.5)),
    );
    table.row("one generation of bootstrap", "ms", generations(), Some(Goal::AtMost(60.0)));
    print!("{table}");
    println!("load on {cores} cores before: {before}; figures from a busy machine say little");
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// From before the process exists to the last byte of a manifest.
fn exec_to_first_manifest(layer: &str) -> Duration {
    let begin = Instant::now();
    let server = Server::start(&["--layer", layer]);
    let answer = server.connect().get(MANIFEST, |_| ());
    let time = begin.elapsed();
    assert!(answer > 0);
    time
}

/// What the kernel says the server's memory was at most, before and after all downloads at once, in megabytes.
fn high_water() -> (f64, f64) {
    let server = Server::start(&[]);
    server.connect().get(MANIFEST, |_| ());
    let idle = server.high_water();
    let layer = server.layer();
    std::thread::scope(|scope| {
        for _ in 0..DOWNLOADS {
            scope.spawn(|| server.connect().get(&layer, |_| ()));
        }
    });
    (idle, server.high_water())
}

/// Manifest requests, by `wrk` where there is one, since it costs less than the threads here.
fn requests(table: &mut Table) {
    let server = Server::start(&[]);
    server.connect().get(MANIFEST, |_| ());
    let has_wrk =
        Command::new("wrk").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let (tool, one): (_, fn(&Server) -> f64) =
        if has_wrk { ("wrk", wrk_rate) } else { ("threads of this program", request_rate) };
    let rates = (0..ROUNDS).map(|_| one(&server) / 1e3).collect();
    let name = format!("manifest requests, {CONNECTIONS} connections, by {tool}");
    table.row(&name, "k/s", rates, Some(Goal::AtLeast(60.0)));
}

fn wrk_rate(server: &Server) -> f64 {
    let url = format!("http://{}{MANIFEST}", server.address());
    let duration = format!("-d{}s", ROUND.as_secs());
    let output =
        Command::new("wrk").args(["-t2", &format!("-c{CONNECTIONS}"), &duration, &url]).output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "{report}");
    let rate = report.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    rate.expect("wrk prints the rate").trim().parse().unwrap()
}

fn request_rate(server: &Server) -> f64 {
    on_all_connections(server, |connection, _| {
        connection.get(MANIFEST, |_| ());
        1
    })
}

/// Gigabytes of layer per second.
fn layer_rate() -> f64 {
    let server = Server::start(&[]);
    let layer = server.layer();
    on_all_connections(&server, |connection, deadline| {
        let mut bytes = 0;
        connection.get(&layer, |read| bytes += if Instant::now() < deadline { read } else { 0 });
        bytes
    }) / 1e9
}

/// The sum of what `work` gives per second, on as many connections as threads.
fn on_all_connections(server: &Server, work: impl Fn(&mut Connection, Instant) -> usize + Sync) -> f64 {
    let begin = Instant::now();
    let deadline = begin + ROUND;
    let total: usize = std::thread::scope(|scope| {
        let one = || {
            let mut connection = server.connect();
            let mut sum = 0;
            while Instant::now() < deadline {
                sum += work(&mut connection, deadline);
            }
            sum
        };
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    total as f64 / begin.elapsed().min(ROUND).as_secs_f64()
}

/// What the program itself says each generation but the first took, which pulls nothing.
fn generations() -> Vec<f64> {
    let count = GENERATIONS.to_string();
    let arguments = ["bootstrap", "--generations", &count, "--base-port", "0", "--output", "json"];
    let output = Command::new(QUINISTRY).args(arguments).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "bootstrap: {}", output.status);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["fixedPoint"], true);
    let generations = report["generations"].as_array().unwrap();
    generations[1..].iter().map(|generation| generation["milliseconds"].as_f64().unwrap()).collect()
}
