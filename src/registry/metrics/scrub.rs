//! Metrics of the scrub.

use quinistry_http::metrics::Exposition;
use quinistry_store::ScrubStatistics;

/// Parts of a round.
const SHARDS: u64 = 257;

/// Writes the numbers about the scrub.
pub(super) fn write(page: &mut Exposition, statistics: &ScrubStatistics) {
    let ScrubStatistics { checked, read_bytes, damaged, misread, missing, healed, failed, position } =
        *statistics;
    for (name, help, value) in [
        ("quinistry_scrub_checked_total", "Blobs and manifests that were checked.", checked),
        ("quinistry_scrub_read_bytes_total", "Bytes that were read to check them.", read_bytes),
        ("quinistry_scrub_damaged_total", "Contents that were found damaged by two reads.", damaged),
        (
            "quinistry_scrub_misread_total",
            "Contents whose first read was wrong, and the second right.",
            misread,
        ),
        ("quinistry_scrub_missing_total", "Links that were found without their bytes.", missing),
        ("quinistry_scrub_healed_total", "Contents that were replaced from another source.", healed),
        ("quinistry_scrub_failures_total", "Checks that the storage failed.", failed),
    ] {
        page.counter(name, help, value);
    }
    page.gauge(
        "quinistry_scrub_round_percent",
        "Part of the present round that is done.",
        position * 100 / SHARDS,
    );
}
