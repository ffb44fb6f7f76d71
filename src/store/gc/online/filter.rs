//! Filter of live bytes: a set that answers with errors to the safe side.
//!
//! A Bloom filter says of some absent members that they are there. Bytes that are garbage then stay for one
//! more cycle; the next one has another seed. Layers are added as the set grows, because the number of bytes
//! is not known before the mark has seen all repositories.

use std::hash::{BuildHasher as _, RandomState};

use super::subject::ContentId;

/// Bits per member, by which 0.3 % of the absent ones are said to be there.
const BITS_PER_MEMBER: u64 = 12;

/// Bits that a member sets: ln 2 × 12.
const BITS_SET: u64 = 8;

/// Least number of members of a layer.
const MIN_CAPACITY: u64 = 1 << 16;

/// Set of contents, of bounded length.
#[derive(Debug)]
pub(super) struct LiveFilter {
    layers: Vec<Layer>,
    /// Greatest length of all layers, in bytes.
    max_bytes: u64,
}

#[derive(Debug)]
struct Layer {
    words: Vec<u64>,
    seed: RandomState,
    capacity: u64,
    members: u64,
}

// === impl LiveFilter ===

impl LiveFilter {
    /// Creates a filter for a number of members, which may turn out to be greater.
    pub(super) fn new(expected: u64, max_bytes: u64) -> Self {
        let capacity = expected.max(MIN_CAPACITY).min(capacity_of(max_bytes));
        Self { layers: vec![Layer::new(capacity)], max_bytes }
    }

    pub(super) fn insert(&mut self, member: ContentId) {
        if self.contains(member) {
            return;
        }
        let last = self.layers.last().expect("a filter has a layer");
        if last.members >= last.capacity {
            let used: u64 = self.layers.iter().map(Layer::bytes).sum();
            let capacity = (2 * last.capacity).min(capacity_of(self.max_bytes.saturating_sub(used)));
            // A full filter errs more often, and always to the safe side.
            if capacity >= MIN_CAPACITY {
                self.layers.push(Layer::new(capacity));
            }
        }
        self.layers.last_mut().expect("a filter has a layer").insert(member);
    }

    pub(super) fn contains(&self, member: ContentId) -> bool {
        self.layers.iter().any(|layer| layer.contains(member))
    }
}

fn capacity_of(bytes: u64) -> u64 {
    (bytes * 8 / BITS_PER_MEMBER).max(64)
}

// === impl Layer ===

impl Layer {
    fn new(capacity: u64) -> Self {
        let words = usize::try_from((capacity * BITS_PER_MEMBER).div_ceil(64)).unwrap_or(usize::MAX / 64);
        Self { words: vec![0; words], seed: RandomState::new(), capacity, members: 0 }
    }

    fn bytes(&self) -> u64 {
        self.words.len() as u64 * 8
    }

    /// Returns the bits of a member, by two hashes (Kirsch and Mitzenmacher, 2006).
    fn bits(&self, member: ContentId) -> impl Iterator<Item = u64> + use<> {
        let (first, second) = (self.seed.hash_one((0_u8, member.0)), self.seed.hash_one((1_u8, member.0)));
        let length = self.words.len() as u64 * 64;
        (0..BITS_SET).map(move |number| first.wrapping_add(number.wrapping_mul(second | 1)) % length)
    }

    fn insert(&mut self, member: ContentId) {
        for bit in self.bits(member) {
            self.words[usize::try_from(bit / 64).expect("a bit of the filter")] |= 1 << (bit % 64);
        }
        self.members += 1;
    }

    fn contains(&self, member: ContentId) -> bool {
        let is_set = |bit: u64| {
            self.words[usize::try_from(bit / 64).expect("a bit of the filter")] >> (bit % 64) & 1 == 1
        };
        self.bits(member).all(is_set)
    }
}

#[cfg(test)]
mod tests {
    use quinistry_oci::Digest;

    use super::*;

    fn member(number: u32) -> ContentId {
        ContentId::of(&Digest::sha256(&number.to_le_bytes())).unwrap()
    }

    fn false_answers(filter: &LiveFilter, absent: std::ops::Range<u32>) -> usize {
        absent.filter(|number| filter.contains(member(*number))).count()
    }

    #[test]
    fn members_are_always_found_and_few_others() {
        let mut filter = LiveFilter::new(50_000, 1 << 20);
        (0..50_000).for_each(|number| filter.insert(member(number)));
        assert!((0..50_000).all(|number| filter.contains(member(number))));
        // Expected: 0.3 % of 20,000, which is 63.
        let wrong = false_answers(&filter, 100_000..120_000);
        assert!(wrong < 200, "{wrong} of 20,000");
    }

    #[test]
    fn a_filter_grows_within_its_bound_and_errs_more_beyond() {
        let mut filter = LiveFilter::new(0, 1 << 19);
        (0..150_000).for_each(|number| filter.insert(member(number)));
        assert!(filter.layers.len() > 1);
        assert!(filter.layers.iter().map(Layer::bytes).sum::<u64>() <= 1 << 19);
        let wrong = false_answers(&filter, 200_000..220_000);
        assert!(wrong < 400, "{wrong} of 20,000");
        let mut small = LiveFilter::new(0, 1024);
        (0..20_000).for_each(|number| small.insert(member(number)));
        assert!((0..20_000).all(|number| small.contains(member(number))));
    }

    #[test]
    fn two_filters_err_on_different_contents() {
        let full = || {
            let mut filter = LiveFilter::new(0, 4096);
            (0..4000).for_each(|number| filter.insert(member(number)));
            (10_000..20_000).filter(|number| filter.contains(member(*number))).collect::<Vec<_>>()
        };
        let (one, other) = (full(), full());
        assert!(!one.is_empty() && one != other);
    }
}
