//! Metrics and access log as `promtool` and `goaccess` read them.

use std::fs::{self, File};

use quinistry::http::access_log::AccessLogFormat;

use crate::exposition::GAUGE_OF_DISTRIBUTION;
use crate::registry::{Observed, full_pages, session};
use crate::support::process::{command, output, output_with};
use crate::support::skip::{Need, lacks};

#[test]
fn promtool_finds_nothing_to_complain_about() {
    if lacks(&[Need::Tool("promtool")]) {
        return;
    }
    let registry = Observed::start(AccessLogFormat::Combined);
    session(registry.peer());
    registry.log();
    for page in full_pages().into_iter().chain([registry.page()]) {
        let mut check = command("promtool");
        let done = output_with(check.args(["check", "metrics"]), page.as_bytes()).unwrap();
        let complaints = String::from_utf8_lossy(&done.stderr).into_owned();
        let known = format!("{GAUGE_OF_DISTRIBUTION} non-counter metrics should not have \"_total\" suffix");
        let others: Vec<&str> =
            complaints.lines().filter(|line| !line.is_empty() && *line != known).collect();
        // A linter's complaint is status 3; any other failure is one of the page.
        let is_read = done.status.success() || done.status.code() == Some(3);
        assert!(is_read && others.is_empty(), "{}: {complaints}", done.status);
    }
}

#[test]
fn goaccess_reads_every_line_of_the_access_log() {
    if lacks(&[Need::Tool("goaccess")]) {
        return;
    }
    let registry = Observed::start(AccessLogFormat::Combined);
    let count = session(registry.peer());
    // GoAccess wants an address; the server of these tests does not tell the peer.
    let text =
        registry.lines().into_iter().map(|line| format!("192.0.2.1{}\n", line.strip_prefix('-').unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let (log, report) = (folder.path().join("log"), folder.path().join("report.json"));
    fs::write(&log, text.collect::<String>()).unwrap();
    let mut goaccess = command("goaccess");
    goaccess
        .arg(&log)
        .args(["--log-format=COMBINED", "--no-global-config", "--no-progress", "-o"])
        .arg(&report);
    let done = output(&mut goaccess).unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: serde_json::Value = serde_json::from_reader(File::open(report).unwrap()).unwrap();
    let general = &report["general"];
    assert_eq!(
        (&general["valid_requests"], &general["failed_requests"]),
        (&count.into(), &0.into()),
        "{general}"
    );
}
