//! Time until a key expires.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

/// Time such as `90d`, `12h`, `30m` or `45s`, longer than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    seconds: i64,
}

/// Returns the time of now, in whole seconds.
pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

// === impl Lifetime ===

impl Lifetime {
    /// Returns the time at which a lifetime that begins at `now` ends.
    pub(super) fn end(self, now: Timestamp) -> anyhow::Result<Timestamp> {
        now.checked_add(SignedDuration::from_secs(self.seconds))
            .map_err(|_| anyhow::anyhow!("the key would expire after the year 9999"))
    }
}

impl FromStr for Lifetime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = "is not a time such as 90d, 12h, 30m or 45s";
        let unit = text.char_indices().next_back().ok_or(error)?;
        let seconds = match unit.1 {
            'd' => 24 * 60 * 60,
            'h' => 60 * 60,
            'm' => 60,
            's' => 1,
            _ => return Err(error),
        };
        let digits = &text[..unit.0];
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error);
        }
        let number: i64 = digits.parse().map_err(|_| error)?;
        match number.checked_mul(seconds) {
            Some(seconds @ 1..) => Ok(Self { seconds }),
            _ => Err("is not longer than 0, or too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_with_a_unit() {
        let seconds = |text: &str| text.parse::<Lifetime>().map(|lifetime| lifetime.seconds);
        assert_eq!(seconds("90d"), Ok(7_776_000));
        assert_eq!((seconds("12h"), seconds("30m"), seconds("1s")), (Ok(43_200), Ok(1800), Ok(1)));
        for text in ["", "d", "90", "0d", "-1d", "+1d", "1.5h", "1 d", "1w", "\u{e9}", "9223372036854775807d"]
        {
            assert!(seconds(text).is_err(), "{text}");
        }
        let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let end = |text: &str| text.parse::<Lifetime>().unwrap().end(begin).map(|end| end.to_string());
        assert_eq!(end("31d").unwrap(), "2026-02-01T00:00:00Z");
        assert!(end("9999999d").is_err());
    }
}
