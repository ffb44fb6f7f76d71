//! States of connections that a command reads from the storage.

use std::time::Duration;

use http::StatusCode;

use super::scripted::Outage;
use super::{Mirror, manifest_path};
use crate::upstreams::states::record;
use crate::upstreams::{ConnectionState, UpstreamState, recorded_states};

impl Mirror {
    /// Records the states, and returns that of the only upstream. `recorded` is what was recorded before.
    async fn recorded_state(
        &self,
        recorded: &mut Option<super::super::states::RecordedStates>,
    ) -> UpstreamState {
        let settings = self.state.0.settings.current().clone();
        record(self.stored(), &settings, recorded).await;
        recorded_states(self.store()).unwrap().expect("a record").upstreams.remove(0)
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
