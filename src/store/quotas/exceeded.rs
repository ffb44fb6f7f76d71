//! Refusal by a quota, in words for clients.

use std::fmt;

use quinistry_oci::escape::Escaped;

/// Units of bytes, the greatest first.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("bytes", 1)];

/// Refusal of a change that would exceed a quota.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct QuotaExceeded {
    quota: String,
    is_of_bytes: bool,
    limit: u64,
    used: u64,
    asked: u64,
}

// === impl QuotaExceeded ===

impl QuotaExceeded {
    pub(super) const fn bytes(quota: String, limit: u64, used: u64, asked: u64) -> Self {
        Self { quota, is_of_bytes: true, limit, used, asked }
    }

    pub(super) const fn tags(quota: String, limit: u64, used: u64, asked: u64) -> Self {
        Self { quota, is_of_bytes: false, limit, used, asked }
    }
}

impl fmt::Display for QuotaExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quota, is_of_bytes, limit, used, asked } = self;
        write!(f, "quota of {} exceeded: ", Escaped(quota))?;
        if !is_of_bytes {
            return write!(f, "{used} of {limit} tags used, {asked} more needed");
        }
        let unit = unit_of(*limit);
        let asked_unit = unit_of(*asked);
        write!(
            f,
            "{} of {} {} used, {} {} more needed",
            in_unit(*used, unit),
            in_unit(*limit, unit),
            unit.0,
            in_unit(*asked, asked_unit),
            asked_unit.0
        )
    }
}

/// Returns the greatest unit that a number of bytes has.
fn unit_of(bytes: u64) -> (&'static str, u64) {
    UNITS.into_iter().find(|(_, unit)| bytes >= *unit).unwrap_or(UNITS[4])
}

/// Writes a number of bytes in a unit, with one decimal unless it is 0.
fn in_unit(bytes: u64, (_, unit): (&str, u64)) -> String {
    let tenths = u128::from(bytes) * 10 / u128::from(unit);
    match tenths % 10 {
        0 => (tenths / 10).to_string(),
        decimal => format!("{}.{decimal}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_is_used_and_what_is_asked_for() {
        let gib = |tenths: u64| (tenths << 30) / 10;
        let cases = [
            (
                QuotaExceeded::bytes("team-a/**".into(), 500 << 30, gib(4982) + 1, gib(31) + 1),
                "quota of team-a/** exceeded: 498.2 of 500 GiB used, 3.1 GiB more needed",
            ),
            (
                QuotaExceeded::bytes("a".into(), 1536, 0, 2047),
                "quota of a exceeded: 0 of 1.5 KiB used, 1.9 KiB more needed",
            ),
            (
                QuotaExceeded::bytes("a".into(), 0, 5, 1),
                "quota of a exceeded: 5 of 0 bytes used, 1 bytes more needed",
            ),
            (
                QuotaExceeded::bytes("a".into(), u64::MAX, u64::MAX, u64::MAX),
                "quota of a exceeded: 16777215.9 of 16777215.9 TiB used, 16777215.9 TiB more needed",
            ),
            (
                QuotaExceeded::tags("a".into(), 10_000, 9_999, 2),
                "quota of a exceeded: 9999 of 10000 tags used, 2 more needed",
            ),
        ];
        for (refusal, text) in cases {
            assert_eq!(refusal.to_string(), text);
        }
    }
}
