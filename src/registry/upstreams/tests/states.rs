//! States of connections that a command reads from the storage.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use quinistry_bucket::testing::{FaultPlan, Faulty, Mem, MemOptions, StoreClock};
use quinistry_store::{LocalClock, Store};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::scripted::{Outage, Scripted};
use super::{Mirror, hub_settings, manifest_path};
use crate::Settings;
use crate::tests::replicas::{SharedBucket, storage};
use crate::upstreams::states::{RecordedStates, record};
use crate::upstreams::{ConnectionState, UpstreamState, recorded_states};

impl Mirror {
    /// Records the states, and returns that of the only upstream. `recorded` is what was recorded before.
    async fn recorded_state(&self, recorded: &mut Option<RecordedStates>) -> UpstreamState {
        let settings = self.state.0.settings.current().clone();
        record(self.stored(), &settings, recorded).await;
        // A bucket is asked where threads may block.
        let store = self.store().clone();
        let states = spawn_blocking(move || recorded_states(&store)).await.unwrap();
        states.unwrap().expect("a record").upstreams.remove(0)
    }

    fn stored(&self) -> &crate::LimitedStore {
        self.state.0.stored.as_ref().unwrap()
    }
}

#[tokio::test]
async fn the_storage_tells_whether_an_upstream_answers_fails_or_is_paused() {
    let (mirror, mut recorded) = (Mirror::new(), None);
    assert_eq!(recorded_states(mirror.store()).unwrap(), None);
    assert_eq!(mirror.recorded_state(&mut recorded).await.state, ConnectionState::NotAsked);
    assert_eq!(mirror.get(&manifest_path("absent")).await.status, StatusCode::NOT_FOUND);
    let up = mirror.recorded_state(&mut recorded).await;
    assert_eq!((up.state, up.last_error), (ConnectionState::Up, None));
    mirror.upstream.fail(Outage::Away);
    for tag in ["a", "b", "c"] {
        assert_eq!(mirror.get(&manifest_path(tag)).await.status, StatusCode::BAD_GATEWAY);
    }
    let failing = mirror.recorded_state(&mut recorded).await;
    assert_eq!(failing.state, ConnectionState::Failing);
    assert!(failing.failing_since.is_some() && failing.last_error.is_some(), "{failing:?}");
    mirror.pass(Duration::from_mins(1));
    mirror.upstream.fail(Outage::Limited(Some(120)));
    assert_eq!(mirror.get(&manifest_path("d")).await.status, StatusCode::TOO_MANY_REQUESTS);
    let paused = mirror.recorded_state(&mut recorded).await;
    assert_eq!((paused.state, paused.last_error), (ConnectionState::Paused, None));
    assert!(paused.paused_until.is_some());
}

#[tokio::test]
async fn states_are_written_when_one_has_changed() {
    let (mirror, mut recorded) = (Mirror::new(), None);
    mirror.recorded_state(&mut recorded).await;
    let settings = mirror.state.0.settings.current().clone();
    mirror.store().record_upstream_states(b"not written again").unwrap();
    record(mirror.stored(), &settings, &mut recorded).await;
    assert_eq!(recorded_states(mirror.store()).unwrap(), None);
    mirror.get(&manifest_path("absent")).await;
    assert_eq!(mirror.recorded_state(&mut recorded).await.state, ConnectionState::Up);
}

/// Replicas of a registry on one bucket, which ask one upstream.
struct Replicas {
    clock: StoreClock,
    time: Arc<Mutex<Duration>>,
    bucket: SharedBucket,
}

impl Replicas {
    fn new() -> Self {
        let clock = StoreClock::system();
        let bucket = Faulty::new(Mem::new(MemOptions::default(), clock.clone()), FaultPlan::default());
        Self { clock, time: Arc::new(Mutex::new(Duration::from_hours(1))), bucket: Arc::new(bucket) }
    }

    async fn start(&self) -> Mirror {
        let (bucket, runtime, time) = (self.bucket.clone(), Handle::current(), self.time.clone());
        let clock = LocalClock::of(move || *time.lock().unwrap());
        let open = move || Store::open_replica(storage(bucket, runtime, 4), clock).unwrap();
        let store = spawn_blocking(open).await.unwrap();
        Mirror::on(store, hub_settings(), Settings::default(), Scripted::new())
    }

    /// Has a replica lead after the former leader has been away for a minute.
    async fn lead(&self, mirror: &Mirror) {
        self.clock.advance(Duration::from_mins(1));
        *self.time.lock().unwrap() += Duration::from_mins(1);
        renew_lead(mirror).await;
        assert!(mirror.store().lead().is_some());
    }
}

async fn renew_lead(mirror: &Mirror) {
    let store = mirror.store().clone();
    spawn_blocking(move || store.renew_lead()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_replica_that_leads_again_replaces_the_states_of_the_one_that_led_in_between() {
    let replicas = Replicas::new();
    let ([one, other], [mut of_one, mut of_other]) =
        ([replicas.start().await, replicas.start().await], [const { None }; 2]);
    replicas.lead(&one).await;
    assert_eq!(one.recorded_state(&mut of_one).await.state, ConnectionState::NotAsked);
    replicas.lead(&other).await;
    other.get(&manifest_path("absent")).await;
    assert_eq!(other.recorded_state(&mut of_other).await.state, ConnectionState::Up);
    // The loss and the gain lie between two records.
    renew_lead(&one).await;
    replicas.lead(&one).await;
    assert_eq!(one.recorded_state(&mut of_one).await.state, ConnectionState::NotAsked);
}
