//! helm, and with it the Go library of oras: our own chart as an artifact.

use crate::machine::Machine;
use crate::program::{built, lacks};

fn helm() -> &'static str {
    built("helm", "4.3.1")
}

#[test]
fn pushes_and_pulls_our_own_chart() {
    if lacks(&[helm()]) {
        return;
    }
    let mut machine = Machine::start();
    machine.registry(8080, &["--storage", &machine.path("storage")]);
    let folder = machine.path("");
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/quinistry");
    machine.run(helm(), &["package", "--destination", &folder, chart]);
    let name = concat!("quinistry-", env!("CARGO_PKG_VERSION"), ".tgz");
    let packed = machine.path(name);
    machine.run(helm(), &["push", "--plain-http", &packed, "oci://localhost:8080/charts"]);
    let pulled = machine.path("pulled");
    std::fs::create_dir(&pulled).unwrap();
    let reference = "oci://localhost:8080/charts/quinistry";
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
