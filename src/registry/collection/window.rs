//! Time of the day in which cycles of collection begin. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Length of a day in minutes.
const DAY_MINUTES: u64 = 24 * 60;

/// Time of each day, in UTC. It may go past midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DailyWindow {
    /// Begin, in minutes since midnight.
    begin: u64,
    /// End, in minutes since midnight: less than the begin if the window goes past midnight.
    end: u64,
}

/// Reason why a text is not a time of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DailyWindowError {
    /// The text has another form.
    #[error("is not a time of the day, such as 01:00-06:00 or 22:30-04:00")]
    Form,
    /// Begin and end are the same.
    #[error("has the same begin and end; remove the key for the whole day")]
    Empty,
}

// === impl DailyWindow ===

impl DailyWindow {
    /// Returns the time until the window opens: zero while it is open.
    #[must_use]
    pub fn wait(&self, now: SystemTime) -> Duration {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let day = Duration::from_mins(DAY_MINUTES);
        let passed = Duration::from_secs(since.as_secs() % day.as_secs());
        let (begin, end) = (Duration::from_mins(self.begin), Duration::from_mins(self.end));
        let is_open =
            if begin < end { passed >= begin && passed < end } else { passed >= begin || passed < end };
        match begin.checked_sub(passed) {
            _ if is_open => Duration::ZERO,
            Some(wait) => wait,
            None => begin + day.saturating_sub(passed),
        }
    }
}

impl FromStr for DailyWindow {
    type Err = DailyWindowError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (begin, end) = text.split_once('-').ok_or(DailyWindowError::Form)?;
        let minutes = |text: &str| minutes(text.trim()).ok_or(DailyWindowError::Form);
        let (begin, end) = (minutes(begin)?, minutes(end)?);
        if begin == end {
            return Err(DailyWindowError::Empty);
        }
        if begin == DAY_MINUTES {
            return Err(DailyWindowError::Form);
        }
        Ok(Self { begin, end })
    }
}

impl fmt::Display for DailyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { begin, end } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", begin / 60, begin % 60, end / 60, end % 60)
    }
}

/// Parses hours and minutes of two digits each, up to 24:00.
fn minutes(text: &str) -> Option<u64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| is_number)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    Some(hours * 60 + minutes).filter(|all| minutes < 60 && *all <= DAY_MINUTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the wait in minutes at a time of some day.
    fn wait(window: &str, hours: u64, minutes: u64) -> u64 {
        let now = UNIX_EPOCH + Duration::from_mins(20_000 * DAY_MINUTES + hours * 60 + minutes);
        window.parse::<DailyWindow>().unwrap().wait(now).as_secs() / 60
    }

    #[test]
    fn a_window_is_open_from_its_begin_to_its_end() {
        for (window, hours, minutes, expected) in [
            ("01:00-06:00", 0, 59, 1),
            ("01:00-06:00", 1, 0, 0),
            ("01:00-06:00", 5, 59, 0),
            ("01:00-06:00", 6, 0, 19 * 60),
            ("22:30-04:00", 23, 0, 0),
            ("22:30-04:00", 0, 0, 0),
            ("22:30-04:00", 4, 0, 18 * 60 + 30),
            ("00:00-24:00", 23, 59, 0),
        ] {
            assert_eq!(wait(window, hours, minutes), expected, "{window} at {hours}:{minutes}");
        }
    }

    #[test]
    fn a_window_is_two_times_of_two_digits() {
        let read = |text: &str| text.parse::<DailyWindow>().map(|window| window.to_string());
        assert_eq!(read("01:00 - 06:00"), Ok("01:00-06:00".into()));
        for text in [
            "",
            "01:00",
            "1:00-6:00",
            "01:00-25:00",
            "01:60-02:00",
            "24:01-01:00",
            "24:00-01:00",
            "+1:00-02:00",
        ] {
            assert_eq!(read(text), Err(DailyWindowError::Form), "{text}");
        }
        assert_eq!(read("01:00-01:00"), Err(DailyWindowError::Empty));
    }
}
