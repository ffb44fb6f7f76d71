//! Repositories of upstreams through the router, with an upstream that answers as a script says and counts its questions.

mod access;
mod blobs;
mod circles;
mod eviction;
mod lists;
mod manifests;
mod names;
mod prefetch;
mod prefetch_task;
mod room;
mod scripted;
mod states;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use quinistry_fetch::Upstream;
use quinistry_http::Peer;
use quinistry_oci::{Descriptor, Digest, media_type, to_json};
use quinistry_store::{Memory, Store};
use tower_service::Service as _;

use self::scripted::{Scripted, Shared};
use super::clock::Clock;
use super::{UpstreamSettings, UpstreamTableError, Upstreams};
use crate::{Settings, State, router};

/// Registry in front of one scripted upstream.
struct Mirror {
    registry: Router,
    state: State,
    upstream: Arc<Scripted>,
    now: Arc<Mutex<Instant>>,
    settings: UpstreamSettings,
}

/// Answer of the registry.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn is_stale(&self) -> bool {
        self.header("warning") == Some("110 - \"Response is Stale\"")
    }

    /// Returns the code of the error.
    fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

fn hub_settings() -> UpstreamSettings {
    UpstreamSettings {
        namespaces: vec!["docker.io".parse().unwrap()],
        ..UpstreamSettings::new(
            Some("docker.io".parse().unwrap()),
            "https://registry-1.docker.io".parse().unwrap(),
        )
    }
}

impl Mirror {
    fn new() -> Self {
        Self::with(hub_settings(), Settings::default(), 64 << 20)
    }

    fn with(settings: UpstreamSettings, registry: Settings, memory_bytes: u64) -> Self {
        let store = Store::open(Memory::new(memory_bytes), false).unwrap();
        Self::on(store, settings, registry, Scripted::new())
    }

    fn on(store: Store, settings: UpstreamSettings, registry: Settings, upstream: Arc<Scripted>) -> Self {
        let now = Arc::new(Mutex::new(Instant::now()));
        let upstreams = Self::upstreams(&settings, &upstream, &now);
        let state = State::stored(store, Settings { upstreams: Some(upstreams), ..registry });
        Self { registry: router(state.clone()), state, upstream, now, settings }
    }

    fn upstreams(
        settings: &UpstreamSettings,
        upstream: &Arc<Scripted>,
        clock: &Arc<Mutex<Instant>>,
    ) -> Arc<Upstreams> {
        let connect = |_: &UpstreamSettings| Ok(Arc::new(Shared(upstream.clone())) as Arc<dyn Upstream>);
        let mut upstreams = Upstreams::new::<UpstreamTableError>(vec![settings.clone()], connect).unwrap();
        for cached in &mut upstreams.cached {
            let cached = Arc::get_mut(cached).unwrap();
            let clock = clock.clone();
            cached.clock = Clock::new(move || *clock.lock().unwrap());
            cached.cold_patience = Duration::from_millis(500);
            cached.warm_patience = Duration::from_millis(100);
        }
        Arc::new(upstreams)
    }

    /// Reads the configuration again, which has these settings now.
    fn reload(&mut self, settings: UpstreamSettings) {
        let upstreams = Some(Self::upstreams(&settings, &self.upstream, &self.now));
        self.settings = settings;
        let current = Settings::clone(&self.state.0.settings.current());
        self.state.replace_settings(Settings { upstreams, ..current });
    }

    /// Returns the registry after a restart: with the same store, and without memory of the upstream.
    fn restarted(&self) -> Self {
        let store = self.state.0.stored.as_ref().unwrap().store.clone();
        Self::on(store, self.settings.clone(), Settings::default(), self.upstream.clone())
    }

    fn pass(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.answer(request.body(Body::empty()).unwrap()).await
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let response = self.registry.clone().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("the answer is complete").to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Sends a GET of a client with an address.
    async fn get_from(&self, client: [u8; 4], path: &str) -> Answer {
        let mut request = Request::builder().uri(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(Peer::Tcp((client, 4711).into()));
        self.answer(request).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[]).await
    }

    async fn head(&self, path: &str) -> Answer {
        self.ask(Method::HEAD, path, &[]).await
    }

    /// Waits until all blobs that were fetched are stored.
    async fn settle(&self) {
        let fetches = self.state.0.stored.as_ref().unwrap().fetches.clone();
        while fetches.running_fetches() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Returns an image manifest with one layer.
fn image(layer: &[u8]) -> Bytes {
    let image = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": Descriptor::of(media_type::OCI_CONFIG, b"{}"),
        "layers": [Descriptor::of(media_type::OCI_LAYER_TAR, layer)],
    });
    to_json(&image).into()
}

/// Returns an index that names manifests which are nowhere.
fn index(children: usize) -> Bytes {
    let child = |number: usize| Descriptor::of(media_type::OCI_MANIFEST, &number.to_le_bytes());
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": (0..children).map(child).collect::<Vec<_>>(),
    });
    to_json(&index).into()
}

/// Returns bytes that differ at each place.
fn blob(length: usize) -> Bytes {
    (0..length.div_ceil(4)).flat_map(|n| u32::try_from(n).unwrap().to_le_bytes()).take(length).collect()
}

fn manifest_path(reference: &str) -> String {
    format!("/v2/docker.io/library/app/manifests/{reference}")
}

fn blob_path(digest: &Digest) -> String {
    format!("/v2/docker.io/library/app/blobs/{digest}")
}
