//! Times by which the names decide about images. A test sets shorter ones as it does for the grace of collection.

use std::time::Duration;

use crate::collection::shortened;

/// Least time between a change of the names and the removal of what was pushed before it and is not named.
/// Images that are loaded on a Friday evening are named on Monday morning.
const NAMES_GRACE: Duration = Duration::from_hours(72);

/// Least time between two noted changes, which bounds their number. One that is not noted decides nothing.
const CHANGES_APART: Duration = Duration::from_hours(1);

/// Time by which the clock of the storage, which dates pushes, may be behind that of this machine, which dates changes of
/// the names.
const CLOCK_TOLERANCE: Duration = Duration::from_hours(1);

/// Returns the least time between a change of the names and the removals that follow from it.
pub(super) fn names_grace() -> Duration {
    shortened().unwrap_or(NAMES_GRACE)
}

/// Returns the least time between two noted changes.
pub(super) fn changes_apart() -> Duration {
    shortened().map_or(CHANGES_APART, |_| Duration::ZERO)
}

/// Returns the time by which the clock of the storage may be behind.
pub(super) fn clock_tolerance() -> Duration {
    shortened().map_or(CLOCK_TOLERANCE, |_| Duration::ZERO)
}
