//! Lead: of all replicas, one does the work that need not be done twice.
//!
//! Each term of a leader is a register, whose number is greater by one than that of the term before. A replica creates
//! the next one when the highest is older than [`TERM_LIFETIME`] by the times of the storage. Its holder overwrites the
//! object at intervals, and acts for less than [`LEAD_LIFETIME`] since before it sent its last good renewal, by a local
//! clock that goes on while the machine is suspended.
//!
//! At no time do two replicas act:
//!
//! - A renewal is good only if a list that follows it has no higher term. So a holder that wakes up after its term was
//!   followed does not act again.
//! - A new term is good only after a list in which each former one is older than [`LEAD_LIFETIME`]: a renewal may have
//!   come between the list in which the former term was too old, and the creation. Renewals that come after that list
//!   are not good, because lists after them have the new term.
//!
//! Numbers only grow, since the highest register is never removed: a writer that was held up cannot create a number that
//! was forgotten, and believe it has won, without finding a higher one in the list that follows.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use quinistry_oci::escape::Escaped;
use quinistry_oci::to_json;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use super::Shared;
use super::replicas::{MAX_NOTE_BYTES, Replica};
use crate::boottime::LocalClock;
use crate::layout::{Key, leaders};
use crate::storage::{Created, Meta};
use crate::{Store, StoreError};

/// Time between two renewals: one may fail before the lead is lost.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

/// Time since before the last good renewal was sent, for which its sender acts.
const LEAD_LIFETIME: Duration = Duration::from_secs(20);

/// Age from which another replica may begin the next term.
const TERM_LIFETIME: Duration = Duration::from_secs(30);

/// Greatest error of an age by the times of a storage, which are whole seconds (`Date` and `Last-Modified`).
const TIME_ERROR: Duration = Duration::from_secs(2);

/// Right of this process to do the work of one replica. Check [`still`](Self::still) right before each step of the
/// work: the right ends by itself.
#[derive(Clone, Debug)]
pub struct Lead {
    /// Term of the leader; `None` if the process has the storage to itself.
    term: Option<Arc<Term>>,
    /// Set to end the work early.
    stop: Option<Arc<AtomicBool>>,
}

/// Term of a leader that this process has created.
#[derive(Debug)]
struct Term {
    number: u64,
    clock: LocalClock,
    /// Time of the clock at which the right to act ends, in nanoseconds; 0 before the right begins.
    end: AtomicU64,
}

/// Part of this process in the choice of a leader.
#[derive(Debug)]
pub(super) struct Leadership {
    clock: LocalClock,
    /// Held while requests are sent: one attempt at a time.
    candidacy: Mutex<Candidacy>,
    current: watch::Sender<Option<Lead>>,
}

#[derive(Debug, Default)]
struct Candidacy {
    own: Option<OwnTerm>,
    /// Highest term of another replica that was logged.
    logged: Option<u64>,
}

/// Term of this process that no higher one has followed.
#[derive(Debug)]
struct OwnTerm {
    term: Arc<Term>,
    bytes: Vec<u8>,
    /// The holders of former terms act no more.
    is_alone: bool,
}

/// Content of the register of a term.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    replica: String,
    nonce: String,
}

/// Registers of all terms at one time of the storage, in the order of their numbers.
struct Terms {
    found: Vec<(u64, Key, Meta)>,
    now: SystemTime,
}

/// Waits for the lead.
#[derive(Debug)]
pub struct LeadGains(Option<watch::Receiver<Option<Lead>>>);

// === impl Lead ===

impl Lead {
    /// Returns true if this process may act as the leader at this moment.
    #[must_use]
    pub fn still(&self) -> bool {
        let is_stopped = self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
        !is_stopped && self.term.as_ref().is_none_or(|term| term.clock.now() < term.end())
    }

    /// Returns the same right, which also ends once `stop` is set: long work ends with the process that does it.
    #[must_use]
    pub fn until(&self, stop: Arc<AtomicBool>) -> Self {
        Self { term: self.term.clone(), stop: Some(stop) }
    }

    /// Returns the right to do work that changes nothing, such as a dry run of a collection beside a leading replica.
    #[must_use]
    pub const fn of_reader() -> Self {
        Self::alone()
    }

    /// Returns the right of a process that has the storage to itself.
    const fn alone() -> Self {
        Self { term: None, stop: None }
    }

    fn of(term: &Arc<Term>) -> Self {
        Self { term: Some(term.clone()), stop: None }
    }

    /// Returns the time since boot at which the right to act ends, unless it is renewed; `None` if the process has the
    /// storage to itself.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.term.as_ref().map(|term| term.end())
    }

    /// Returns the number of the term, which is greater than those of all former leaders; `None` if the process has the
    /// storage to itself.
    #[must_use]
    pub fn term(&self) -> Option<u64> {
        self.term.as_ref().map(|term| term.number)
    }
}

// === impl Term ===

impl Term {
    fn end(&self) -> Duration {
        Duration::from_nanos(self.end.load(Ordering::Acquire))
    }

    fn set_end(&self, end: Duration) {
        self.end.store(u64::try_from(end.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
    }
}

// === impl Leadership ===

impl Leadership {
    pub(super) fn new(clock: LocalClock) -> Self {
        Self { clock, candidacy: Mutex::default(), current: watch::Sender::new(None) }
    }

    /// Logs a change of the lead, and wakes those that wait for it.
    fn announce(&self, own: Option<&OwnTerm>) {
        let lead = own.map(|own| Lead::of(&own.term)).filter(Lead::still);
        let term = lead.as_ref().and_then(Lead::term);
        let former = self.current.borrow().as_ref().and_then(Lead::term);
        if term == former {
            return;
        }
        match (term, former) {
            (Some(term), _) => tracing::info!(term, "this replica leads"),
            (None, former) => tracing::info!(term = former, "this replica no longer leads"),
        }
        self.current.send_replace(lead);
    }
}

// === impl OwnTerm ===

impl OwnTerm {
    fn new(number: u64, replica: &Replica, clock: LocalClock) -> Self {
        let holder = Holder { replica: replica.id().to_owned(), nonce: Uuid::new_v4().to_string() };
        let term = Arc::new(Term { number, clock, end: AtomicU64::new(0) });
        Self { term, bytes: to_json(&holder), is_alone: false }
    }

    fn key(&self) -> Key {
        leaders().child(&format!("{:020}", self.term.number))
    }
}

// === impl Terms ===

impl Terms {
    fn highest(&self) -> Option<&(u64, Key, Meta)> {
        self.found.last()
    }

    fn is_older(&self, meta: &Meta, age: Duration) -> bool {
        self.now.duration_since(meta.modified).is_ok_and(|passed| passed > age)
    }

    /// Returns the number of the term that may begin now; `None` while the highest one lasts.
    fn next(&self) -> Option<u64> {
        match self.highest() {
            None => Some(1),
            Some((number, _, meta)) if self.is_older(meta, TERM_LIFETIME) => number.checked_add(1),
            Some(_) => None,
        }
    }

    fn former(&self, own: u64) -> impl Iterator<Item = &(u64, Key, Meta)> {
        self.found.iter().filter(move |(number, ..)| *number < own)
    }
}

// === impl LeadGains ===

impl LeadGains {
    /// Waits until this process gets the lead after it had none; for ever if it has the storage to itself.
    pub async fn next(&mut self) {
        while let Some(current) = &mut self.0 {
            // The store, which has the sender, outlives what waits for it.
            if current.changed().await.is_err() {
                break;
            }
            if current.borrow_and_update().is_some() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

impl Store {
    /// Returns the lead, if this process has it: the right to do work on the storage that need not be done twice. A
    /// process that has the storage to itself has the lead for ever.
    #[must_use]
    pub fn lead(&self) -> Option<Lead> {
        match &self.0.shared {
            None => Some(Lead::alone()),
            Some(shared) => shared.leadership.current.borrow().clone().filter(Lead::still),
        }
    }

    /// Returns what waits for the next lead.
    #[must_use]
    pub fn lead_gains(&self) -> LeadGains {
        LeadGains(self.0.shared.as_ref().map(|shared| shared.leadership.current.subscribe()))
    }

    /// Returns the time after which [`renew_lead`](Self::renew_lead) must be called again; `None` if the storage is not
    /// shared, or can only be read.
    #[must_use]
    pub fn lead_interval(&self) -> Option<Duration> {
        self.0.shared.as_ref().filter(|shared| !shared.replica.is_reader()).map(|_| RENEWAL_INTERVAL)
    }

    /// Takes the lead if no other replica has it, or renews it.
    pub fn renew_lead(&self) -> Result<(), StoreError> {
        let Some(shared) = self.0.shared.as_ref().filter(|shared| !shared.replica.is_reader()) else {
            return Ok(());
        };
        let mut candidacy = shared.leadership.candidacy.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = self.stand(shared, &mut candidacy);
        shared.leadership.announce(candidacy.own.as_ref());
        renewed
    }

    fn stand(&self, shared: &Shared, candidacy: &mut Candidacy) -> Result<(), StoreError> {
        // Before any request: their way takes time that belongs to the right.
        let asked = shared.leadership.clock.now();
        let own = match &mut candidacy.own {
            Some(own) => {
                self.storage().write(&[&[(own.key(), &own.bytes)]])?;
                own
            }
            none => {
                let terms = self.terms()?;
                let Some(number) = terms.next() else {
                    self.log_leader(&terms, &mut candidacy.logged);
                    return Ok(());
                };
                let own = OwnTerm::new(number, &shared.replica, shared.leadership.clock.clone());
                match self.storage().create(&own.key(), &own.bytes)? {
                    Created::Exists(bytes) if bytes != own.bytes => return Ok(()),
                    Created::New | Created::Exists(_) => none.insert(own),
                }
            }
        };
        let terms = self.terms()?;
        if terms.highest().is_none_or(|(number, ..)| *number != own.term.number) {
            own.term.set_end(Duration::ZERO);
            candidacy.own = None;
            self.log_leader(&terms, &mut candidacy.logged);
            return Ok(());
        }
        let former = || terms.former(own.term.number);
        let is_first = !own.is_alone;
        own.is_alone |= former().all(|(.., meta)| terms.is_older(meta, LEAD_LIFETIME + TIME_ERROR));
        if !own.is_alone {
            return Ok(());
        }
        own.term.set_end(asked + LEAD_LIFETIME);
        if is_first {
            for (_, key, meta) in former() {
                self.storage().remove_if(key, &meta.tag)?;
            }
        }
        Ok(())
    }

    fn terms(&self) -> Result<Terms, StoreError> {
        let mut found = Vec::new();
        self.scan(&leaders(), |key, meta| {
            let number = key.beneath(&leaders()).and_then(|(number, rest)| {
                let is_number = rest.is_empty() && number.len() == 20;
                number.parse().ok().filter(|_| is_number)
            });
            found.extend(number.map(|number| (number, key, meta)));
            Ok(())
        })?;
        found.sort_unstable_by_key(|(number, ..)| *number);
        Ok(Terms { found, now: self.storage().now() })
    }

    /// Logs once that another replica leads.
    fn log_leader(&self, terms: &Terms, logged: &mut Option<u64>) {
        let Some((term, key, _)) = terms.highest().filter(|(term, ..)| *logged != Some(*term)) else {
            return;
        };
        *logged = Some(*term);
        let holder = self.read_note(key, MAX_NOTE_BYTES).ok().flatten();
        let holder: Option<Holder> = holder.and_then(|holder| serde_json::from_slice(&holder).ok());
        let leader = holder.map(|holder| Escaped(&holder.replica).to_string());
        tracing::info!(term, leader, "another replica leads");
    }
}
