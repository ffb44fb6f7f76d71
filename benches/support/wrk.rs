//! Requests by `wrk`, which costs less than threads do, where bodies are short.

use std::process::{Command, Stdio};

/// Whether it is installed.
pub(crate) fn is_there() -> bool {
    Command::new("wrk").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Requests per second, all answered with success.
pub(crate) fn rate(url: &str, fields: &[String], connections: usize, seconds: u64) -> f64 {
    let mut command = Command::new("wrk");
    command.args([format!("-t{}", connections.min(2)), format!("-c{connections}"), format!("-d{seconds}s")]);
    for field in fields {
        command.args(["-H", field]);
    }
    let output = command.arg(url).output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "{url}: {report}");
    let rate = report.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    rate.expect("wrk prints the rate").trim().parse().unwrap()
}
