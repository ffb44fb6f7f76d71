//! Memory of what an upstream does not have. Pure.

use std::time::Instant;

use quinistry_oci::{Digest, Reference, RepositoryName};

use super::bounded_map::BoundedMap;

/// Capacity in names. Beyond it the oldest are forgotten, which costs a question each.
const CAPACITY: usize = 10_000;

/// Content that an upstream was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AskedContent {
    Manifest(Reference),
    Blob(Digest),
}

/// Content that an upstream does not have, each until a time.
#[derive(Debug)]
pub(crate) struct Absences(BoundedMap<(RepositoryName, AskedContent), Instant>);

impl Default for Absences {
    fn default() -> Self {
        Self(BoundedMap::new(CAPACITY))
    }
}

impl Absences {
    pub(crate) fn note(&mut self, name: &RepositoryName, content: AskedContent, until: Instant) {
        self.0.insert((name.clone(), content), until, 1);
    }

    pub(crate) fn contains(&self, name: &RepositoryName, content: AskedContent, now: Instant) -> bool {
        self.0.get(&(name.clone(), content)).is_some_and(|until| now < *until)
    }

    /// Forgets an absence, since the upstream has the content now.
    pub(crate) fn forget(&mut self, name: &RepositoryName, content: AskedContent) {
        self.0.remove(&(name.clone(), content));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn row_160_very_many_absent_names_take_the_room_of_ten_thousand() {
        let (mut absences, now) = (Absences::default(), Instant::now());
        let until = now + Duration::from_mins(1);
        let name = "hub/a".parse().unwrap();
        let tag = |number: u32| AskedContent::Manifest(format!("t{number}").parse().unwrap());
        for number in 0..50_000 {
            absences.note(&name, tag(number), until);
        }
        let count = (0..50_000).filter(|number| absences.contains(&name, tag(*number), now)).count();
        assert_eq!(count, CAPACITY);
        assert!(absences.contains(&name, tag(49_999), now) && !absences.contains(&name, tag(49_999), until));
        absences.forget(&name, tag(49_999));
        assert!(!absences.contains(&name, tag(49_999), now));
    }
}
