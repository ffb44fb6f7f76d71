//! Times as text. Pure.

use std::time::SystemTime;

use jiff::Timestamp;

/// Formats a time by RFC 3339, in UTC and whole seconds. Times that RFC 3339 cannot write become its last one.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}
