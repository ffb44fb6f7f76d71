//! Time of a push beside a running cycle, and without one.

use std::path::Path;

use crate::folder::{Images, Registry};
use crate::support::image_push::push_image;
use crate::support::milliseconds;
use crate::support::spread::{Spread, verdict};

/// Rounds of each kind, in turn: the load of the machine changes.
const ROUNDS: usize = 4;

/// Pushes of a round, after the first ones.
const PUSHES: usize = 300;

/// Pushes that open files and fill caches.
const FIRST_PUSHES: usize = 20;

/// Greatest time beside a cycle, as a share of that without one.
const GOAL: f64 = 1.10;

pub(crate) fn measure(images: &Images, program: &Path) {
    let mut number = 0;
    let [mut alone, mut beside] = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (figures, gc) in [(&mut alone, None), (&mut beside, Some(", grace: 10m"))] {
            let registry = Registry::start(program, images.root(), gc);
            let mut connection = registry.process.connect();
            let is_running = || gc.is_none() || registry.metric("quinistry_gc_running") == 1;
            for push in 0..FIRST_PUSHES + PUSHES {
                number += 1;
                let took = push_image(&mut connection, number);
                if push >= FIRST_PUSHES {
                    figures.push(milliseconds(took));
                }
                assert!(push != FIRST_PUSHES || is_running(), "the cycle must be running");
            }
            assert!(is_running(), "the cycle has ended too early: use a greater share");
        }
    }
    let [alone, beside] = [alone, beside].map(Spread::of);
    let ratio = beside.median() / alone.median();
    println!(
        "push of an image: median {:.2} ms without a cycle, {:.2} ms beside a running one: {ratio:.3} times ({})",
        alone.median(),
        beside.median(),
        verdict(ratio <= GOAL)
    );
}
