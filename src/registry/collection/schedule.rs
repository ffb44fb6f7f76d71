//! Times at which cycles begin. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quinistry_store::CycleReport;

use super::settings::CollectionSettings;

/// Pause after the first failure; each further one in a row doubles it.
const FIRST_PAUSE: Duration = Duration::from_mins(1);

/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// Times of the last cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastCycle {
    /// Begin of the mark.
    pub(super) begin: SystemTime,
    /// End of the cycle, from which on the time of grace is counted.
    pub(super) end: SystemTime,
    /// True if the cycle left something for one that follows as soon as possible.
    pub(super) has_more: bool,
}

// === impl LastCycle ===

impl From<&CycleReport> for LastCycle {
    fn from(report: &CycleReport) -> Self {
        let time = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
        // The report has no fractions of a second, and is written a moment before the grace begins. A cycle
        // that begins too early has to wait, after the work before it was done for nothing.
        let end = time(report.ended.saturating_add(2));
        Self { begin: time(report.begun), end, has_more: report.has_more }
    }
}

/// Returns the time until the next cycle may begin: zero if it may at once.
pub(super) fn wait(settings: &CollectionSettings, last: Option<LastCycle>, now: SystemTime) -> Duration {
    let wait = last.map_or(Duration::ZERO, |last| {
        let interval = if last.has_more { Duration::ZERO } else { left(settings.interval, last.begin, now) };
        // An earlier cycle would have to wait, after the work before it was done for nothing.
        interval.max(grace_left(settings, Some(last), now))
    });
    let begin = now.checked_add(wait).unwrap_or(now);
    wait + settings.window.map_or(Duration::ZERO, |window| window.wait(begin))
}

/// Returns the time until the grace of the last cycle has ended: zero if nothing waits for it.
pub(super) fn grace_left(
    settings: &CollectionSettings,
    last: Option<LastCycle>,
    now: SystemTime,
) -> Duration {
    let last = last.filter(|_| !settings.dry_run);
    last.map_or(Duration::ZERO, |last| left(settings.grace, last.end, now))
}

fn left(of: Duration, since: SystemTime, now: SystemTime) -> Duration {
    // A time in the future is that of a clock that was wrong.
    of.saturating_sub(now.duration_since(since).unwrap_or_default())
}

/// Returns the pause after as many failures in a row.
pub(super) fn pause(failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use quinistry_store::Writers;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// Midnight of some day.
    fn midnight() -> SystemTime {
        UNIX_EPOCH + 24 * 20_000 * HOUR
    }

    /// Returns the wait in hours, for an interval of 12 hours and a grace of 6.
    fn hours(window: Option<&str>, last: Option<LastCycle>, now: u32, dry_run: bool) -> u64 {
        let settings = CollectionSettings {
            window: window.map(|text| text.parse().unwrap()),
            grace: 6 * HOUR,
            dry_run,
            ..CollectionSettings::of(Writers::Ours)
        };
        wait(&settings, last, midnight() + now * HOUR).as_secs() / 3600
    }

    fn cycle(begin: u32, end: u32, has_more: bool) -> LastCycle {
        LastCycle { begin: midnight() + begin * HOUR, end: midnight() + end * HOUR, has_more }
    }

    #[test]
    fn a_cycle_begins_no_fraction_of_a_second_before_the_end_of_the_grace() {
        let report = CycleReport { begun: 1_000, ended: 2_000, ..CycleReport::default() };
        let settings = CollectionSettings {
            interval: Duration::from_mins(10),
            grace: Duration::from_mins(10),
            ..CollectionSettings::of(Writers::Ours)
        };
        // The latest end of a cycle that the report shows as 2,000.
        let ended = UNIX_EPOCH + Duration::from_millis(2_000_999);
        let begin = ended + wait(&settings, Some(LastCycle::from(&report)), ended);
        assert!(begin >= ended + settings.grace);
    }

    #[test]
    fn a_cycle_begins_an_interval_after_the_last_one_and_inside_the_window() {
        for (window, last, now, expected) in [
            (None, None, 0, 0),
            (None, Some(cycle(0, 0, false)), 5, 7),
            (None, Some(cycle(0, 0, false)), 12, 0),
            (None, Some(cycle(0, 0, false)), 100, 0),
            (None, Some(cycle(9, 9, false)), 8, 12),
            (Some("01:00-06:00"), None, 0, 1),
            (Some("01:00-06:00"), None, 2, 0),
            // The interval ends at 13 o'clock, outside of the window.
            (Some("01:00-06:00"), Some(cycle(1, 1, false)), 3, 22),
        ] {
            assert_eq!(hours(window, last, now, false), expected, "{window:?}, {last:?}, now {now}");
        }
    }

    #[test]
    fn a_cycle_begins_when_the_grace_of_the_last_one_has_passed() {
        assert_eq!(hours(None, Some(cycle(0, 10, false)), 12, false), 4);
        assert_eq!(hours(None, Some(cycle(0, 10, false)), 12, true), 0);
        assert_eq!(hours(None, Some(cycle(0, 1, true)), 2, false), 5);
    }

    #[test]
    fn pauses_after_failures_double_up_to_an_hour() {
        let minutes = [1, 2, 3, 6, 7, 8, 31, 33, u32::MAX].map(|failures| pause(failures).as_secs() / 60);
        assert_eq!(minutes, [1, 2, 4, 32, 60, 60, 60, 60, 60]);
    }
}
