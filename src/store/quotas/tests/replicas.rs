//! Bound of what several replicas accept beyond a limit.

use std::time::Duration;

use super::*;

/// Time after which what a replica accepts counts in all of them, as the documents say.
const DELAY: Duration = Duration::from_secs(30);

/// Time between two looks at the exchanges that are due.
const STEP: Duration = Duration::from_secs(5);

const LIMIT: u64 = 20_000;

/// Replicas of one storage, each of which exchanges its usage at its own times.
struct Replicas {
    storage: SharedMemory,
    stores: Vec<Store>,
    /// Steps after which each replica exchanges for the first time.
    phases: [u64; 3],
    interval_steps: u64,
    steps: u64,
}

/// Returns the number of steps between two exchanges.
fn interval_steps() -> u64 {
    let store = Store::open(SharedMemory::new(), false).unwrap();
    store.set_quotas(vec![quota("a/", Some(LIMIT), None)]);
    store.usage_interval().unwrap().as_secs() / STEP.as_secs()
}

impl Replicas {
    fn new(phases: [u64; 3]) -> Self {
        let storage = SharedMemory::new();
        storage.stop_clock();
        let stores: Vec<Store> = phases.iter().map(|_| Store::open(storage.view(), false).unwrap()).collect();
        for store in &stores {
            store.set_quotas(vec![quota("a/", Some(LIMIT), None)]);
            store.load_usage().unwrap();
        }
        Self { storage, stores, phases, interval_steps: interval_steps(), steps: 0 }
    }

    /// Lets a step of time pass, and exchanges what is due.
    fn pass(&mut self) {
        self.storage.advance(STEP);
        self.steps += 1;
        for (store, phase) in self.stores.iter().zip(self.phases) {
            if self.steps % self.interval_steps == phase {
                store.exchange_usage().unwrap();
            }
        }
    }

    fn rest(&mut self) {
        (0..DELAY.as_secs() / STEP.as_secs()).for_each(|_| self.pass());
    }

    fn used(&self, replica: usize) -> u64 {
        self.stores[replica].quota_usage()[0].1.expect("the usage is known").bytes
    }

    fn stored(&self) -> u64 {
        scanned(&self.stores[0], "a/").bytes
    }

    /// Fails unless each replica knows exactly what is stored.
    fn assert_exact(&self, what: &str) {
        for replica in 0..self.stores.len() {
            assert_eq!(self.used(replica), self.stored(), "replica {replica}, {what}");
        }
    }
}

/// Returns all orders in which three replicas can exchange.
fn phases() -> impl Iterator<Item = [u64; 3]> {
    let interval = interval_steps();
    (0..interval).flat_map(move |one| (0..interval).map(move |two| [0, one, two]))
}

#[test]
fn what_a_replica_accepts_counts_in_the_others_half_a_minute_later() {
    for phases in phases() {
        for at in 0..interval_steps() {
            for pushing in 0..3 {
                let mut replicas = Replicas::new(phases);
                (0..at).for_each(|_| replicas.pass());
                push_blob(&replicas.stores[pushing], "a/app", &[1; 700]).unwrap();
                replicas.rest();
                replicas.assert_exact(&format!("{phases:?}, pushed to {pushing} in step {at}"));
            }
        }
    }
}

/// Pushes blobs of a length by all replicas at once. Returns the bytes that each has accepted.
fn push_at_once(replicas: &Replicas, counts: &[u64], bytes: usize, round: usize) -> Vec<u64> {
    let push = |replica: usize, count: u64| {
        let mut accepted = 0;
        for number in 0..count {
            let mut content = format!("{replica} {round} {number} ").into_bytes();
            content.resize(bytes, b'.');
            match push_blob(&replicas.stores[replica], "a/app", &content) {
                Ok(_) => accepted += content.len() as u64,
                Err(StoreError::QuotaExceeded(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        accepted
    };
    thread::scope(|scope| {
        let threads: Vec<_> = counts
            .iter()
            .enumerate()
            .map(|(replica, count)| scope.spawn(move || push(replica, *count)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn replicas_exceed_a_limit_by_what_the_others_accept_in_half_a_minute() {
    let mut most = 0;
    for (seed, phases) in phases().enumerate() {
        let mut replicas = Replicas::new(phases);
        let mut random = seed as u64 + 1;
        let mut next = move |below: u64| {
            // Xorshift with a multiplication: small seeds give small numbers otherwise.
            random ^= random >> 12;
            random ^= random << 25;
            random ^= random >> 27;
            random.wrapping_mul(0x2545_F491_4F6C_DD1D) % below
        };
        let mut accepted: Vec<Vec<u64>> = Vec::new();
        for round in 0..24 {
            let counts = [next(4), next(4), next(4)];
            accepted.push(push_at_once(&replicas, &counts, 500, round));
            // This step, and those of the half minute before it.
            let recent =
                accepted.iter().rev().take(1 + usize::try_from(DELAY.as_secs() / STEP.as_secs()).unwrap());
            let by = |replica: usize| recent.clone().map(|accepted| accepted[replica]).sum::<u64>();
            let others = [by(1) + by(2), by(0) + by(2), by(0) + by(1)];
            let stored = replicas.stored();
            let bound = LIMIT + others.into_iter().max().unwrap();
            // Later, all know of what is there, and accept no more.
            let accepts = accepted[round].iter().any(|bytes| *bytes > 0);
            assert!(
                !accepts || stored <= bound,
                "{phases:?}, round {round}: {stored} bytes, at most {bound}"
            );
            most = most.max(stored);
            replicas.pass();
        }
        replicas.rest();
        replicas.assert_exact(&format!("{phases:?}"));
        for store in &replicas.stores {
            assert!(is_refused(push_blob(store, "a/app", &[1; 500])), "{phases:?}");
        }
    }
    assert!(most > LIMIT, "the limit was never exceeded");
}

#[test]
fn a_mark_makes_exact_what_replicas_have_counted_twice() {
    let mut replicas = Replicas::new([0, 1, 2]);
    thread::scope(|scope| {
        for store in &replicas.stores {
            scope.spawn(move || push_blob(store, "a/app", &[1; 700]).unwrap());
        }
    });
    // All windows so far end before the mark.
    replicas.rest();
    replicas.stores[0].renew_lead().unwrap();
    let lead = replicas.stores[0].lead().expect("no other replica leads");
    replicas.stores[0].renew_usage_base(&lead).unwrap();
    replicas.rest();
    assert_eq!(replicas.stored(), 700);
    replicas.assert_exact("after a mark");
}
