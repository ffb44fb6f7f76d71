//! Plan of faults: which request is spoiled, and in which way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::requests::{RequestKind, SentRequest};

/// A fault of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503 `SlowDown`; the request is not carried out.
    Unavailable,
    /// The request is carried out and answered with 503, as by a proxy that gave up.
    UnavailableAfterSuccess,
    /// The request is carried out and answered with 500.
    ErrorAfterSuccess,
    /// The request is carried out, and its answer comes late.
    Held(Duration),
    /// The request is on its way until [`FaultPlan::deliver`], and is carried out then.
    Stalled,
    /// The connection ends within the body: that of the answer to a read, that of the request to a write, which
    /// is then not carried out.
    CutBody,
    /// 409 `ConditionalRequestConflict`; the request is not carried out.
    Conflict,
    /// 409, and the request is carried out.
    ConflictAfterSuccess,
    /// 200 whose body is an `<Error>`; the request is not carried out.
    ErrorInSuccess,
    /// 404, although the object is there.
    Absent,
    /// 501 `NotImplemented`; the request is not carried out.
    Refused,
}

/// Probabilities of faults, from 0 to 1. Each is of the requests to which the fault may happen.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultRates {
    /// Rate of [`Fault::Unavailable`], for all requests.
    pub unavailable: f64,
    /// Rate of [`Fault::ErrorAfterSuccess`], for all changes.
    pub error_after_success: f64,
    /// Rate of [`Fault::Held`], for all requests.
    pub held: f64,
    /// Time for which answers are held.
    pub hold: Duration,
    /// Rate of [`Fault::CutBody`], for GET, PUT and PUT of parts.
    pub cut_body: f64,
    /// Rate of a 409, with or without success, for changes that depend on a condition.
    pub conflict: f64,
    /// Rate of [`Fault::ErrorInSuccess`], for completions and copies.
    pub error_in_success: f64,
}

/// Faults by probability, and some that a test sets for certain requests.
///
/// Whether a request is spoiled depends on the seed, its kind, its key, and the number of requests of that kind
/// and key before it: not on the order of requests for different keys, so that a run with several tasks can be
/// repeated.
#[derive(Debug)]
pub struct FaultPlan {
    seed: u64,
    is_active: AtomicBool,
    state: Mutex<PlanState>,
    /// Wakes a stalled request.
    delivery: Notify,
}

#[derive(Debug, Default)]
struct PlanState {
    rates: FaultRates,
    /// Numbers of requests by kind and key.
    seen: HashMap<(RequestKind, String), u64>,
    scheduled: Vec<Scheduled>,
}

/// A fault for certain requests.
#[derive(Debug)]
struct Scheduled {
    kind: RequestKind,
    /// Text that the key contains.
    within: String,
    fault: Fault,
    /// Number of requests that are spoiled yet.
    times: usize,
}

impl Default for FaultPlan {
    fn default() -> Self {
        Self::new(0, FaultRates::default())
    }
}

// === impl FaultPlan ===

impl FaultPlan {
    /// Makes a plan of faults by probability.
    #[must_use]
    pub fn new(seed: u64, rates: FaultRates) -> Self {
        let state = PlanState { rates, ..PlanState::default() };
        Self { seed, is_active: AtomicBool::new(true), state: Mutex::new(state), delivery: Notify::new() }
    }

    /// Changes the probabilities.
    pub fn set_rates(&self, rates: FaultRates) {
        self.lock().rates = rates;
    }

    /// Spoils the next `times` requests of a kind whose keys contain a text. Comes before any probability.
    pub fn spoil(&self, kind: RequestKind, within: &str, fault: Fault, times: usize) {
        self.lock().scheduled.push(Scheduled { kind, within: within.to_owned(), fault, times });
    }

    /// Lets one stalled request go on, or the next one.
    pub fn deliver(&self) {
        self.delivery.notify_one();
    }

    /// Waits as a stalled request does.
    pub async fn stall(&self) {
        self.delivery.notified().await;
    }

    /// Ends or begins the faults. A plan begins active.
    pub fn set_active(&self, is_active: bool) {
        self.is_active.store(is_active, Ordering::Relaxed);
    }

    /// Returns the fault of the next request.
    pub fn decide(&self, request: &SentRequest) -> Option<Fault> {
        let mut state = self.lock();
        let seen = state.seen.entry((request.kind, request.key.clone())).or_default();
        let number = *seen;
        *seen += 1;
        if !self.is_active.load(Ordering::Relaxed) {
            return None;
        }
        let fits =
            |scheduled: &Scheduled| scheduled.kind == request.kind && request.key.contains(&scheduled.within);
        if let Some(at) = state.scheduled.iter().position(fits) {
            let scheduled = &mut state.scheduled[at];
            scheduled.times -= 1;
            let (fault, times) = (scheduled.fault, scheduled.times);
            if times == 0 {
                state.scheduled.remove(at);
            }
            return Some(fault);
        }
        let rates = state.rates;
        drop(state);
        self.draw(rates, request, number)
    }

    fn draw(&self, rates: FaultRates, request: &SentRequest, number: u64) -> Option<Fault> {
        use RequestKind::{Complete, Copy, CopyPart, CreateMultipart, Delete, DeleteMany, Get, Put, PutPart};
        let FaultRates { unavailable, error_after_success, held, hold, cut_body, conflict, error_in_success } =
            rates;
        let is_change = matches!(
            request.kind,
            Put | Delete | DeleteMany | CreateMultipart | PutPart | CopyPart | Complete | Copy
        );
        let has_body = matches!(request.kind, Get | Put | PutPart);
        let may_fail_late = matches!(request.kind, Complete | Copy | CopyPart);
        // Half of the conflicts are with an earlier attempt of the same writer, which succeeds.
        let conflicted =
            if self.chance(request, number, 6) < 0.5 { Fault::Conflict } else { Fault::ConflictAfterSuccess };
        let candidates = [
            (true, unavailable, Fault::Unavailable),
            (is_change, error_after_success, Fault::ErrorAfterSuccess),
            (true, held, Fault::Held(hold)),
            (has_body, cut_body, Fault::CutBody),
            (request.is_conditional, conflict, conflicted),
            (may_fail_late, error_in_success, Fault::ErrorInSuccess),
        ];
        let drawn = (0_u64..).zip(candidates).find(|(index, (is_possible, rate, _))| {
            *is_possible && self.chance(request, number, *index) < *rate
        });
        drawn.map(|(_, (_, _, fault))| fault)
    }

    /// Returns a number from 0 to 1 that depends on the seed, the request and `salt` alone.
    fn chance(&self, request: &SentRequest, number: u64, salt: u64) -> f64 {
        // FNV-1a over the key, then the finish of SplitMix64, which spreads it over all bits.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let numbers = [self.seed, request.kind as u64, number, salt];
        let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
        for byte in request.key.bytes().chain(numbers) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
        let upper = u32::try_from(hash >> 32).expect("32 bits are left");
        f64::from(upper) / f64::from(u32::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, PlanState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
