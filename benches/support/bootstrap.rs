//! The local chain, as the program itself reports it.

use std::path::Path;
use std::process::{Command, Stdio};

use super::cores::start_measured;

/// Returns the time of each generation in milliseconds, except for the first, which pulls nothing.
pub(crate) fn generations(quinistry: &Path, count: usize) -> Vec<f64> {
    let count = count.to_string();
    let arguments = ["bootstrap", "--generations", &count, "--base-port", "0", "--output", "json"];
    let mut command = Command::new(quinistry);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let output = start_measured(|| command.spawn().unwrap()).wait_with_output().unwrap();
    assert!(output.status.success(), "bootstrap: {}", output.status);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["fixedPoint"], true);
    let generations = report["generations"].as_array().unwrap();
    generations[1..].iter().map(|generation| generation["milliseconds"].as_f64().unwrap()).collect()
}
