//! Options that name peers, and their mistakes.

use crate::support::process::command;
use crate::support::server::{PROGRAM, SERVE, run};

/// Starts `serve` with options that are refused. Returns what the program says.
fn refused(arguments: &[&str]) -> String {
    let (status, log) = run(command(PROGRAM).args(SERVE).args(arguments));
    assert_eq!(status.code(), Some(2), "{log}");
    log
}

#[test]
fn an_address_that_is_not_literal_is_refused_in_one_line() {
    for value in [
        "store.default.svc:8090",
        "http://store:8090",
        "https://10.96.0.7:8090",
        "http://10.96.0.7",
        "http://10.96.0.7:8090,http://store:8090",
    ] {
        let log = refused(&["--peers", value]);
        let reason = "is not http://ADDRESS:PORT with a literal IP address, such as http://10.96.0.7:8090";
        assert_eq!(log.lines().filter(|line| line.contains(reason)).count(), 1, "{value}: {log}");
    }
}

#[test]
fn a_peer_that_is_named_twice_is_refused() {
    let log = refused(&["--peers", "http://10.96.0.7:1", "--peers", "http://10.96.0.7:1/"]);
    assert!(log.contains("--peers names http://10.96.0.7:1 twice"), "{log}");
}

#[test]
fn names_need_peers_and_neither_goes_with_a_configuration() {
    assert!(refused(&["--names", "names.json"]).contains("--peers"));
    let log = refused(&["config.yml", "--peers", "http://10.96.0.7:1"]);
    assert!(log.contains("cannot be used with"), "{log}");
}
