//! Collection of garbage: time and memory of a mark over a large store, a folder of many images beside
//! distribution's command, and what a running cycle costs a push.
//!
//! `benches/collection/run` builds the release binary, installs distribution and calls the bench.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![allow(clippy::duplicate_mod, reason = "the benches and the tests share the guard of processes")]
#![allow(clippy::cast_precision_loss, reason = "no figure here needs 53 bits")]

mod folder;
mod large;
mod pushes;
#[path = "../support/mod.rs"]
mod support;
mod synthetic;

use std::path::PathBuf;

use support::load_average;

fn main() {
    let before = load_average();
    let mut arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let share: f64 = arguments.iter().position(|argument| argument == "--share").map_or(1.0, |place| {
        arguments.drain(place..place + 2).nth(1).unwrap().parse().expect("a share such as 0.1")
    });
    let wants = |part: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == part);
    println!("collection, at {share} of the whole size; load before {before}");
    if wants("large") {
        large::measure(share);
    }
    // Each part has images of its own: after a cycle, the next one begins hours later.
    if wants("folder") {
        folder::measure(&folder::Images::write(share), &program());
    }
    if wants("pushes") {
        pushes::measure(&folder::Images::write(share), &program());
    }
    println!("load after {}", load_average());
}

/// Returns the path of the measured program.
fn program() -> PathBuf {
    std::env::var_os("QUINISTRY").expect("benches/collection/run names the program by QUINISTRY").into()
}
