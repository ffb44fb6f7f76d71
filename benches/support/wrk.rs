//! Requests by `wrk`, which costs less than threads of this program for short bodies.

use std::process::{Command, Stdio};

/// Returns true if `wrk` is installed.
pub(crate) fn is_installed() -> bool {
    Command::new("wrk").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Returns the requests per second; every response must succeed.
pub(crate) fn rate(url: &str, fields: &[String], connections: usize, seconds: u64) -> f64 {
    rate_and_count(url, fields, connections, seconds).0
}

/// Returns the requests per second, and their number; every response must succeed.
pub(crate) fn rate_and_count(url: &str, fields: &[String], connections: usize, seconds: u64) -> (f64, f64) {
    let mut command = Command::new("wrk");
    command.args([format!("-t{}", connections.min(2)), format!("-c{connections}"), format!("-d{seconds}s")]);
    for field in fields {
        command.args(["-H", field]);
    }
    let output = command.arg(url).output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "{url}: {report}");
    let rate = report.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    let count = report.lines().find_map(|line| line.split_once(" requests in ")).map(|(count, _)| count);
    let number = |text: Option<&str>| text.expect("wrk prints it").trim().parse().unwrap();
    (number(rate), number(count))
}
