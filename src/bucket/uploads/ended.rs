//! Names of the sessions that have ended in this process, as long as requests may come for them.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Number of names that are remembered.
const CAPACITY: usize = 10_000;

/// Names of ended sessions: the folders of the sessions in the bucket.
#[derive(Debug, Default)]
pub(super) struct EndedSessions(Mutex<(HashSet<String>, VecDeque<String>)>);

impl EndedSessions {
    pub(super) fn add(&self, folder: &str) {
        let (names, order) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.insert(folder.to_owned()) {
            return;
        }
        order.push_back(folder.to_owned());
        if order.len() > CAPACITY
            && let Some(oldest) = order.pop_front()
        {
            names.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, folder: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.contains(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_names_are_forgotten() {
        let ended = EndedSessions::default();
        (0..=CAPACITY).for_each(|i| ended.add(&i.to_string()));
        ended.add("1");
        assert!(!ended.contains("0") && ended.contains("1") && ended.contains(&CAPACITY.to_string()));
    }
}
