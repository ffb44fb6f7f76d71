//! Processors that compute, shared by networks in turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinistry_http::Network;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Processors for the checks of passwords. Each network waits in a line of its own: many attempts of one network,
/// which are wrong as a rule, stand before no attempt of another.
#[derive(Debug)]
pub(super) struct Processors {
    /// Permits to compute, taken by the heads of the lines in the order in which they come.
    all: Arc<Semaphore>,
    count: usize,
    /// Lines of the networks with attempts.
    lines: Mutex<HashMap<Network, Line>>,
}

/// Attempts of a network, at most [`Processors::count`] of which compute or wait for a processor.
#[derive(Debug)]
struct Line {
    heads: Arc<Semaphore>,
    /// Attempts in the line, of which the last one removes it.
    attempts: usize,
}

/// Right to use one processor until the drop.
#[derive(Debug)]
pub(super) struct Processor {
    _permit: OwnedSemaphorePermit,
    _head: OwnedSemaphorePermit,
    _place: Place,
}

/// Place of an attempt in the line of its network.
#[derive(Debug)]
struct Place {
    processors: Arc<Processors>,
    network: Network,
}

impl Processors {
    pub(super) fn new(count: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(count)), count, lines: Mutex::default() }
    }

    /// Waits for a processor.
    pub(super) async fn acquire(self: &Arc<Self>, network: Network) -> Processor {
        let place = Place { processors: self.clone(), network };
        let head = self.line_up(network).acquire_owned().await.expect("the semaphore is never closed");
        let permit = self.all.clone().acquire_owned().await.expect("the semaphore is never closed");
        Processor { _permit: permit, _head: head, _place: place }
    }

    /// Enters the line of a network, which the drop of a [`Place`] leaves.
    fn line_up(&self, network: Network) -> Arc<Semaphore> {
        let mut lines = self.lines();
        let new = || Line { heads: Arc::new(Semaphore::new(self.count)), attempts: 0 };
        let line = lines.entry(network).or_insert_with(new);
        line.attempts += 1;
        line.heads.clone()
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Network, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.processors.lines();
        if let Some(line) = lines.get_mut(&self.network) {
            line.attempts -= 1;
            if line.attempts == 0 {
                lines.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CROWD: Network = Network::V4(1);
    const OTHER: Network = Network::V4(2);

    #[tokio::test]
    async fn another_network_gets_the_next_processor_however_long_a_line_is() {
        let processors = Arc::new(Processors::new(1));
        let first = processors.acquire(CROWD).await;
        let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
        let wait = |network| {
            let (processors, sender) = (processors.clone(), sender.clone());
            tokio::spawn(async move {
                let _processor = processors.acquire(network).await;
                sender.send(network).unwrap();
            })
        };
        let waiting: Vec<_> = std::iter::repeat_n(CROWD, 10).chain([OTHER]).map(wait).collect();
        // Each task runs to its wait, in the order of their starts.
        tokio::task::yield_now().await;
        assert_eq!(processors.lines().len(), 2);
        drop(first);
        assert_eq!(order.recv().await, Some(OTHER));
        for task in waiting {
            task.await.unwrap();
        }
        assert!(processors.lines().is_empty(), "nothing is left of a network without attempts");
    }

    #[tokio::test]
    async fn one_network_alone_has_all_processors() {
        let processors = Arc::new(Processors::new(3));
        let all = [
            processors.acquire(CROWD).await,
            processors.acquire(CROWD).await,
            processors.acquire(CROWD).await,
        ];
        assert_eq!(processors.all.available_permits(), 0);
        drop(all);
        assert!(processors.lines().is_empty());
    }
}
