//! Sizes of the parts of an upload.

/// Greatest number of parts of an upload on S3.
pub(super) const MAX_PARTS: u32 = 10_000;

/// Number of parts over which an upload of known length is spread, so that some are left.
const PLANNED_PARTS: u64 = 9_000;

const MIB: u64 = 1024 * 1024;

/// First parts that are longer, where the length of the upload is not known and parts may differ: number of
/// parts before, and factor.
const GROWTH: [(u32, u64); 2] = [(8_000, 16), (5_000, 4)];

/// Share of the memory for parts that one part may take, so that several uploads gather parts at the same time however
/// long they are.
const SHARE_OF_MEMORY: u64 = 4;

/// Sizes of the parts of an upload, which stay for its life. The last part may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartSizes {
    /// Size of the first part, in bytes.
    pub(super) first: u64,
    /// Greatest size of a part, in bytes. Parts grow up to this size.
    pub(super) greatest: u64,
}

impl PartSizes {
    /// Returns the greatest size of a part in a memory of this size. A part is never shorter than configured.
    pub(super) fn greatest(part_bytes: u64, memory_bytes: u64) -> u64 {
        part_bytes.max(memory_bytes / SHARE_OF_MEMORY)
    }

    /// Returns the sizes for an upload of this length. A part is not longer than `greatest`.
    pub(super) fn of_length(part_bytes: u64, length: u64, greatest: u64) -> Self {
        let needed = length.div_ceil(PLANNED_PARTS);
        let first = if needed <= part_bytes { part_bytes } else { needed.div_ceil(MIB) * MIB };
        let first = first.min(greatest);
        Self { first, greatest: first }
    }

    /// Returns the sizes for an upload of unknown length, which grow if parts may differ.
    pub(super) fn of_unknown_length(part_bytes: u64, may_differ: bool, greatest: u64) -> Self {
        let greatest = if may_differ { greatest.min(part_bytes * GROWTH[0].1) } else { part_bytes };
        Self { first: part_bytes, greatest: greatest.max(part_bytes) }
    }

    /// Returns the size of the part that follows `parts` parts; `None` if there is no further part.
    pub(super) fn after(self, parts: u32) -> Option<u64> {
        if parts >= MAX_PARTS {
            return None;
        }
        let factor = GROWTH.iter().find(|(before, _)| parts >= *before).map_or(1, |(_, factor)| *factor);
        Some(self.first.saturating_mul(factor).min(self.greatest))
    }

    /// Returns the number of bytes in the first `parts` parts.
    pub(super) fn total(self, parts: u32) -> u64 {
        (0..parts).map_while(|before| self.after(before)).sum()
    }

    /// Returns the most bytes of an upload.
    pub(super) fn max_bytes(self) -> u64 {
        self.total(MAX_PARTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_grows_takes_a_quarter_of_the_memory_at_most() {
        assert_eq!(PartSizes::greatest(10 * MIB, 256 * MIB), 64 * MIB);
        assert_eq!(PartSizes::greatest(10 * MIB, 10 * MIB), 10 * MIB);
        let growing = PartSizes::of_unknown_length(10 * MIB, true, 64 * MIB);
        let sizes = [4_999, 5_000, 8_000].map(|parts| growing.after(parts).unwrap() / MIB);
        assert_eq!(sizes, [10, 40, 64]);
        assert_eq!(growing.max_bytes(), 298_000 * MIB);
        let fixed = PartSizes::of_unknown_length(10 * MIB, true, 10 * MIB);
        assert_eq!(fixed.max_bytes(), 100_000 * MIB);
    }

    #[test]
    fn parts_of_a_known_length_are_at_most_nine_thousand() {
        let sizes = |length| PartSizes::of_length(10 * MIB, length, 256 * MIB);
        for (length, first) in
            [(0, 10), (1 << 30, 10), (90_000 * MIB, 10), (90_001 * MIB, 11), (1 << 40, 117)]
        {
            assert_eq!(sizes(length).first, first * MIB, "{length}");
            assert!(sizes(length).max_bytes() >= length, "{length}");
        }
        assert_eq!(sizes(1 << 50).first, 256 * MIB, "a part fits into the memory");
    }

    #[test]
    fn parts_of_an_unknown_length_grow_where_they_may_differ() {
        let equal = PartSizes::of_unknown_length(10 * MIB, false, 256 * MIB);
        assert_eq!([0, 5_000, 9_999].map(|parts| equal.after(parts)), [Some(10 * MIB); 3]);
        assert_eq!(equal.after(10_000), None);
        assert_eq!(equal.max_bytes(), 100_000 * MIB);
        let growing = PartSizes::of_unknown_length(10 * MIB, true, 256 * MIB);
        let sizes = [0, 4_999, 5_000, 7_999, 8_000, 9_999].map(|parts| growing.after(parts).unwrap() / MIB);
        assert_eq!(sizes, [10, 10, 40, 40, 160, 160]);
        assert_eq!(growing.total(5_001), 50_040 * MIB);
        let limited = PartSizes::of_unknown_length(10 * MIB, true, 20 * MIB);
        assert_eq!(limited.after(9_000), Some(20 * MIB));
    }
}
