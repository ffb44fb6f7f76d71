//! Parser of the `Range` request header, for one representation of known length (RFC 9110, section 14). Pure.

use std::ops::Range;

/// Most ranges that one response sends; a request for more gets the whole content. No client asks for so
/// many, and each costs a part header.
const MAX_RANGES_PER_REQUEST: usize = 16;

/// Part of the content to send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RangeSelection {
    /// Everything, with status 200.
    Whole,
    /// One range, with status 206.
    One(Range<u64>),
    /// Several ranges in the requested order, with status 206 and as `multipart/byteranges`.
    Many(Vec<Range<u64>>),
    /// No existing byte, with status 416.
    Unsatisfiable,
}

/// Selects the part of content of `total` bytes that a `Range` header asks for.
pub(crate) fn select(header: &str, total: u64) -> RangeSelection {
    // An unknown unit, or a header that is not a range set, is ignored (RFC 9110, 14.2).
    let Some((unit, set)) = header.split_once('=') else { return RangeSelection::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return RangeSelection::Whole;
    }
    let mut ranges = Vec::new();
    for (count, spec) in set.split(',').enumerate() {
        if count == MAX_RANGES_PER_REQUEST {
            return RangeSelection::Whole;
        }
        match parse(spec.trim(), total) {
            Spec::Bytes(range) => ranges.push(range),
            Spec::Outside => {}
            Spec::Malformed => return RangeSelection::Whole,
        }
    }
    // Ranges that add up to more than the whole only multiply the server's work (as in CVE-2011-3192).
    let wanted: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    match ranges.len() {
        0 => RangeSelection::Unsatisfiable,
        1 => RangeSelection::One(ranges.remove(0)),
        _ if wanted > total => RangeSelection::Whole,
        _ => RangeSelection::Many(ranges),
    }
}

enum Spec {
    Bytes(Range<u64>),
    Outside,
    Malformed,
}

/// Parses `first-last`, `first-` or `-length`.
fn parse(spec: &str, total: u64) -> Spec {
    let Some((first, last)) = spec.split_once('-') else { return Spec::Malformed };
    let range = match (first, last) {
        ("", length) => match number(length) {
            Some(length) => total.saturating_sub(length)..total,
            None => return Spec::Malformed,
        },
        (first, "") => match number(first) {
            Some(first) => first..total,
            None => return Spec::Malformed,
        },
        (first, last) => match (number(first), number(last)) {
            // `500-0` is malformed by the RFC; clients and the conformance suite expect 416.
            (Some(first), Some(last)) => first..last.saturating_add(1).min(total),
            _ => return Spec::Malformed,
        },
    };
    if range.start < range.end { Spec::Bytes(range) } else { Spec::Outside }
}

/// Parses digits only. A number that does not fit saturates, since it lies beyond any end.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_one_range() {
        for (header, range) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-", 2..10),
            ("bytes=-3", 7..10),
            ("bytes=-99", 0..10),
            ("bytes=3-99", 3..10),
            ("bytes=0-99999999999999999999999", 0..10),
            ("Bytes= 4-5 ", 4..6),
            ("bytes=0-1,50-60", 0..2),
        ] {
            assert_eq!(select(header, 10), RangeSelection::One(range), "{header}");
        }
    }

    #[test]
    fn selects_many_ranges_in_their_order() {
        assert_eq!(select("bytes=5-6,0-1", 10), RangeSelection::Many(vec![5..7, 0..2]));
    }

    #[test]
    fn ranges_outside_the_content_are_unsatisfiable() {
        for header in ["bytes=10-", "bytes=10-20", "bytes=5-0", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(select(header, 10), RangeSelection::Unsatisfiable, "{header}");
        }
        assert_eq!(select("bytes=0-", 0), RangeSelection::Unsatisfiable);
    }

    #[test]
    fn ignores_malformed_ranges() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=a-b",
            "bytes=1",
            "lines=0-1",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=0x1-2",
        ] {
            assert_eq!(select(header, 10), RangeSelection::Whole, "{header}");
        }
    }

    #[test]
    fn a_flood_of_ranges_gets_the_whole_once() {
        assert_eq!(select(&format!("bytes={}", ["0-0"; 1000].join(",")), 10), RangeSelection::Whole);
        assert_eq!(select("bytes=0-,0-,0-", 10), RangeSelection::Whole);
    }
}
