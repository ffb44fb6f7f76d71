//! The lead: of many replicas one acts, one that stops is followed, and one that wakes up does not act.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinistry_oci::RepositoryName;

use super::storage::SharedMemory;
use super::{name, push_blob};
use crate::layout::{RepositoryKeys, leaders, register};
use crate::storage::Storage as _;
use crate::{Lead, LocalClock, Store};

/// Greatest number of rounds of requests of an attempt to lead.
const MAX_ROUNDS: usize = 8;

const SECOND: Duration = Duration::from_secs(1);

/// Replicas over one storage, on machines whose clocks run alike.
struct Replicas {
    storage: SharedMemory,
    time: Arc<Mutex<Duration>>,
    stores: Vec<(SharedMemory, Store)>,
}

impl Replicas {
    fn new(count: usize) -> Self {
        Self::on(SharedMemory::new(), count)
    }

    fn on(storage: SharedMemory, count: usize) -> Self {
        storage.stop_clock();
        let time = Arc::new(Mutex::new(Duration::from_hours(1)));
        let open = |_| {
            let (view, time) = (storage.view(), time.clone());
            let store = Store::open_replica(view.clone(), LocalClock::of(move || *time.lock().unwrap()));
            (view, store.unwrap())
        };
        let stores = (0..count).map(open).collect();
        Self { storage, time, stores }
    }

    fn store(&self, index: usize) -> &Store {
        &self.stores[index].1
    }

    /// Lets seconds pass, one by one, and checks at each that at most one replica acts.
    fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.storage.advance(SECOND);
            *self.time.lock().unwrap() += SECOND;
            self.leader();
        }
    }

    /// Returns the replica that acts; `None` if none does.
    fn leader(&self) -> Option<usize> {
        let acting: Vec<usize> =
            (0..self.stores.len()).filter(|index| self.store(*index).lead().is_some()).collect();
        assert!(acting.len() <= 1, "{acting:?} act at the same time");
        acting.first().copied()
    }

    fn renew(&self, indices: impl IntoIterator<Item = usize>) -> Option<usize> {
        for index in indices {
            self.store(index).renew_lead().unwrap();
        }
        self.leader()
    }

    fn has_terms(&self) -> usize {
        self.storage.bytes().list(&leaders()).unwrap().unwrap_or_default().len()
    }
}

#[test]
fn of_many_replicas_exactly_one_leads() {
    let replicas = Replicas::new(5);
    let leader = replicas.renew(0..5);
    assert!(leader.is_some());
    for round in 0..30 {
        replicas.pass(10);
        assert_eq!(replicas.renew((0..5).map(|index| (index + round) % 5)), leader);
    }
    assert_eq!(replicas.has_terms(), 1, "the leader overwrites its own register");
    assert_eq!(replicas.store(leader.unwrap()).lead().unwrap().term(), Some(1));
}

#[test]
fn a_leader_that_stops_is_followed_and_does_not_act_when_it_wakes_up() {
    let replicas = Replicas::new(3);
    assert_eq!(replicas.renew(0..3), Some(0));
    let held = replicas.store(0).lead().unwrap();
    assert_eq!(held.deadline(), Some(*replicas.time.lock().unwrap() + 20 * SECOND));
    replicas.pass(19);
    assert!(held.still());
    replicas.pass(1);
    assert!(!held.still() && replicas.store(0).lead().is_none(), "20 s after the last renewal");
    assert_eq!(replicas.renew(1..3), None);
    replicas.pass(10);
    assert_eq!(replicas.renew(1..3), None, "a term lasts for 30 s");
    replicas.pass(1);
    assert_eq!(replicas.renew(1..3), Some(1));
    assert_eq!(replicas.has_terms(), 1, "former registers are removed");
    // The first leader wakes up, and finds its register gone and a higher one.
    assert_eq!(replicas.renew([0]), Some(1));
    replicas.pass(10);
    assert_eq!(replicas.renew([0, 2, 1]), Some(1));
    assert_eq!(replicas.store(1).lead().and_then(|lead| lead.term()), Some(2));
    assert!(!held.still());
}

#[test]
fn a_leader_whose_renewals_fail_stops_to_act_and_goes_on_when_they_succeed() {
    let replicas = Replicas::new(2);
    assert_eq!(replicas.renew(0..2), Some(0));
    replicas.stores[0].0.set_read_only(true);
    replicas.pass(10);
    replicas.store(0).renew_lead().unwrap_err();
    assert_eq!(replicas.leader(), Some(0));
    replicas.pass(10);
    replicas.store(0).renew_lead().unwrap_err();
    assert_eq!(replicas.leader(), None);
    replicas.stores[0].0.set_read_only(false);
    assert_eq!(replicas.renew([0, 1]), Some(0));
}

#[test]
fn no_two_replicas_act_whatever_comes_between_their_requests() {
    let pauses = [0, 5, 11, 21, 25, 31, 45];
    let (mut followed, mut tried) = (0, 0);
    for before in pauses {
        for round in 0..MAX_ROUNDS {
            for pause in pauses {
                for after in pauses {
                    let replicas = Arc::new(Replicas::new(3));
                    replicas.renew(0..3);
                    replicas.pass(before);
                    let others = replicas.clone();
                    // Between two requests of one replica time passes, and the others send all of theirs.
                    let outer = tried % 2;
                    replicas.stores[outer].0.before_round(round, move || {
                        others.pass(pause);
                        others.renew((0..3).filter(|index| *index != outer));
                        others.pass(after);
                    });
                    replicas.renew([outer]);
                    tried += 1;
                    if replicas.stores[outer].0.forget_hook() {
                        continue;
                    }
                    for step in [0, 1, 10, 10, 10] {
                        replicas.pass(step);
                        replicas.renew([2, 1, 0]);
                    }
                    followed += usize::from(replicas.leader().is_some_and(|leader| leader > 0));
                }
            }
        }
    }
    assert!(followed > 100, "{followed} of {tried}");
}

#[test]
fn a_renewal_that_arrives_late_gives_no_right() {
    let replicas = Replicas::new(2);
    assert_eq!(replicas.renew(0..2), Some(0));
    // The other replica has seen an old term; before it creates the next one, the holder renews its own.
    replicas.pass(31);
    let holder = replicas.store(0).clone();
    replicas.stores[1].0.before_round(1, move || holder.renew_lead().unwrap());
    assert_eq!(replicas.renew([1]), Some(0), "the former holder acts");
    replicas.pass(10);
    assert_eq!(replicas.renew([1]), Some(0), "the former holder may still act");
    assert_eq!(replicas.renew([0]), None, "the former holder sees the new term");
    replicas.pass(22);
    assert_eq!(replicas.renew([1]), None, "the last renewal may be as old as the right that it gave");
    replicas.pass(1);
    assert_eq!(replicas.renew([1]), Some(1));
}

#[test]
fn a_reader_never_leads() {
    let storage = SharedMemory::new();
    let reader = super::replica(&storage.read_only_view());
    reader.renew_lead().unwrap();
    assert!(reader.lead().is_none() && reader.lead_interval().is_none());
    assert!(!storage.bytes().exists(&leaders()).unwrap());
}

#[test]
fn a_process_that_has_the_storage_to_itself_leads() {
    let store = Store::open(crate::Memory::new(1 << 20), false).unwrap();
    let lead: Lead = store.lead().unwrap();
    assert_eq!((lead.still(), lead.term(), lead.deadline()), (true, None, None));
    store.renew_lead().unwrap();
    assert_eq!(store.lead_interval(), None);
}

#[test]
fn the_leader_alone_completes_the_catalog() {
    let storage = SharedMemory::new();
    let old: RepositoryName = "old".parse().unwrap();
    let link = RepositoryKeys(&old).layer_link(&quinistry_oci::Digest::sha256(b""));
    storage.bytes().write(&[&[(link, b"x")]]).unwrap();
    let replicas = Replicas::on(storage, 2);
    assert_eq!(replicas.renew(0..2), Some(0));
    push_blob(replicas.store(1), "new", b"{}").unwrap();
    replicas.store(1).maintain().unwrap();
    let has_register = || replicas.storage.bytes().head(&register(&name("old"))).unwrap().is_some();
    assert!(!has_register());
    replicas.store(0).maintain().unwrap();
    assert!(has_register());
}
