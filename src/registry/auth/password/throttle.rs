//! Limit of wrong passwords by network and user. Pure but for the lock; the caller has the clock.
//!
//! A limit by user alone would let a stranger lock a user out, so each limit is that of a network. A user who
//! has logged in from a network before is not subject to the limit of that network as a whole: neighbours
//! behind the same address cannot lock that user out.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quinistry_http::Network;

/// Failures that are not slowed down.
const FREE_FAILURES: u32 = 10;

/// Time between two attempts after [`FREE_FAILURES`].
const SLOW_INTERVAL: Duration = Duration::from_secs(3);

/// Time without a failure after which failures are forgotten.
const DECAY_TIME: Duration = Duration::from_mins(5);

/// Attempts of one network that are checked at once. More than the free failures: behind one address there
/// may be many users whose passwords are right.
const MAX_NETWORK_ATTEMPTS_IN_FLIGHT: u32 = 32;

/// Capacity of each table of failures, in entries of about 64 bytes.
const FAILURE_CAPACITY: usize = 65_536;

/// Capacity of the table of users who have logged in.
const REGULAR_CAPACITY: usize = 10_000;

/// Time to wait while other attempts are checked, in the answer to the client.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// Failures of networks, and of users in networks.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    tables: Mutex<Tables>,
    /// Random keys for the hashes of user names, so that no client finds two names with one hash.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Tables {
    networks: HashMap<Network, Failures>,
    users: HashMap<UserInNetwork, Failures>,
    /// Last success of users in networks.
    regulars: HashMap<UserInNetwork, Instant>,
}

/// User, as a hash of the name, in a network.
type UserInNetwork = (Network, u64);

/// Failures in a row, and attempts that are being checked.
#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    in_flight: u32,
    /// Begin or end of the last attempt, from which the next one keeps its distance.
    last_attempt: Instant,
    /// Last wrong password, from which the failures decay; attempts that succeed do not prolong them.
    last_failure: Instant,
}

/// Attempt that is being checked. Dropped without an outcome, the attempt counts as none.
#[derive(Debug)]
pub(super) struct Attempt {
    throttle: Arc<Throttle>,
    user: UserInNetwork,
    is_settled: bool,
}

/// Refusal of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Throttled {
    /// Time after which the client may try again, from 1 second.
    pub(super) retry_after: Duration,
}

/// Outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttemptOutcome {
    Right,
    Wrong,
    NotChecked,
}

// === impl Throttle ===

impl Throttle {
    /// Begins an attempt, unless there were too many failures.
    pub(super) fn begin(
        self: &Arc<Self>,
        network: Network,
        user: &str,
        now: Instant,
    ) -> Result<Attempt, Throttled> {
        let user = (network, self.hasher.hash_one(user));
        self.lock().begin(user, now)?;
        Ok(Attempt { throttle: self.clone(), user, is_settled: false })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of entries of all tables.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let tables = self.lock();
        tables.networks.len() + tables.users.len() + tables.regulars.len()
    }
}

// === impl Tables ===

impl Tables {
    fn begin(&mut self, user: UserInNetwork, now: Instant) -> Result<(), Throttled> {
        let (network, _) = user;
        if let Some(failures) = self.users.get_mut(&user) {
            failures.decay(now);
            failures.permit(FREE_FAILURES.saturating_sub(failures.count), now)?;
        }
        let is_regular = self.regulars.contains_key(&user);
        if let Some(failures) = self.networks.get_mut(&network).filter(|_| !is_regular) {
            failures.decay(now);
            failures.permit(MAX_NETWORK_ATTEMPTS_IN_FLIGHT, now)?;
        }
        make_room(&mut self.networks, FAILURE_CAPACITY, Failures::age);
        make_room(&mut self.users, FAILURE_CAPACITY, Failures::age);
        self.networks.entry(network).or_insert_with(|| Failures::none(now)).begin(now);
        self.users.entry(user).or_insert_with(|| Failures::none(now)).begin(now);
        Ok(())
    }

    fn settle(&mut self, user: UserInNetwork, outcome: AttemptOutcome, now: Instant) {
        let (network, _) = user;
        settle(&mut self.networks, &network, outcome, now);
        settle(&mut self.users, &user, outcome, now);
        if outcome == AttemptOutcome::Right {
            self.users.remove(&user);
            make_room(&mut self.regulars, REGULAR_CAPACITY, |last| (false, *last));
            self.regulars.insert(user, now);
        }
    }
}

/// Counts the end of an attempt, and removes an entry that holds nothing any more.
fn settle<K: Eq + Hash>(table: &mut HashMap<K, Failures>, key: &K, outcome: AttemptOutcome, now: Instant) {
    let Some(failures) = table.get_mut(key) else { return };
    failures.in_flight = failures.in_flight.saturating_sub(1);
    if outcome == AttemptOutcome::Wrong {
        failures.count = failures.count.saturating_add(1);
        failures.last_attempt = now;
        failures.last_failure = now;
    }
    if failures.count == 0 && failures.in_flight == 0 {
        table.remove(key);
    }
}

/// Removes the oldest quarter of a full table, but no entry that is in use. A quarter at once spreads the
/// cost of the search over many insertions.
fn make_room<K: Clone + Eq + Hash, V>(
    table: &mut HashMap<K, V>,
    capacity: usize,
    age: impl Fn(&V) -> (bool, Instant),
) {
    if table.len() < capacity {
        return;
    }
    let mut ages: Vec<_> = table.values().map(&age).collect();
    let (_, &mut border, _) = ages.select_nth_unstable(capacity / 4);
    table.retain(|_, value| age(value) > border);
}

// === impl Failures ===

impl Failures {
    const fn none(now: Instant) -> Self {
        Self { count: 0, in_flight: 0, last_attempt: now, last_failure: now }
    }

    /// Returns the order in which entries leave a full table.
    const fn age(&self) -> (bool, Instant) {
        (self.in_flight > 0, self.last_attempt)
    }

    fn decay(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last_failure) >= DECAY_TIME {
            self.count = 0;
        }
    }

    /// Permits an attempt, with at most `max_in_flight` at once below the free failures.
    fn permit(&self, max_in_flight: u32, now: Instant) -> Result<(), Throttled> {
        if self.count >= FREE_FAILURES {
            let wait = (self.last_attempt + SLOW_INTERVAL).saturating_duration_since(now);
            return if wait.is_zero() {
                Ok(())
            } else {
                Err(Throttled { retry_after: wait.max(SHORT_WAIT) })
            };
        }
        if self.in_flight >= max_in_flight {
            return Err(Throttled { retry_after: SHORT_WAIT });
        }
        Ok(())
    }

    fn begin(&mut self, now: Instant) {
        self.in_flight += 1;
        self.last_attempt = now;
    }
}

// === impl Attempt ===

impl Attempt {
    /// Counts a right password.
    pub(super) fn succeeded(mut self, now: Instant) {
        self.settle(AttemptOutcome::Right, now);
    }

    /// Counts a wrong password.
    pub(super) fn failed(mut self, now: Instant) {
        self.settle(AttemptOutcome::Wrong, now);
    }

    fn settle(&mut self, outcome: AttemptOutcome, now: Instant) {
        self.is_settled = true;
        self.throttle.lock().settle(self.user, outcome, now);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_settled {
            self.settle(AttemptOutcome::NotChecked, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOME: Network = Network::V4(1);
    const AWAY: Network = Network::V4(2);

    fn throttle() -> Arc<Throttle> {
        Arc::default()
    }

    fn fail(throttle: &Arc<Throttle>, network: Network, user: &str, now: Instant) -> Result<(), Duration> {
        let attempt = throttle.begin(network, user, now).map_err(|refused| refused.retry_after)?;
        attempt.failed(now);
        Ok(())
    }

    #[test]
    fn ten_failures_are_free_then_one_each_three_seconds() {
        let (throttle, begin) = (throttle(), Instant::now());
        for _ in 0..10 {
            assert_eq!(fail(&throttle, HOME, "alice", begin), Ok(()));
        }
        assert_eq!(fail(&throttle, HOME, "alice", begin), Err(SECOND * 3));
        assert_eq!(fail(&throttle, HOME, "alice", begin + SECOND * 2), Err(SECOND));
        assert_eq!(fail(&throttle, HOME, "alice", begin + SECOND * 3), Ok(()));
        assert_eq!(fail(&throttle, HOME, "alice", begin + SECOND * 4), Err(SECOND * 2));
    }

    #[test]
    fn failures_are_forgotten_after_five_minutes() {
        let (throttle, begin) = (throttle(), Instant::now());
        for _ in 0..10 {
            fail(&throttle, HOME, "alice", begin).unwrap();
        }
        let later = begin + DECAY_TIME;
        for _ in 0..10 {
            assert_eq!(fail(&throttle, HOME, "alice", later), Ok(()));
        }
        assert!(fail(&throttle, HOME, "alice", later).is_err());
    }

    #[test]
    fn right_passwords_do_not_prolong_the_failures_of_their_network() {
        let (throttle, begin) = (throttle(), Instant::now());
        for number in 0..10 {
            fail(&throttle, HOME, &format!("typo{number}"), begin).unwrap();
        }
        for minute in 1..5 {
            let now = begin + SECOND * 60 * minute;
            throttle.begin(HOME, &format!("user{minute}"), now).unwrap().succeeded(now);
            assert!(throttle.begin(HOME, "neighbour", now).is_err(), "minute {minute}");
        }
        let later = begin + DECAY_TIME;
        let pending = throttle.begin(HOME, "slow", later).unwrap();
        throttle.begin(HOME, "neighbour", later).unwrap().succeeded(later);
        drop(pending);
        // Failures also decay while another attempt is being checked.
        for number in 0..10 {
            assert_eq!(fail(&throttle, HOME, &format!("more{number}"), later), Ok(()));
        }
        assert!(throttle.begin(HOME, "stranger", later + SECOND).is_err());
        let last = later + DECAY_TIME;
        let pending = throttle.begin(HOME, "slow", later + DECAY_TIME.saturating_sub(SECOND)).unwrap();
        assert!(throttle.begin(HOME, "one", last).is_ok() && throttle.begin(HOME, "two", last).is_ok());
        drop(pending);
    }

    #[test]
    fn another_network_can_still_log_the_user_in() {
        let (throttle, now) = (throttle(), Instant::now());
        for _ in 0..1000 {
            let _ = fail(&throttle, AWAY, "alice", now);
        }
        throttle.begin(HOME, "alice", now).unwrap().succeeded(now);
    }

    #[test]
    fn many_names_of_one_network_share_a_limit() {
        let (throttle, now) = (throttle(), Instant::now());
        for number in 0..10 {
            assert_eq!(fail(&throttle, HOME, &format!("user{number}"), now), Ok(()));
        }
        assert_eq!(fail(&throttle, HOME, "one more", now), Err(SECOND * 3));
    }

    #[test]
    fn a_user_who_has_logged_in_is_not_slowed_down_by_neighbours() {
        let (throttle, now) = (throttle(), Instant::now());
        throttle.begin(HOME, "alice", now).unwrap().succeeded(now);
        for number in 0..100 {
            let _ = fail(&throttle, HOME, &format!("user{number}"), now);
        }
        assert!(throttle.begin(HOME, "new", now).is_err());
        throttle.begin(HOME, "alice", now).unwrap().succeeded(now);
        for _ in 0..10 {
            assert_eq!(fail(&throttle, HOME, "alice", now), Ok(()));
        }
        assert_eq!(fail(&throttle, HOME, "alice", now), Err(SECOND * 3), "the user's own failures count");
    }

    #[test]
    fn a_right_password_ends_the_failures_of_the_user() {
        let (throttle, now) = (throttle(), Instant::now());
        for _ in 0..9 {
            fail(&throttle, HOME, "alice", now).unwrap();
        }
        throttle.begin(HOME, "alice", now).unwrap().succeeded(now);
        for _ in 0..10 {
            assert_eq!(fail(&throttle, HOME, "alice", now), Ok(()));
        }
    }

    #[test]
    fn attempts_that_are_being_checked_count_until_they_end() {
        let (throttle, now) = (throttle(), Instant::now());
        let attempts: Vec<_> = (0..10).map(|_| throttle.begin(HOME, "alice", now).unwrap()).collect();
        assert_eq!(throttle.begin(HOME, "alice", now).unwrap_err().retry_after, SECOND);
        drop(attempts);
        assert_eq!(throttle.len(), 0, "attempts that were not checked leave nothing behind");
        let attempts: Vec<_> = (0..32).map(|n| throttle.begin(HOME, &n.to_string(), now).unwrap()).collect();
        assert!(throttle.begin(HOME, "one more", now).is_err());
        for attempt in attempts {
            attempt.succeeded(now);
        }
        throttle.begin(HOME, "one more", now).unwrap().succeeded(now);
    }

    #[test]
    fn the_tables_are_bounded() {
        let (throttle, begin) = (throttle(), Instant::now());
        for number in 0..200_000_u32 {
            let now = begin + Duration::from_millis(number.into());
            fail(&throttle, Network::V6(number.into()), "alice", now).unwrap();
        }
        for number in 0..30_000_u32 {
            let now = begin + Duration::from_millis(number.into());
            throttle.begin(Network::V4(number), "bob", now).unwrap().succeeded(now);
        }
        let len = throttle.len();
        assert!(len <= 2 * FAILURE_CAPACITY + REGULAR_CAPACITY, "{len}");
        // The latest entries are there.
        for _ in 0..9 {
            fail(&throttle, Network::V6(199_999), "alice", begin + SECOND * 200).unwrap();
        }
        assert!(fail(&throttle, Network::V6(199_999), "alice", begin + SECOND * 200).is_err());
    }
}
