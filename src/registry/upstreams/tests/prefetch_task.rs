//! The task that fetches in advance: upstreams beside each other, and reloads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quinistry_fetch::Upstream;
use quinistry_oci::media_type;
use quinistry_store::{Memory, Store};
use tokio::time::timeout;

use super::image;
use super::scripted::{Outage, Scripted, Shared};
use crate::upstreams::clock::Clock;
use crate::upstreams::prefetch::run_every;
use crate::upstreams::{PrefetchRule, UpstreamSettings, UpstreamTableError, Upstreams};
use crate::{Settings, State};

const APP: &str = "library/app";
const INTERVAL: Duration = Duration::from_hours(6);

/// Pause between two looks at the rules.
const TICK: Duration = Duration::from_millis(1);

/// Time after which a test fails that waits.
const DEADLINE: Duration = Duration::from_mins(1);

/// Registry in front of two upstreams.
struct Scene {
    state: State,
    silent: Arc<Scripted>,
    ready: Arc<Scripted>,
    now: Arc<Mutex<Instant>>,
}

fn settings(prefix: &str, tags: &[&str]) -> UpstreamSettings {
    let rule = |tags: &[&str]| PrefetchRule {
        repository: APP.parse().unwrap(),
        tags: tags.iter().map(ToString::to_string).collect(),
        interval: INTERVAL,
    };
    let remote = format!("https://{prefix}").parse().unwrap();
    UpstreamSettings {
        prefetch: vec![rule(tags)],
        ..UpstreamSettings::new(Some(prefix.parse().unwrap()), remote)
    }
}

impl Scene {
    fn new() -> Self {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let (silent, ready) = (Scripted::new(), Scripted::new());
        silent.fail(Outage::Silent);
        for tag in ["one", "two"] {
            let image = image(b"{}");
            ready.add_blob(APP, &bytes::Bytes::from_static(b"{}"));
            ready.tag(APP, tag, &image, media_type::OCI_MANIFEST);
        }
        let now = Arc::new(Mutex::new(Instant::now()));
        let scene = Self { state: State::stored(store, Settings::default()), silent, ready, now };
        scene.reload(&["one"]);
        scene
    }

    /// Reads the configuration again, which names these tags of the upstream that answers.
    fn reload(&self, tags: &[&str]) {
        let connect = |settings: &UpstreamSettings| {
            let is_silent = settings.prefix.as_ref().unwrap().as_str() == "silent.example";
            let upstream = if is_silent { &self.silent } else { &self.ready };
            Ok(Arc::new(Shared(upstream.clone())) as Arc<dyn Upstream>)
        };
        let all = vec![settings("silent.example", &["one"]), settings("ready.example", tags)];
        let mut upstreams = Upstreams::new::<UpstreamTableError>(all, connect).unwrap();
        for (upstream, name) in upstreams.cached.iter_mut().zip(["silent", "ready"]) {
            let (cached, now) = (Arc::get_mut(upstream).unwrap(), self.now.clone());
            cached.name = name.into();
            cached.clock = Clock::new(move || *now.lock().unwrap());
            // A question to the silent one lasts longer than the test.
            cached.cold_patience = 2 * DEADLINE;
        }
        let settings = Settings { upstreams: Some(Arc::new(upstreams)), ..Settings::default() };
        self.state.replace_settings(settings);
    }

    fn pass(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }

    /// Waits for a question to an upstream.
    async fn wait_for(&self, upstream: &Scripted, question: &str) {
        let asked = async {
            while !upstream.asked().iter().any(|asked| asked == question) {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, asked).await.unwrap_or_else(|_| panic!("{question} is not asked"));
    }

    /// Starts the task.
    fn start(&self) -> tokio::task::JoinHandle<()> {
        let (stored, settings) = (self.state.0.stored.clone().unwrap(), self.state.0.settings.subscribe());
        tokio::spawn(async move { run_every(TICK, &stored, settings).await })
    }
}

#[tokio::test]
async fn an_upstream_that_gives_no_answer_delays_no_other() {
    let scene = Scene::new();
    let task = scene.start();
    scene.wait_for(&scene.silent, "GET library/app:one").await;
    scene.wait_for(&scene.ready, "GET library/app:one").await;
    let passing = async {
        loop {
            scene.pass(INTERVAL);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = scene.wait_for(&scene.ready, "HEAD library/app:one") => {}
        () = passing => {}
    }
    task.abort();
}

#[tokio::test]
async fn a_reload_holds_at_once_though_a_round_of_the_former_settings_waits() {
    let scene = Scene::new();
    let task = scene.start();
    scene.wait_for(&scene.silent, "GET library/app:one").await;
    scene.reload(&["two"]);
    scene.wait_for(&scene.ready, "GET library/app:two").await;
    task.abort();
}

#[tokio::test]
async fn a_round_ends_with_the_lead_of_its_replica_and_goes_on_with_the_next_one() {
    let scene = Scene::new();
    let stored = scene.state.0.stored.clone().unwrap();
    let upstreams = scene.state.0.settings.current().upstreams.clone().unwrap();
    let is_over = Arc::new(AtomicBool::new(true));
    let lead = stored.store.lead().unwrap().until(is_over.clone());
    let result = upstreams.due_rounds(1, &stored, Some(&lead)).await;
    assert_eq!((result.tags, result.failed, result.is_interrupted), (0, 0, true));
    assert_eq!(scene.ready.asked(), [""; 0]);
    is_over.store(false, Ordering::Relaxed);
    let result = upstreams.due_rounds(1, &stored, Some(&lead)).await;
    assert_eq!((result.tags, result.failed, result.is_interrupted), (1, 0, false));
}

#[tokio::test]
async fn a_reload_with_the_same_settings_makes_no_rule_due() {
    let scene = Scene::new();
    let stored = scene.state.0.stored.clone().unwrap();
    let round = async || {
        let upstreams = scene.state.0.settings.current().upstreams.clone().unwrap();
        upstreams.due_rounds(1, &stored, None).await.tags
    };
    assert_eq!(round().await, 1);
    scene.reload(&["one"]);
    assert_eq!(round().await, 0);
    scene.pass(INTERVAL);
    assert_eq!(round().await, 1);
}
