//! Places of connections and of TLS handshakes.
//!
//! A client that has sent nothing has no claim: it holds no handshake, and while all places are taken the one that
//! waits longest gives way to the next connection. A share for each network keeps the handshakes of one client from
//! taking those of all.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep_until};

use super::network::Network;
use super::peer::Peer;

/// Time in which a silent client keeps its place in any case: its first bytes are on their way.
const MIN_SILENCE: Duration = Duration::from_millis(500);

/// Time between two warnings of the same kind.
const WARNING_PERIOD: Duration = Duration::from_mins(1);

/// Places of one listener.
#[derive(Debug)]
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    capacity: usize,
    silent: Arc<SilentClients>,
    handshakes: Arc<Handshakes>,
    warning: Warning,
}

/// Clients that hold a place, and have sent nothing that needs one, by the order of their arrival.
#[derive(Debug, Default)]
struct SilentClients(Mutex<Arrivals>);

#[derive(Debug, Default)]
struct Arrivals {
    waiting: BTreeMap<u64, (Instant, oneshot::Sender<()>)>,
    next: u64,
}

/// Client that has sent nothing yet, or whose handshake has to wait.
#[derive(Debug)]
pub(crate) struct SilentClient {
    number: u64,
    clients: Arc<SilentClients>,
    handshakes: Arc<Handshakes>,
}

/// Order to close the connection of a silent client.
#[derive(Debug)]
pub(crate) struct Eviction(oneshot::Receiver<()>);

/// Handshakes in progress.
#[derive(Debug)]
struct Handshakes {
    all: Arc<Semaphore>,
    /// Most handshakes of one network at once.
    share: usize,
    networks: Mutex<HashMap<Network, Arc<Semaphore>>>,
    warning: Warning,
}

/// Handshake in progress, which holds a permit of all and one of its network.
#[derive(Debug)]
pub(crate) struct Handshake {
    permits: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
    network: Network,
    handshakes: Arc<Handshakes>,
}

/// Warning that is repeated at most once per [`WARNING_PERIOD`].
#[derive(Debug, Default)]
struct Warning(Mutex<Option<Instant>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Admission ===

impl Admission {
    /// Makes `capacity` places. Handshakes take at most half of them, and those of one network an eighth.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(capacity)),
            capacity,
            silent: Arc::default(),
            handshakes: Arc::new(Handshakes {
                all: Arc::new(Semaphore::new(capacity.div_ceil(2))),
                share: capacity.div_ceil(8),
                networks: Mutex::default(),
                warning: Warning::default(),
            }),
            warning: Warning::default(),
        }
    }

    /// Takes the place of an accepted connection. If there is none, waits for one, and the oldest silent client
    /// gives way.
    pub(crate) async fn take_place(&self) -> OwnedSemaphorePermit {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return place;
        }
        if self.warning.is_due() {
            let silent = lock(&self.silent.0).waiting.len();
            tracing::warn!(
                limit = self.capacity,
                silent,
                "connection limit reached, new connections wait or replace the oldest silent ones"
            );
        }
        let place = self.places.clone().acquire_owned();
        let mut place = std::pin::pin!(place);
        let place = tokio::select! {
            place = &mut place => place,
            () = self.silent.evict_oldest() => place.await,
        };
        place.expect("the semaphore is never closed")
    }

    /// Returns true if more than half of the places are taken: only then is it worth it to know which clients of
    /// plain HTTP are silent.
    pub(crate) fn is_crowded(&self) -> bool {
        self.places.available_permits() < self.capacity.div_ceil(2)
    }

    /// Begins to wait for the first bytes of a client.
    pub(crate) fn wait_for(&self) -> (SilentClient, Eviction) {
        let (evict, eviction) = oneshot::channel();
        let mut arrivals = lock(&self.silent.0);
        let number = arrivals.next;
        arrivals.next += 1;
        arrivals.waiting.insert(number, (Instant::now(), evict));
        let (clients, handshakes) = (self.silent.clone(), self.handshakes.clone());
        (SilentClient { number, clients, handshakes }, Eviction(eviction))
    }
}

// === impl SilentClients ===

impl SilentClients {
    /// Orders the oldest silent client to close its connection, once it has been silent for [`MIN_SILENCE`]. Waits
    /// for ever if there is none: without a free place no client becomes silent.
    async fn evict_oldest(&self) {
        loop {
            let Some(since) = lock(&self.0).waiting.first_key_value().map(|(_, (since, _))| *since) else {
                return std::future::pending().await;
            };
            sleep_until(since + MIN_SILENCE).await;
            let mut arrivals = lock(&self.0);
            // Another client may be the oldest by now.
            if let Some(oldest) = arrivals.waiting.first_entry()
                && oldest.get().0.elapsed() >= MIN_SILENCE
            {
                let (_, evict) = oldest.remove();
                // A client that has left frees its place by itself.
                let _ = evict.send(());
                return;
            }
        }
    }
}

// === impl SilentClient ===

impl SilentClient {
    /// Ends the wait of a client that has sent its first bytes. Fails if its place was given away.
    pub(crate) fn speaks(self) -> io::Result<()> {
        match lock(&self.clients.0).waiting.remove(&self.number) {
            Some(_) => Ok(()),
            None => Err(evicted()),
        }
    }

    /// Begins the handshake of a client that has sent its first bytes, once one is free.
    pub(crate) async fn begin_handshake(self, peer: Peer) -> io::Result<Handshake> {
        let handshake = self.handshakes.clone().begin(peer.into()).await;
        self.speaks()?;
        Ok(handshake)
    }
}

impl Drop for SilentClient {
    fn drop(&mut self) {
        lock(&self.clients.0).waiting.remove(&self.number);
    }
}

fn evicted() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "silent client replaced by another, since all connections are in use",
    )
}

// === impl Eviction ===

impl Eviction {
    /// Waits for the order; for ever if the client speaks.
    pub(crate) async fn ordered(self) -> io::Error {
        match self.0.await {
            Ok(()) => evicted(),
            Err(_) => std::future::pending().await,
        }
    }
}

// === impl Handshakes ===

impl Handshakes {
    async fn begin(self: Arc<Self>, network: Network) -> Handshake {
        let share = lock(&self.networks)
            .entry(network)
            .or_insert_with(|| Arc::new(Semaphore::new(self.share)))
            .clone();
        if share.available_permits() == 0 && self.warning.is_due() {
            tracing::warn!(
                %network,
                limit = self.share,
                "one network has its share of TLS handshakes in progress, further ones wait"
            );
        }
        // Made first, so that the network is forgotten also if this future is dropped.
        let mut handshake = Handshake { permits: None, network, handshakes: self.clone() };
        let of_network = share.acquire_owned().await.expect("the semaphore is never closed");
        let of_all = self.all.clone().acquire_owned().await.expect("the semaphore is never closed");
        handshake.permits = Some((of_network, of_all));
        handshake
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.permits = None;
        let mut networks = lock(&self.handshakes.networks);
        // One of the map alone: no handshake of the network is in progress or waits.
        if networks.get(&self.network).is_some_and(|share| Arc::strong_count(share) == 1) {
            networks.remove(&self.network);
        }
    }
}

// === impl Warning ===

impl Warning {
    fn is_due(&self) -> bool {
        let (mut last, now) = (lock(&self.0), Instant::now());
        let is_due = last.is_none_or(|last| now.duration_since(last) >= WARNING_PERIOD);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::from(std::net::SocketAddr::new(address.parse().unwrap(), 1))
    }

    fn poll<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> Poll<T> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn the_oldest_silent_client_gives_way_when_all_places_are_taken() {
        let admission = Admission::new(3);
        let places =
            [admission.take_place().await, admission.take_place().await, admission.take_place().await];
        let [speaks, oldest, next] = [(); 3].map(|()| admission.wait_for());
        speaks.0.speaks().unwrap();
        let mut taken = Box::pin(admission.take_place());
        assert!(poll(&mut taken).is_pending());
        assert_eq!(lock(&admission.silent.0).waiting.len(), 2, "the first bytes may be on their way");
        tokio::select! {
            _ = &mut taken => panic!("no place is free"),
            _ = oldest.1.ordered() => {}
        }
        assert!(oldest.0.speaks().is_err(), "its place is given away");
        assert!(poll(&mut taken).is_pending(), "which is not free yet");
        next.0.speaks().expect("only one gives way to one connection");
        drop(places);
        drop(taken.await);
        assert!(lock(&admission.silent.0).waiting.is_empty());
    }

    #[test]
    fn a_client_that_speaks_is_never_told_to_leave() {
        let admission = Admission::new(1);
        let (client, eviction) = admission.wait_for();
        client.speaks().unwrap();
        assert!(poll(&mut Box::pin(eviction.ordered())).is_pending());
    }

    #[test]
    fn row_137_the_handshakes_of_one_network_take_no_more_than_its_share() {
        let admission = Admission::new(64);
        let begin = |address: &str| Box::pin(admission.wait_for().0.begin_handshake(peer(address)));
        let in_progress = |result| match result {
            Poll::Ready(Ok(handshake)) => handshake,
            _ => panic!("a handshake is free"),
        };
        let mut of_network: Vec<Handshake> =
            (0..8).map(|number| in_progress(poll(&mut begin(&format!("2001:db8::{number}"))))).collect();
        let mut waits = begin("2001:db8::99");
        assert!(poll(&mut waits).is_pending(), "the share of the network is exhausted");
        let other = in_progress(poll(&mut begin("192.0.2.1")));
        of_network.pop();
        let next = in_progress(poll(&mut waits));
        drop((of_network, other, next));
        assert!(lock(&admission.handshakes.networks).is_empty(), "networks are forgotten");
    }

    #[test]
    fn a_handshake_that_is_given_up_while_it_waits_leaves_nothing() {
        let admission = Admission::new(1);
        let begin = || Box::pin(admission.wait_for().0.begin_handshake(peer("192.0.2.1")));
        let Poll::Ready(Ok(first)) = poll(&mut begin()) else { panic!("a handshake is free") };
        let mut second = begin();
        assert!(poll(&mut second).is_pending());
        drop((second, first));
        assert!(lock(&admission.handshakes.networks).is_empty());
        assert!(lock(&admission.silent.0).waiting.is_empty());
    }

    #[test]
    fn a_warning_is_not_repeated_within_a_minute() {
        let warning = Warning::default();
        assert_eq!((warning.is_due(), warning.is_due()), (true, false));
        *lock(&warning.0) = Instant::now().checked_sub(WARNING_PERIOD);
        assert!(warning.is_due());
    }
}
