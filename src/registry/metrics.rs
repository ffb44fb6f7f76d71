//! Metrics of a registry, in the Prometheus text format.
//!
//! Names and labels are those of distribution where it has the metric, since dashboards exist for them. No
//! label holds the name of a repository, a tag or a user, so that the number of series is bounded and the page
//! tells nothing about the content.

mod audit_log;
mod auth;
mod collection;
mod file_reloads;
mod labels;
mod named_images;
mod notifications;
mod page;
mod peers;
mod retention;
mod scrub;
mod upstreams;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use quinistry_http::access_log::AccessLog;
use quinistry_http::audit_log::AuditLog;
use quinistry_http::metrics::{Counters, Family, Gauge, Gauges, Histogram};
use quinistry_http::tls::TlsServer;
use quinistry_store::{StorageAction, StorageObserver, Store};

use self::audit_log::AuditLogMetrics;
use self::file_reloads::FileReloadFailures;
use self::labels::ActionLabel;
use crate::named_images::NamedImages;
use crate::notifications::Notifications;

pub(crate) use self::auth::CacheResult;
pub use self::auth::{AuthMethod, AuthMetrics};
pub use self::collection::CollectionMetrics;
pub use self::labels::Driver;
pub(crate) use self::labels::{Code, EndpointLabel, MethodLabel};
pub(crate) use self::peers::PeerCounts;
pub use self::peers::PeerMetrics;
pub(crate) use self::retention::RetentionMetrics;
pub use self::upstreams::UpstreamMetrics;
pub(crate) use self::upstreams::{ContentCounts, ContentSums, UpstreamCounts};

/// Upper bounds of the buckets for the durations of requests in seconds, as distribution has them.
const REQUEST_SECONDS: [f64; 13] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0];

/// Upper bounds of the buckets for sizes in bytes: powers of four from 1 KiB to 4 GiB, every second one of
/// distribution's.
const SIZE_BYTES: [f64; 12] = [
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

/// Upper bounds of the buckets for calls of the storage and for flushes in seconds. A look-up takes
/// microseconds, a flush milliseconds, and on a failing disk seconds.
const STORAGE_SECONDS: [f64; 10] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Metrics of a registry. They outlive its configuration, so that no count restarts when that is reloaded.
#[derive(Debug)]
pub struct RegistryMetrics {
    http: HttpMetrics,
    storage: OnceLock<Arc<StorageMetrics>>,
    abilities: OnceLock<Vec<(&'static str, bool)>>,
    store: OnceLock<Store>,
    access_log: OnceLock<AccessLog>,
    audit_log: AuditLogMetrics,
    reloads: OnceLock<ReloadMetrics>,
    auth: OnceLock<Arc<AuthMetrics>>,
    collection: OnceLock<Arc<CollectionMetrics>>,
    file_reload_failures: FileReloadFailures,
    tls: OnceLock<Arc<TlsServer>>,
    notifications: OnceLock<Arc<Notifications>>,
    upstreams: OnceLock<Arc<UpstreamMetrics>>,
    peers: OnceLock<Arc<PeerMetrics>>,
    named_images: OnceLock<Arc<NamedImages>>,
}

/// Metrics of requests.
#[derive(Debug)]
struct HttpMetrics {
    requests: Counters<(EndpointLabel, Code, MethodLabel)>,
    durations: Family<(EndpointLabel, MethodLabel), Histogram>,
    in_flight: Gauges<(EndpointLabel,)>,
    request_bytes: Family<(EndpointLabel,), Histogram>,
    response_bytes: Family<(EndpointLabel,), Histogram>,
}

/// Metrics of a storage.
#[derive(Debug)]
struct StorageMetrics {
    driver: Driver,
    actions: Family<(ActionLabel,), Histogram>,
    flushes: Histogram,
}

/// Results of reading the configuration.
#[derive(Debug, Default)]
struct ReloadMetrics {
    is_successful: Gauge,
    /// Time of the last success in milliseconds since 1970.
    success_millis: AtomicU64,
}

/// End of a request, as it is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestEnd {
    pub(crate) endpoint: EndpointLabel,
    pub(crate) method: MethodLabel,
    pub(crate) code: Code,
    pub(crate) duration: Duration,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

// === impl Metrics ===

impl Default for RegistryMetrics {
    fn default() -> Self {
        let http = HttpMetrics {
            requests: Counters::default(),
            durations: Family::new(|| Histogram::new(&REQUEST_SECONDS)),
            in_flight: Gauges::default(),
            request_bytes: Family::new(|| Histogram::of_bytes(&SIZE_BYTES)),
            response_bytes: Family::new(|| Histogram::of_bytes(&SIZE_BYTES)),
        };
        Self {
            http,
            storage: OnceLock::new(),
            abilities: OnceLock::new(),
            store: OnceLock::new(),
            access_log: OnceLock::new(),
            audit_log: AuditLogMetrics::default(),
            reloads: OnceLock::new(),
            auth: OnceLock::new(),
            collection: OnceLock::new(),
            file_reload_failures: FileReloadFailures::default(),
            tls: OnceLock::new(),
            notifications: OnceLock::new(),
            upstreams: OnceLock::new(),
            peers: OnceLock::new(),
            named_images: OnceLock::new(),
        }
    }
}

impl RegistryMetrics {
    /// Returns the observer that counts the calls of a storage of this kind. A registry has one storage: later
    /// calls return the first one's observer.
    pub fn storage_observer(&self, driver: Driver) -> Arc<dyn StorageObserver> {
        let create = || {
            let actions = Family::new(|| Histogram::new(&STORAGE_SECONDS));
            Arc::new(StorageMetrics { driver, actions, flushes: Histogram::new(&STORAGE_SECONDS) })
        };
        self.storage.get_or_init(create).clone()
    }

    /// Shows what the object store can do. A second value is ignored.
    pub fn watch_storage_abilities(&self, abilities: impl IntoIterator<Item = (&'static str, bool)>) {
        let _ = self.abilities.set(abilities.into_iter().collect());
    }

    /// Shows the numbers of a store. A second store is ignored.
    pub fn watch_store(&self, store: Store) {
        let _ = self.store.set(store);
    }

    /// Shows the lines that an access log has dropped. A second log is ignored.
    pub fn watch_access_log(&self, log: AccessLog) {
        let _ = self.access_log.set(log);
    }

    /// Shows the lines that the audit log has dropped, together with those of the former ones.
    pub fn watch_audit_log(&self, log: Option<AuditLog>) {
        self.audit_log.watch(log);
    }

    /// Shows the numbers of credentials. A second value is ignored.
    pub fn watch_auth(&self, auth: Arc<AuthMetrics>) {
        let _ = self.auth.set(auth);
    }

    /// Shows the numbers of collection. A second value is ignored.
    pub fn watch_collection(&self, collection: Arc<CollectionMetrics>) {
        let _ = self.collection.set(collection);
    }

    /// Shows the numbers of peers. A second value is ignored.
    pub fn watch_peers(&self, peers: Arc<PeerMetrics>) {
        let _ = self.peers.set(peers);
    }

    /// Shows how many of the named images are here. A second value is ignored.
    pub fn watch_named_images(&self, named: Arc<NamedImages>) {
        let _ = self.named_images.set(named);
    }

    /// Shows the numbers of upstreams. A second value is ignored.
    pub fn watch_upstreams(&self, upstreams: Arc<UpstreamMetrics>) {
        let _ = self.upstreams.set(upstreams);
    }

    /// Shows the certificate and the handshakes of a listener. A second one is ignored.
    pub fn watch_tls(&self, tls: Arc<TlsServer>) {
        let _ = self.tls.set(tls);
    }

    /// Shows the numbers of events that are sent to endpoints. A second value is ignored.
    pub fn watch_notifications(&self, notifications: Arc<Notifications>) {
        let _ = self.notifications.set(notifications);
    }

    /// Records that the configuration was read at the time `now`, and whether it is in use.
    pub fn reloaded(&self, is_successful: bool, now: SystemTime) {
        let reloads = self.reloads.get_or_init(ReloadMetrics::default);
        reloads.is_successful.set(is_successful.into());
        if is_successful {
            let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
            reloads.success_millis.store(millis, Ordering::Relaxed);
        }
    }

    /// Shows the number of failed reloads of a watched value such as `certificate`.
    pub fn watch_reloads_of(&self, what: &'static str) {
        self.file_reload_failures.watch(what);
    }

    /// Counts a failed reload of a watched value.
    pub fn reload_failed(&self, what: &'static str) {
        self.file_reload_failures.failed(what);
    }

    /// Counts the begin of a request.
    pub(crate) fn began(&self, endpoint: EndpointLabel) {
        self.http.in_flight.of((endpoint,)).increment();
    }

    /// Counts the end of a request, whose begin was counted.
    pub(crate) fn ended(&self, end: &RequestEnd) {
        let RequestEnd { endpoint, method, code, duration, received, sent } = *end;
        self.http.in_flight.of((endpoint,)).decrement();
        self.http.requests.of((endpoint, code, method)).increment();
        self.http.durations.of((endpoint, method)).observe(duration);
        self.http.request_bytes.of((endpoint,)).observe_bytes(received);
        self.http.response_bytes.of((endpoint,)).observe_bytes(sent);
    }
}

// === impl StorageMetrics ===

impl StorageObserver for StorageMetrics {
    fn called(&self, action: StorageAction, took: Duration) {
        self.actions.of((ActionLabel(action),)).observe(took);
    }

    fn flushed(&self, took: Duration) {
        self.flushes.observe(took);
    }
}
