//! Tests of the task that scrubs, and of the reads that make content a suspect.

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::{Access, Filesystem};
use tower_service::Service as _;

use super::*;
use crate::State;

/// Time in which each condition of these tests holds.
const PATIENCE: Duration = Duration::from_secs(30);

struct Registry {
    folder: tempfile::TempDir,
    state: State,
    store: Store,
    digest: Digest,
}

const BYTES: &[u8] = b"bytes of a blob";

/// Makes a registry on a folder with one blob.
fn registry(settings: Settings) -> Registry {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Filesystem::open(folder.path(), Access::Write).unwrap(), false).unwrap();
    let (name, digest): (RepositoryName, _) = ("a".parse().unwrap(), Digest::sha256(BYTES));
    let mut receiver = store.receive(&digest, None).unwrap();
    receiver.append(BYTES).unwrap();
    store.commit(&name, &mut receiver, &digest).unwrap();
    let state = State::stored(store.clone(), settings);
    Registry { folder, state, store, digest }
}

impl Registry {
    fn damage(&self) {
        let hex = self.digest.hex();
        let path = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        std::fs::write(self.folder.path().join(path), b"other bytes ???").unwrap();
    }

    async fn status(&self, method: &str) -> StatusCode {
        let path = format!("/v2/a/blobs/{}", self.digest);
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = self.state.clone().call(request).await.unwrap();
        let status = response.status();
        response.into_body().collect().await.unwrap();
        status
    }

    async fn quarantined(&self) {
        let quarantined = async {
            while self.store.quarantined().unwrap().is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, quarantined).await.expect("the blob is quarantined");
    }
}

fn settings(interval: Duration, read_only: bool) -> Settings {
    Settings { scrub: Scrub { interval, ..Scrub::default() }, read_only, ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_without_a_client() {
    let registry = registry(settings(Duration::from_millis(1), false));
    registry.damage();
    let task = tokio::spawn(registry.state.scrub(Vec::new()));
    registry.quarantined().await;
    assert_eq!(registry.status("HEAD").await, StatusCode::NOT_FOUND);
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_a_client_found_is_treated_though_the_rounds_are_off() {
    let registry = registry(settings(Duration::ZERO, false));
    registry.damage();
    let task = tokio::spawn(registry.state.scrub(Vec::new()));
    assert_eq!(registry.status("HEAD").await, StatusCode::NOT_FOUND);
    registry.quarantined().await;
    assert_eq!(registry.status("GET").await, StatusCode::NOT_FOUND);
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_read_only_removes_nothing_until_it_is_not() {
    let registry = registry(settings(Duration::from_millis(1), true));
    registry.damage();
    let task = tokio::spawn(registry.state.scrub(Vec::new()));
    assert_eq!(registry.status("HEAD").await, StatusCode::NOT_FOUND);
    assert!(registry.store.quarantined().unwrap().is_empty());
    assert_eq!(registry.store.scrub_statistics().checked, 0);
    registry.state.replace_settings(settings(Duration::from_millis(1), false));
    registry.quarantined().await;
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_scrub_ends_with_its_settings_and_with_the_registry() {
    let mut slow = settings(Duration::from_millis(1), false);
    slow.scrub.rate = NonZeroU64::MIN;
    let registry = registry(slow);
    let store = registry.store.clone();
    let task = tokio::spawn(registry.state.scrub(Vec::new()));
    let checking = async {
        while store.scrub_statistics().checked == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, checking).await.expect("the check has begun");
    // The first check takes hours at one byte per second.
    registry.damage();
    registry.state.replace_settings(settings(Duration::from_millis(1), false));
    registry.quarantined().await;
    drop(registry);
    tokio::time::timeout(PATIENCE, task).await.expect("the task ends").unwrap();
}

#[test]
fn a_clock_that_was_stopped_does_not_wait() {
    let clock = StopClock::new();
    assert!(clock.pause(Duration::ZERO).is_continue());
    clock.stop();
    assert!(clock.pause(Duration::from_hours(1000)).is_break());
}
