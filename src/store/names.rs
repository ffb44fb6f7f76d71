//! Sorted names in two allocations, however many they are.

use std::fmt;
use std::ops::Range;

/// Names in the order of their bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct SortedNames {
    /// All names, one behind the other.
    text: String,
    /// Positions in the text at which the names end.
    ends: Vec<usize>,
}

impl SortedNames {
    /// Gathers names, which must be sorted and distinct.
    pub(super) fn of<N: AsRef<str>>(sorted: impl IntoIterator<Item = N>) -> Self {
        let mut names = Self::default();
        for name in sorted {
            names.text.push_str(name.as_ref());
            names.ends.push(names.text.len());
        }
        names.text.shrink_to_fit();
        names.ends.shrink_to_fit();
        debug_assert!(names.iter().is_sorted(), "names are gathered in order");
        names
    }

    /// Returns the number of names.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the memory that the names take, in bytes.
    pub(super) fn weight(&self) -> usize {
        self.text.len() + size_of_val(self.ends.as_slice())
    }

    /// Returns a name by its position.
    pub(super) fn get(&self, position: usize) -> Option<&str> {
        let begin = if position == 0 { 0 } else { *self.ends.get(position - 1)? };
        self.text.get(begin..*self.ends.get(position)?)
    }

    /// Returns all names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.range(0..self.len())
    }

    /// Returns the names at a range of positions.
    pub(super) fn range(&self, positions: Range<usize>) -> impl Iterator<Item = &str> + Clone {
        positions.map_while(|position| self.get(position))
    }

    /// Returns the position of the first name behind `last`, which need not be among the names. Every name is behind
    /// an empty one.
    pub(super) fn position_after(&self, last: &str) -> usize {
        let (mut begin, mut end) = (0, self.len());
        while begin < end {
            let middle = begin.midpoint(end);
            if self.get(middle).is_some_and(|name| name <= last) {
                begin = middle + 1;
            } else {
                end = middle;
            }
        }
        begin
    }

    /// Returns true if a name is among the names.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.position_after(name).checked_sub(1).and_then(|position| self.get(position)) == Some(name)
    }
}

impl fmt::Debug for SortedNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_position_and_by_name() {
        let names = SortedNames::of(["a", "a.b", "b"]);
        assert_eq!(names.len(), 3);
        assert_eq!(names.iter().collect::<Vec<_>>(), ["a", "a.b", "b"]);
        assert_eq!(names.range(1..9).collect::<Vec<_>>(), ["a.b", "b"]);
        assert_eq!(names.get(3), None);
        for (last, position) in [("", 0), ("A", 0), ("a", 1), ("a.", 1), ("a.b", 2), ("b", 3), ("c", 3)] {
            assert_eq!(names.position_after(last), position, "after {last:?}");
        }
        assert!(names.contains("a") && names.contains("b") && !names.contains("a."));
    }

    #[test]
    fn no_names_take_no_memory() {
        let names = SortedNames::of([""; 0]);
        assert_eq!((names.len(), names.weight(), names.position_after("a")), (0, 0, 0));
        assert!(!names.contains(""));
    }
}
