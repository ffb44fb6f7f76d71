//! Scalars of YAML 1.1 and durations of Go, as distribution reads them. Pure.

use std::time::Duration;

/// Most nanoseconds of a duration: Go's `time.Duration` is a signed integer of 64 bits.
const MAX_NANOSECONDS: u128 = i64::MAX as u128;

/// Duration as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrittenDuration {
    pub(super) duration: Duration,
    /// True if it was a number without a unit, which Go takes as nanoseconds.
    pub(super) lacks_unit: bool,
}

/// Parses a boolean of YAML 1.1: true and false, yes and no, on and off, y and n.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Some(false),
        _ => None,
    }
}

/// Parses an integer of YAML 1.1: decimal, `0x`, `0o`, `0b`, octal with a leading zero, with underscores.
pub(super) fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.replace('_', "");
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some(start) if start.starts_with('0') => (8, &digits[1..]),
        _ => (10, &*digits),
    };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// Parses a duration by the grammar of Go's `time.ParseDuration`, or a number of nanoseconds.
pub(super) fn duration(text: &str) -> Result<WrittenDuration, String> {
    const ADVICE: &str = "write it like 30s, 1h30m or 1.5s";
    if text.starts_with('-') && text.len() > 1 {
        return Err("must not be negative".into());
    }
    let rest = text.strip_prefix('+').unwrap_or(text);
    if let Some(nanoseconds) = integer(rest).and_then(|number| u64::try_from(number).ok()) {
        let duration = Duration::from_nanos(nanoseconds);
        return Ok(WrittenDuration { duration, lacks_unit: nanoseconds != 0 });
    }
    let (mut rest, mut total) = (rest, 0_u128);
    if rest.is_empty() {
        return Err(format!("is not a duration; {ADVICE}"));
    }
    while !rest.is_empty() {
        let (nanoseconds, after) = component(rest).ok_or_else(|| format!("is not a duration; {ADVICE}"))?;
        total += nanoseconds;
        if total > MAX_NANOSECONDS {
            return Err("is longer than 292 years".into());
        }
        rest = after;
    }
    let nanoseconds = u64::try_from(total).map_err(|_| "is longer than 292 years".to_owned())?;
    Ok(WrittenDuration { duration: Duration::from_nanos(nanoseconds), lacks_unit: false })
}

/// Parses a number with its unit; returns the nanoseconds and the rest.
fn component(text: &str) -> Option<(u128, &str)> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let (number, rest) = text.split_at(text.find(|c| !is_number(c))?);
    let (unit, rest) = rest.split_at(rest.find(is_number).unwrap_or(rest.len()));
    let unit: u128 = match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    // More digits than Go's integer has are an overflow there; the caller refuses the sum.
    let whole: u128 = if whole.is_empty() {
        0
    } else if whole.trim_start_matches('0').len() > 19 {
        MAX_NANOSECONDS + 1
    } else {
        whole.parse().ok()?
    };
    let mut total = whole.saturating_mul(unit).min(MAX_NANOSECONDS + 1);
    let mut scale = unit;
    for digit in fraction.bytes() {
        scale /= 10;
        total += u128::from(digit - b'0') * scale;
    }
    Some((total, rest))
}

/// Reads a number of bytes: a whole number, and `KiB`, `MiB` or `GiB` if there is a unit.
pub(super) fn size(text: &str) -> Option<u64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)];
    let (number, shift) = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanoseconds(text: &str) -> Option<u128> {
        duration(text).ok().map(|written| written.duration.as_nanos())
    }

    #[test]
    fn a_size_has_a_binary_unit_or_none() {
        for (text, bytes) in
            [("0", 0), ("65536", 65_536), ("64KiB", 65_536), ("256MiB", 256 << 20), ("1GiB", 1 << 30)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "-1", "+1", "64 KiB", "64kb", "1.5MiB", "99999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_have_gos_grammar() {
        for (text, expected) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("300ms", Some(300_000_000)),
            ("1\u{b5}s", Some(1_000)),
            ("1\u{3bc}s", Some(1_000)),
            (".5s", Some(500_000_000)),
            ("5.s", Some(5_000_000_000)),
            ("168h", Some(604_800_000_000_000)),
            ("+1m", Some(60_000_000_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("5", Some(5)),
            ("5 s", None),
            ("-1h", None),
            ("1e9h", None),
            ("1d", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("", None),
            ("h1", None),
            ("9223372036854775807ns", Some(9_223_372_036_854_775_807)),
            ("9223372036854775808ns", None),
            ("99999999999999999999999999999999999999999999h", None),
            ("2562047h47m16.854775807s", Some(9_223_372_036_854_775_807)),
            ("2562048h", None),
        ] {
            assert_eq!(nanoseconds(text), expected, "{text}");
        }
    }

    #[test]
    fn only_a_number_without_a_unit_is_told() {
        for (text, expected) in [("5", true), ("0", false), ("5s", false), ("5ns", false)] {
            assert_eq!(duration(text).unwrap().lacks_unit, expected, "{text}");
        }
    }

    #[test]
    fn scalars_are_those_of_yaml_1_1() {
        assert_eq!(["yes", "On", "y", "TRUE"].map(boolean), [Some(true); 4]);
        assert_eq!(["no", "Off", "N", "false"].map(boolean), [Some(false); 4]);
        assert_eq!(["tRue", "1", "", "enabled"].map(boolean), [None; 4]);
        let integers =
            ["010", "0x10", "0b101", "1_000", "-5", "+7", "0o17", "0", "08", "+-5", "", "1.5", "-"];
        let expected = [
            Some(8),
            Some(16),
            Some(5),
            Some(1000),
            Some(-5),
            Some(7),
            Some(15),
            Some(0),
            None,
            None,
            None,
            None,
            None,
        ];
        assert_eq!(integers.map(integer), expected);
    }
}
