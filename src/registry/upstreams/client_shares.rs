//! Shares of clients in the questions that one upstream is asked at once: a client that asks for very many names leaves
//! connections to the others.
//!
//! The client is a value of the task that answers its request. Prefetch and eviction have none, and no share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinistry_http::Network;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::futures::TaskLocalFuture;
use tokio::time::timeout;

use super::question::Failure;

/// Seconds after which a client may ask again that has too many questions under way.
const BUSY_RETRY_SECONDS: u64 = 5;

tokio::task_local! {
    static CLIENT: Network;
}

/// Answers a request of a client.
pub(crate) fn with_client<F: Future>(client: Network, answer: F) -> TaskLocalFuture<Network, F> {
    CLIENT.scope(client, answer)
}

/// Questions that run, by the client whose request has begun them.
#[derive(Clone, Debug)]
pub(crate) struct ClientShares(Arc<Shares>);

#[derive(Debug)]
struct Shares {
    /// Questions of one client that may run at once.
    questions: usize,
    /// Clients that have questions, or wait for their turn.
    clients: Mutex<HashMap<Network, Arc<Semaphore>>>,
}

/// Right to ask one question; held until the question ends.
#[derive(Debug)]
pub(crate) struct Share {
    _turn: Option<Turn>,
}

/// Place of a client, which goes with its last user.
#[derive(Debug)]
struct Place {
    shares: Arc<Shares>,
    client: Network,
    turns: Option<Arc<Semaphore>>,
}

/// Turn of a client. Fields are dropped in this order: the permit has a reference to the semaphore of the place.
#[derive(Debug)]
struct Turn {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

impl ClientShares {
    /// Shares of an upstream of this number of connections: half of them for one client.
    pub(crate) fn new(connections: usize) -> Self {
        Self(Arc::new(Shares { questions: (connections / 2).max(1), clients: Mutex::default() }))
    }

    /// Waits until the client of this task may begin one more question, for at most `patience`.
    pub(crate) async fn take(&self, patience: Duration) -> Result<Share, Failure> {
        // A client without an address cannot be told from others.
        let client = CLIENT.try_with(|client| *client).ok().filter(|client| *client != Network::Unknown);
        let Some(client) = client else { return Ok(Share { _turn: None }) };
        let place = Place::of(&self.0, client);
        let turns = place.turns.clone().expect("a place has its turns until it is dropped");
        match timeout(patience, turns.acquire_owned()).await {
            Ok(permit) => {
                let permit = permit.expect("the semaphore is never closed");
                Ok(Share { _turn: Some(Turn { _permit: permit, _place: place }) })
            }
            Err(_) => Err(Failure::Limited { retry_after_seconds: BUSY_RETRY_SECONDS }),
        }
    }
}

impl Shares {
    fn clients(&self) -> MutexGuard<'_, HashMap<Network, Arc<Semaphore>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn of(shares: &Arc<Shares>, client: Network) -> Self {
        let new = || Arc::new(Semaphore::new(shares.questions));
        let turns = shares.clients().entry(client).or_insert_with(new).clone();
        Self { shares: shares.clone(), client, turns: Some(turns) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.shares.clients();
        drop(self.turns.take());
        // Under the lock, no other place of this client can be made.
        if clients.get(&self.client).is_some_and(|turns| Arc::strong_count(turns) == 1) {
            clients.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    async fn take(shares: &ClientShares, client: u32) -> Option<Result<Share, Failure>> {
        with_client(Network::V4(client), async { shares.take(PATIENCE).now_or_never() }).await
    }

    #[tokio::test]
    async fn row_160_one_client_has_half_of_the_questions_and_others_have_theirs() {
        let shares = ClientShares::new(4);
        let mut own = Vec::new();
        for _ in 0..2 {
            own.push(take(&shares, 1).await.expect("a share").unwrap());
        }
        assert!(take(&shares, 1).await.is_none(), "the third one waits");
        let other = take(&shares, 2).await.expect("a share").unwrap();
        drop(own.pop());
        assert!(take(&shares, 1).await.is_some());
        drop((own, other));
        assert!(shares.0.clients().is_empty(), "nothing is left of clients that have gone");
    }

    #[tokio::test]
    async fn a_client_that_waits_in_vain_is_limited() {
        let shares = ClientShares::new(1);
        let _held = take(&shares, 1).await.expect("a share").unwrap();
        let waited = with_client(Network::V4(1), shares.take(Duration::ZERO)).await;
        assert_eq!(waited.unwrap_err(), Failure::Limited { retry_after_seconds: BUSY_RETRY_SECONDS });
        assert_eq!(shares.0.clients().len(), 1);
    }

    #[tokio::test]
    async fn work_without_a_client_needs_no_share() {
        let shares = ClientShares::new(1);
        for _ in 0..3 {
            assert!(shares.take(PATIENCE).now_or_never().is_some());
            assert!(with_client(Network::Unknown, shares.take(PATIENCE)).now_or_never().is_some());
        }
        assert!(shares.0.clients().is_empty());
    }
}
