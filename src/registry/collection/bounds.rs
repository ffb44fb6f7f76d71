//! Bounds of what can be set about collection.

use std::time::Duration;

use quinistry_store::Writers;

/// Least time of grace: a push that has asked about a blob may take that long until its manifest is there.
const MIN_GRACE: Duration = Duration::from_mins(10);

/// Least time of grace beside other programs, which ask about a blob without holding it.
const MIN_GRACE_BESIDE_OTHERS: Duration = Duration::from_hours(24);

/// Time for which removed bytes can be put back beside other programs.
pub(crate) const TRASH_BESIDE_OTHERS: Duration = Duration::from_hours(48);

/// Least memory of a cycle, in bytes: pages of lists, and parts of one repository.
pub(crate) const MIN_MEMORY_BYTES: u64 = 16 << 20;

/// Age below which content stays, since it may belong to a push that has not ended.
const MIN_AGE: Duration = Duration::from_hours(1);

/// Returns the least time of grace.
pub(crate) fn min_grace(writers: Writers) -> Duration {
    shortened().unwrap_or(match writers {
        Writers::Ours => MIN_GRACE,
        Writers::Foreign => MIN_GRACE_BESIDE_OTHERS,
    })
}

/// Returns the age below which content stays.
pub(crate) fn min_age() -> Duration {
    shortened().unwrap_or(MIN_AGE)
}

/// Returns the time that a test sets in place of both, and of the times of stores that keep named images.
///
/// A test of the program would have to wait for hours. Debug builds, and those with the feature `failpoints`,
/// take a number of seconds from `QUINISTRY_GC_MIN_GRACE`; the program that is released has no way around the
/// bounds.
pub(crate) fn shortened() -> Option<Duration> {
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    return std::env::var("QUINISTRY_GC_MIN_GRACE").ok()?.parse().ok().map(Duration::from_secs);
    #[cfg(not(any(debug_assertions, feature = "failpoints")))]
    None
}
