//! One lock per repository, made when it is wanted, and gone with the last who wants it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use quinistry_oci::RepositoryName;

#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<HashMap<RepositoryName, Arc<Mutex<()>>>>);

impl Locks {
    /// Runs `change` while nobody else changes the repository.
    pub(super) fn with<T>(&self, name: &RepositoryName, change: impl FnOnce() -> T) -> T {
        // The locks guard no memory, so that a panic under one leaves nothing behind that a crash would not.
        let lock =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_default().clone();
        let result = {
            let _guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
            change()
        };
        drop(lock);
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever else wants it took it out of the map, under whose lock this is.
        if locks.get(name).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(name);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_is_left() {
        let locks = Locks::default();
        let name: RepositoryName = "a/b".parse().unwrap();
        let inside = Mutex::new(());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        locks.with(&name, || drop(inside.try_lock().expect("nobody else is inside")));
                    }
                });
            }
        });
        assert!(locks.0.lock().unwrap().is_empty());
    }
}
