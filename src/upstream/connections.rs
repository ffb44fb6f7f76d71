//! Number of connections to one upstream at a time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections of an upstream. Some are kept from transfers of blobs, which last, so that short questions do not wait
/// for them.
#[derive(Debug)]
pub(crate) struct Connections {
    all: Arc<Semaphore>,
    of_blobs: Arc<Semaphore>,
}

/// Right to one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    _one: OwnedSemaphorePermit,
    _of_blobs: Option<OwnedSemaphorePermit>,
}

// === impl Connections ===

impl Connections {
    pub(crate) fn new(most: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        let of_blobs = most.saturating_sub((most / 4).max(1)).max(1);
        Self { all: Arc::new(Semaphore::new(most)), of_blobs: Arc::new(Semaphore::new(of_blobs)) }
    }

    /// Waits for a connection for a short question.
    pub(crate) async fn for_question(&self) -> Connection {
        Connection { _one: acquire(&self.all).await, _of_blobs: None }
    }

    /// Waits for a connection for a blob.
    pub(crate) async fn for_blob(&self) -> Connection {
        let of_blobs = acquire(&self.of_blobs).await;
        Connection { _one: acquire(&self.all).await, _of_blobs: Some(of_blobs) }
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore.clone().acquire_owned().await.expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn blobs_leave_connections_to_questions() {
        let connections = Connections::new(4);
        let blobs: Vec<_> = (0..4).map_while(|_| connections.for_blob().now_or_never()).collect();
        assert_eq!(blobs.len(), 3);
        let question = connections.for_question().now_or_never().unwrap();
        assert!(connections.for_question().now_or_never().is_none());
        drop((blobs, question));
        let few = Connections::new(2);
        let _blob = few.for_blob().now_or_never().unwrap();
        assert!(few.for_blob().now_or_never().is_none());
        assert!(few.for_question().now_or_never().is_some());
        let single = Connections::new(1);
        let blob = single.for_blob().now_or_never().unwrap();
        assert!(single.for_question().now_or_never().is_none());
        drop(blob);
        assert!(single.for_question().now_or_never().is_some());
    }
}
