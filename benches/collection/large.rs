//! A cycle over ten million blobs, thirty million links and a million manifests.

use std::fs;
use std::num::NonZeroU32;
use std::time::Instant;

use quinistry::store::{Cycle, CycleReport, GcOptions, KeepAll, Store};

use crate::support::spread::verdict;
use crate::synthetic::{Size, Synthetic};

/// Most memory of a cycle, in megabytes.
const MAX_MEGABYTES: f64 = 128.0;

pub(crate) fn measure(share: f64) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "shares are small and positive"
    )]
    let scaled = |whole: f64| (whole * share).max(1.0) as u64;
    let size = Size {
        blobs: scaled(10_000_000.0).max(30_000),
        repositories: usize::try_from(scaled(1_000.0)).unwrap(),
    };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Synthetic::new(size, folder.path()), false).unwrap();
    for cycle in ["first cycle, which reads each manifest", "next cycle, which sweeps"] {
        let before = reset_high_water();
        let begin = Instant::now();
        let report = cycle_of(&store);
        let (took, most) = (begin.elapsed(), memory("VmHWM:"));
        println!(
            "{cycle}: {:.1} s, {:.0} MB above the {before:.0} MB of the store itself ({}); {} blobs, {} links, {} \
             manifests, {} condemned, {} removed",
            took.as_secs_f64(),
            most - before,
            verdict(most - before <= MAX_MEGABYTES),
            report.blobs.found,
            report.links.found,
            report.revisions.found,
            report.links.condemned + report.blobs.condemned,
            report.links.doomed + report.blobs.doomed,
        );
    }
}

fn cycle_of(store: &Store) -> CycleReport {
    let options =
        GcOptions { rate: NonZeroU32::MAX, grace: std::time::Duration::ZERO, ..GcOptions::default() };
    let lead = store.lead().expect("a folder has one process");
    match store.collect_online(&options, &KeepAll, &lead).unwrap() {
        Cycle::Done(report) => report,
        other => panic!("{other:?}"),
    }
}

/// Resets the high-water mark of resident memory, and returns what is resident now, in megabytes.
fn reset_high_water() -> f64 {
    // proc(5): 5 resets the peak of the resident set.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    memory("VmRSS:")
}

fn memory(line: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let text = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    text.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e6
}
