//! The conformance suite of the distribution specification, through two replicas of which each answers every second
//! request.

use std::process::Command;

use crate::stores::{Replica, ReplicaSettings};
use crate::support::process::{isolated_command, output};
use crate::support::round_robin::RoundRobin;
use crate::support::skip::missing;
use crate::support::tools;
use crate::support::versitygw::{Versitygw, section};

/// Folder in which `.ci/tools` builds the suite.
const TOOL: &str = "conformance-0.0.0-20260831232431-97274622c111";

/// Number of results of a suite that ran as a whole, at least.
const LEAST_RESULTS: usize = 800;

/// Section of the configuration that allows layers with URLs, which distribution refuses by default.
const FOREIGN_LAYERS: &str = "validation: {manifests: {urls: {allow: ['^https://']}}}\n";

/// Runs the suite for a version of the specification.
fn run(version: &str) {
    let Some(program) = tools::find("conformance", TOOL) else { return missing("the conformance suite") };
    let Some(store) = Versitygw::start() else { return };
    let section = section(store.address, "");
    let settings = ReplicaSettings { sections: FOREIGN_LAYERS, ..ReplicaSettings::default() };
    let replicas = [Replica::with(&section, settings), Replica::with(&section, settings)];
    let balancer = RoundRobin::start(&replicas.each_ref().map(|replica| replica.peer().0));
    let folder = tempfile::tempdir().unwrap();
    let mut suite: Command = isolated_command(program);
    suite.env("OCI_REGISTRY", balancer.address.to_string()).env("OCI_TLS", "disabled");
    suite.env("OCI_VERSION", version).env("OCI_REPO1", "conformance/one").env("OCI_REPO2", "conformance/two");
    suite.env("OCI_RESULTS_DIR", folder.path()).current_dir(folder.path());
    let ended = output(&mut suite).unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    let count = |status: &str| -> usize {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(status)?.strip_prefix('.'));
        let count = line.and_then(|rest| rest.rsplit(' ').next()?.parse().ok());
        count.unwrap_or_else(|| panic!("no number of {status}: {said}"))
    };
    let counts = ["Pass", "Skip", "FAIL", "Error"].map(count);
    println!("{version}: {counts:?} results passed, were skipped, failed, were errors");
    assert!(ended.status.success() && counts[1..] == [0; 3], "{said}");
    assert!(counts[0] >= LEAST_RESULTS, "{said}");
}

#[test]
fn two_replicas_in_turn_conform_to_the_released_specification() {
    run("stable");
}

#[test]
fn two_replicas_in_turn_conform_to_the_coming_specification() {
    run("dev");
}
