//! helm, and with it the Go library of oras: our own chart as an artifact.

use crate::machine::Machine;
use crate::program::{built, lacks};

pub(crate) fn helm() -> &'static str {
    built("helm", "4.3.1")
}

#[test]
fn pushes_and_pulls_our_own_chart() {
    if lacks(&[helm()]) {
        return;
    }
    let mut machine = Machine::start();
    machine.registry(8080, &["--storage", &machine.path("storage")]);
    push_and_pull(&machine, "localhost:8080");
}

/// Pushes the chart to the registry at `host`, and pulls it.
pub(crate) fn push_and_pull(machine: &Machine, host: &str) {
    let folder = machine.path("");
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/quinistry");
    machine.run(helm(), &["package", "--destination", &folder, chart]);
    let name = concat!("quinistry-", env!("CARGO_PKG_VERSION"), ".tgz");
    let packed = machine.path(name);
    machine.run(helm(), &["push", "--plain-http", &packed, &format!("oci://{host}/charts")]);
    let pulled = machine.path("pulled");
    std::fs::create_dir(&pulled).unwrap();
    let reference = &format!("oci://{host}/charts/quinistry");
    machine.run(
        helm(),
        &[
            "pull",
            "--plain-http",
            reference,
            "--version",
            env!("CARGO_PKG_VERSION"),
            "--destination",
            &pulled,
        ],
    );
    assert!(std::fs::read(packed).unwrap() == std::fs::read(format!("{pulled}/{name}")).unwrap());
}
