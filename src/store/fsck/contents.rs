//! Table of stored bytes: digests in their order, with lengths and marks, in bounded memory.
//!
//! A storage may hold more content than fits. The table then holds a window of the digests, and the
//! examination passes over the storage once for each window. Digests are told apart by a short form in the
//! same order.

use quinistry_oci::{Algorithm, Digest};

/// Memory of one entry, in bytes.
const ENTRY_BYTES: usize = size_of::<u128>() + size_of::<u64>() + size_of::<u8>();

/// Mark of bytes to which a link leads.
const LINKED: u8 = 1;

/// Mark of bytes that do not have their digest.
const DAMAGED: u8 = 2;

/// Window of the table.
#[derive(Debug, Default)]
pub(super) struct Contents {
    forms: Vec<u128>,
    lengths: Vec<u64>,
    marks: Vec<u8>,
    /// Digests up to this one were in former windows.
    behind: Option<u128>,
    /// Digests follow that are not in the window.
    has_more: bool,
    capacity: usize,
}

/// Entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// Bytes of this length.
    Found {
        /// Number of bytes.
        length: u64,
        /// The bytes do not have their digest.
        is_damaged: bool,
    },
    /// No bytes.
    Absent,
    /// Another pass tells.
    OtherWindow,
}

/// Returns the short form of a digest: its first 96 bits, by which short forms have the order of digests, and
/// a sum of the others, so that a digest with a flipped bit has another one.
pub(super) fn short_form(digest: &Digest) -> u128 {
    let word = |at: usize| {
        let digits = digest.hex().get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).expect("a digest is hexadecimal"))
    };
    let begin = (0..3).filter_map(word).fold(0, |form, word| form << 32 | u128::from(word));
    let sum = (3..).map_while(word).fold(0_u32, |sum, word| sum.rotate_left(5) ^ word);
    begin << 32 | u128::from(sum)
}

// === impl Contents ===

impl Contents {
    pub(super) fn new(memory_bytes: usize) -> Self {
        Self { capacity: (memory_bytes / ENTRY_BYTES).max(1), ..Self::default() }
    }

    /// Adds bytes; digests come in their order. Returns false if they are not in the window.
    pub(super) fn add(&mut self, digest: &Digest, length: u64) -> bool {
        let form = short_form(digest);
        let last = self.forms.last().copied().or(self.behind);
        if self.has_more || last.is_some_and(|last| form <= last) {
            return false;
        }
        if self.forms.len() == self.capacity {
            self.has_more = true;
            return false;
        }
        self.forms.push(form);
        self.lengths.push(length);
        self.marks.push(0);
        true
    }

    pub(super) fn look_up(&self, canonical: &Digest) -> Stored {
        let form = short_form(canonical);
        match self.forms.binary_search(&form) {
            Ok(at) => Stored::Found { length: self.lengths[at], is_damaged: self.marks[at] & DAMAGED != 0 },
            Err(at) => {
                let is_behind = self.behind.is_some_and(|behind| form <= behind);
                let is_beyond = self.has_more && at == self.forms.len();
                if is_behind || is_beyond { Stored::OtherWindow } else { Stored::Absent }
            }
        }
    }

    pub(super) fn mark_linked(&mut self, canonical: &Digest) {
        self.mark(canonical, LINKED);
    }

    /// Marks the bytes to which a link leads by its name. The name of content by another hash does not tell
    /// them.
    pub(super) fn mark_linked_by_name(&mut self, digest: &Digest) {
        if digest.algorithm() == Algorithm::Sha256 {
            self.mark_linked(digest);
        }
    }

    pub(super) fn mark_damaged(&mut self, canonical: &Digest) {
        self.mark(canonical, DAMAGED);
    }

    fn mark(&mut self, canonical: &Digest, mark: u8) {
        if let Ok(at) = self.forms.binary_search(&short_form(canonical)) {
            self.marks[at] |= mark;
        }
    }

    /// Returns true if the window has the bytes, and no link leads to them.
    pub(super) fn is_unlinked(&self, canonical: &Digest) -> bool {
        let found = self.forms.binary_search(&short_form(canonical));
        found.is_ok_and(|at| self.marks[at] & LINKED == 0)
    }

    pub(super) fn has_unlinked(&self) -> bool {
        self.marks.iter().any(|marks| marks & LINKED == 0)
    }

    /// Begins the next window. Returns false if there is none.
    pub(super) fn next_window(&mut self) -> bool {
        if !self.has_more {
            return false;
        }
        self.behind = self.forms.last().copied();
        self.forms.clear();
        self.lengths.clear();
        self.marks.clear();
        self.has_more = false;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(count: u8) -> Vec<Digest> {
        let mut digests: Vec<_> = (0..count).map(|i| Digest::sha256(&[i])).collect();
        digests.sort();
        digests
    }

    #[test]
    fn each_digest_is_in_one_window_and_known_there_alone() {
        let (digests, absent) = (digests(10), Digest::sha256(b"absent"));
        for capacity in [1, 3, 5, 10, 11] {
            let mut contents = Contents::new(capacity * ENTRY_BYTES);
            let mut seen = vec![0; digests.len()];
            let mut absences = 0;
            loop {
                for digest in &digests {
                    contents.add(digest, 7);
                }
                for (digest, seen) in digests.iter().zip(&mut seen) {
                    match contents.look_up(digest) {
                        Stored::Found { length: 7, is_damaged: false } => *seen += 1,
                        Stored::OtherWindow => {}
                        other => panic!("{digest}: {other:?} with {capacity}"),
                    }
                }
                absences += usize::from(contents.look_up(&absent) == Stored::Absent);
                if !contents.next_window() {
                    break;
                }
            }
            assert_eq!(seen, [1; 10], "{capacity}");
            assert_eq!(absences, 1, "{capacity}");
        }
    }

    #[test]
    fn a_digest_with_a_flipped_bit_has_another_short_form() {
        let digest = Digest::sha256(b"x");
        for at in 0..64 {
            let mut hex = digest.hex().to_owned();
            let flipped = if hex.as_bytes()[at] == b'0' { "1" } else { "0" };
            hex.replace_range(at..=at, flipped);
            let other: Digest = format!("sha256:{hex}").parse().unwrap();
            assert_ne!(short_form(&digest), short_form(&other), "{at}");
            let is_in_order = (digest < other) == (short_form(&digest) < short_form(&other));
            assert!(is_in_order || at >= 24, "{at}");
        }
    }

    #[test]
    fn marks_are_of_one_entry() {
        let digests = digests(3);
        let mut contents = Contents::new(1 << 20);
        for digest in &digests {
            assert!(contents.add(digest, 1));
        }
        assert!(!contents.add(&digests[1], 1), "it is there already");
        contents.mark_linked(&digests[0]);
        contents.mark_damaged(&digests[1]);
        contents.mark_damaged(&Digest::sha256(b"absent"));
        assert_eq!(digests.iter().map(|d| contents.is_unlinked(d)).collect::<Vec<_>>(), [false, true, true]);
        assert!(contents.has_unlinked());
        let damaged = |d| matches!(contents.look_up(d), Stored::Found { is_damaged: true, .. });
        assert_eq!(digests.iter().map(damaged).collect::<Vec<_>>(), [false, true, false]);
    }
}
