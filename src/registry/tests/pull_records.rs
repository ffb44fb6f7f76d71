//! Objects that pulls through the router write, as the task of records decides.

use http::header::CONTENT_TYPE;
use quinistry_oci::{RepositoryName, media_type};
use quinistry_store::LastPull;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::PullRecording;
use crate::records::{Intervals, write_records};

/// Intervals of a day.
const INTERVALS: usize = 24 * 4;

/// Tags that clients pull for the first time in the hour, in each interval.
const NEW_TAGS: usize = 5;

/// Intervals that a test ends. The task of records says when it waits, and thus has written what it had to.
struct Told {
    waits: mpsc::UnboundedSender<()>,
    ends: mpsc::UnboundedReceiver<()>,
}

impl Intervals for Told {
    async fn end(&mut self) {
        // The test may be over.
        let _ = self.waits.send(());
        if self.ends.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Registry that records all pulls, with its task of records.
struct Registry {
    state: State,
    store: Store,
    waits: mpsc::UnboundedReceiver<()>,
    ends: mpsc::UnboundedSender<()>,
    task: JoinHandle<()>,
    /// Ends the task when it is dropped.
    _settings: watch::Sender<Arc<Settings>>,
}

impl Registry {
    async fn start() -> Self {
        let store = Store::open(Memory::new(64 << 20), false).unwrap();
        let settings = Settings { pulls: Some(PullRecording::unless(|_| false)), ..Settings::default() };
        let state = State::stored(store.clone(), settings.clone());
        let (waits, ends) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let told = Told { waits: waits.0, ends: ends.1 };
        let (sender, settings) = watch::channel(Arc::new(settings));
        let task = tokio::spawn({
            let store = store.clone();
            async move { write_records(&store, settings, told).await }
        });
        let mut registry = Self { state, store, waits: waits.1, ends: ends.0, task, _settings: sender };
        registry.waits.recv().await.expect("the task runs");
        registry
    }

    async fn ask(&self, method: Method, path: &str, body: &'static [u8]) -> StatusCode {
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, media_type::OCI_INDEX);
        let request = request.body(Body::from(body)).unwrap();
        let response = router(self.state.clone()).call(request).await.unwrap();
        let status = response.status();
        response.into_body().collect().await.unwrap();
        status
    }

    /// Ends an interval, and waits until the records of it are written.
    async fn end_interval(&mut self) {
        self.ends.send(()).unwrap();
        self.waits.recv().await.expect("the task runs");
    }
}

#[tokio::test]
async fn any_number_of_pulls_writes_an_object_in_a_quarter_of_an_hour() {
    let mut registry = Registry::start().await;
    let index: &[u8] =
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    for tag in 0..INTERVALS * NEW_TAGS {
        let path = format!("/v2/app/manifests/v{tag}");
        assert_eq!(registry.ask(Method::PUT, &path, index).await, StatusCode::CREATED);
    }
    let mut pulls = 0;
    for interval in 0..INTERVALS {
        for tag in interval * NEW_TAGS..(interval + 1) * NEW_TAGS {
            for path in [format!("/v2/app/manifests/v{tag}"), "/v2/app/manifests/v0".to_owned()] {
                for _ in 0..3 {
                    assert_eq!(registry.ask(Method::GET, &path, b"").await, StatusCode::OK);
                    pulls += 1;
                }
            }
        }
        registry.end_interval().await;
    }
    // An hour begins at most once during this test, and repeats one pull.
    assert_eq!(registry.store.written_pull_objects(), INTERVALS as u64, "of {pulls} pulls");
    for _ in 0..10 {
        registry.end_interval().await;
    }
    assert_eq!(registry.store.written_pull_objects(), INTERVALS as u64, "there was no pull since");
    registry.store.fold_pulls().unwrap();
    let last = registry.store.last_pulls(&"app".parse().unwrap()).unwrap();
    let is_known = |tag: usize| last.tag(&format!("v{tag}").parse().unwrap()) != LastPull::Unknown;
    assert!((0..INTERVALS * NEW_TAGS).all(is_known));
    registry.task.abort();
}

#[tokio::test]
async fn ten_thousand_pulls_do_not_wait_for_the_end_of_the_interval() {
    let mut registry = Registry::start().await;
    let name: RepositoryName = "app".parse().unwrap();
    for number in 0..10_000_u32 {
        registry.store.note_pull(&name, &Digest::sha256(&number.to_le_bytes()), None);
    }
    registry.waits.recv().await.expect("the task runs");
    // One object has them all.
    assert_eq!(registry.store.written_pull_objects(), 1);
    registry.end_interval().await;
    assert_eq!(registry.store.written_pull_objects(), 1);
    registry.task.abort();
}
