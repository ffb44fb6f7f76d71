//! Locks of repositories, each created by its first user and dropped with its last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use quinistry_oci::RepositoryName;

use super::waiting;

/// One lock per repository.
#[derive(Debug, Default)]
pub(super) struct RepositoryLocks(Mutex<HashMap<RepositoryName, Arc<Mutex<()>>>>);

impl RepositoryLocks {
    /// Runs `change` while it holds the repository's lock.
    pub(super) fn with<T>(&self, name: &RepositoryName, change: impl FnOnce() -> T) -> T {
        let lock =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_default().clone();
        let result = {
            let _guard = waiting::lock(&lock);
            change()
        };
        drop(lock);
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Other users take their reference under the map's lock, which is held here.
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
        let locks = RepositoryLocks::default();
        let name: RepositoryName = "a/b".parse().unwrap();
        let inside = Mutex::new(());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        locks.with(&name, || drop(inside.try_lock().expect("no other thread is inside")));
                    }
                });
            }
        });
        assert!(locks.0.lock().unwrap().is_empty());
    }
}
