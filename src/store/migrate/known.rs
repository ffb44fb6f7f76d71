//! Sets of digests in eight bytes each.

use std::collections::HashSet;

use quinistry_oci::Digest;

/// Set of digests, of which the first 64 bits are kept: two digests of one registry with the same ones are as
/// likely as a damaged disk, and would only leave a blob to the next pass.
#[derive(Debug, Default)]
pub(super) struct KnownDigests {
    /// Digests in order.
    listed: Vec<u64>,
    /// Digests that were added since.
    late: HashSet<u64>,
}

// === impl KnownDigests ===

impl KnownDigests {
    /// Makes a set of digests in any order.
    pub(super) fn of(mut listed: Vec<u64>) -> Self {
        listed.sort_unstable();
        Self { listed, late: HashSet::new() }
    }

    pub(super) fn contains(&self, digest: &Digest) -> bool {
        let begin = beginning(digest);
        self.late.contains(&begin) || self.listed.binary_search(&begin).is_ok()
    }

    pub(super) fn insert(&mut self, digest: &Digest) {
        self.late.insert(beginning(digest));
    }
}

/// Returns the first 64 bits of a digest.
pub(super) fn beginning(digest: &Digest) -> u64 {
    u64::from_str_radix(&digest.hex()[..16], 16).expect("a digest is hexadecimal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_however_they_were_added() {
        let digests = [1, 2, 3, 4].map(|byte| Digest::sha256(&[byte]));
        let mut known = KnownDigests::of(digests[..2].iter().map(beginning).collect());
        known.insert(&digests[2]);
        assert_eq!(digests.map(|digest| known.contains(&digest)), [true, true, true, false]);
    }
}
