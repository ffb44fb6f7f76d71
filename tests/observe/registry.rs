//! Registry in this process with metrics and access log, and a session of requests.

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use quinistry::bucket::{
    Bucket, BucketUploads, StoreAbilities, TransferMemory, TransferOptions, UploadOptions,
};
use quinistry::http::access_log::{AccessLog, AccessLogFormat};
use quinistry::http::audit_log::{AuditLog, AuditPlace};
use quinistry::http::tls::{LoadedTls, TlsServer, TlsSettings};
use quinistry::oci::{Digest, RepositoryName};
use quinistry::registry::metrics::{Driver, RegistryMetrics};
use quinistry::registry::notifications::{
    EndpointSettings, EndpointUrl, EventSettings, Notifications, PreparedEndpoint,
};
use quinistry::registry::{ClientTls, Limits, Observer, Settings, State};
use quinistry::store::{
    Access, Filesystem, Memory, ObservedStorage, Quota, RepositoryMatcher, Storage, Store,
};
use quinistry_bucket::testing::Mem;
use tokio::runtime::Runtime;

use crate::support::http::Peer;
use crate::support::in_process::InProcess;

/// Registry on a folder.
pub(crate) struct Observed {
    server: InProcess,
    metrics: Arc<RegistryMetrics>,
    log: AccessLog,
    folder: tempfile::TempDir,
}

impl Observed {
    pub(crate) fn start(format: AccessLogFormat) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::<RegistryMetrics>::default();
        let observer = metrics.storage_observer(Driver::Filesystem);
        let storage = Filesystem::open(&folder.path().join("store"), Access::Write).unwrap();
        storage.observe_flushes(observer.clone());
        let store = Store::open(ObservedStorage::new(storage, observer), false).unwrap();
        let log = AccessLog::start(File::create(folder.path().join("log")).unwrap(), format).unwrap();
        metrics.watch_store(store.clone());
        metrics.watch_access_log(log.clone());
        metrics.reloaded(true, SystemTime::now());
        let observer =
            Observer { metrics: Some(metrics.clone()), access_log: Some(log.clone()), ..Observer::default() };
        let state = State::stored(store, Settings::default()).with_observer(observer);
        Self { server: InProcess::serving(state, Limits::default()), metrics, log, folder }
    }

    pub(crate) fn peer(&self) -> Peer {
        self.server.peer
    }

    /// Returns the page of metrics.
    pub(crate) fn page(&self) -> String {
        self.metrics.render()
    }

    /// Returns the path of the access log, with all lines in it.
    pub(crate) fn log(&self) -> std::path::PathBuf {
        self.log.flush(Duration::from_mins(1));
        self.folder.path().join("log")
    }

    /// Returns the lines of the access log.
    pub(crate) fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.log()).unwrap().lines().map(str::to_owned).collect()
    }
}

/// Pushes, pulls, lists and deletes by every endpoint that distribution has, and asks for what is not there.
/// Returns the number of requests.
pub(crate) fn session(peer: Peer) -> usize {
    let mut count = 0;
    let mut ask = |method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]| {
        count += 1;
        peer.ask(method, target, headers, body)
    };
    let blob = Digest::sha256(b"{}");
    let begun = ask("POST", "/v2/a/b/blobs/uploads/", &[("Content-Length", "0")], b"");
    assert_eq!(begun.status, 202);
    let location = path_of(begun.header("location").unwrap());
    let sent = ask("PATCH", &location, &[("Content-Type", "application/octet-stream")], b"{}");
    assert_eq!(sent.status, 202);
    let location = path_of(sent.header("location").unwrap());
    let separator = if location.contains('?') { '&' } else { '?' };
    let done = ask("PUT", &format!("{location}{separator}digest={blob}"), &[("Content-Length", "0")], b"");
    assert_eq!(done.status, 201);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{TYPE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{blob}","size":2}},"layers":[]}}"#
    );
    assert_eq!(ask("PUT", "/v2/a/b/manifests/x", &[("Content-Type", TYPE)], manifest.as_bytes()).status, 201);
    for (target, status) in [
        ("/v2/", 200),
        ("/v2/_catalog", 200),
        ("/v2/a/b/tags/list", 200),
        ("/v2/a/b/manifests/x", 200),
        (&*format!("/v2/a/b/blobs/{blob}"), 200),
        ("/v2/a/b/manifests/absent", 404),
    ] {
        for method in ["GET", "HEAD"] {
            // distribution has no HEAD of lists.
            if method == "GET" || target.contains("manifests") || target.contains("blobs") {
                assert_eq!(ask(method, target, &[("Accept", TYPE)], b"").status, status, "{method} {target}");
            }
        }
    }
    count
}

const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Returns path and query of a URL.
fn path_of(location: &str) -> String {
    match location.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').unwrap()..].to_owned(),
        None => location.to_owned(),
    }
}

/// Metrics of a registry that has all that they can tell about, in memory, in a folder and in
/// buckets.
pub(crate) fn full_pages() -> [String; 5] {
    let folder = tempfile::tempdir().unwrap();
    let filesystem = Filesystem::open(folder.path(), Access::Write).unwrap();
    [
        page_of(Memory::new(1 << 20), Driver::InMemory, folder.path()),
        page_of(filesystem, Driver::Filesystem, folder.path()),
        page_of(bucket(), Driver::S3, folder.path()),
        page_of(bucket(), Driver::Gcs, folder.path()),
        page_of(bucket(), Driver::Azure, folder.path()),
    ]
}

/// Runtime of requests to the bucket.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap());

fn bucket() -> Bucket {
    let (objects, runtime) = (Arc::new(Mem::default()), RUNTIME.handle().clone());
    let transfers = TransferOptions::default();
    let memory = TransferMemory::new(transfers.memory_bytes);
    let options =
        UploadOptions { transfers, parts_may_differ: true, copies_parts: true, is_exclusive: false };
    let uploads = BucketUploads::new(objects.clone(), runtime.clone(), memory.clone(), options);
    Bucket::new(objects, runtime, StoreAbilities::ALL, memory, uploads)
}

/// Set of all repositories.
#[derive(Debug)]
struct Everything;

impl RepositoryMatcher for Everything {
    fn matches(&self, _: &RepositoryName) -> bool {
        true
    }
}

fn page_of(storage: impl Storage, driver: Driver, folder: &Path) -> String {
    let metrics = RegistryMetrics::default();
    let storage = ObservedStorage::new(storage, metrics.storage_observer(driver));
    let store = Store::open(storage, false).unwrap();
    store.set_quotas(vec![Quota {
        name: "a".into(),
        repositories: Arc::new(Everything),
        bytes: Some(1),
        tags: Some(1),
    }]);
    // Finds the usage.
    store.check_quota(&"a".parse().unwrap(), Some(0)).unwrap();
    metrics.watch_store(store);
    metrics.watch_collection(Arc::default());
    metrics.watch_storage_abilities(StoreAbilities::ALL.by_name());
    let log = File::create(folder.join("log")).unwrap();
    metrics.watch_access_log(AccessLog::start(log, AccessLogFormat::Combined).unwrap());
    metrics.watch_audit_log(Some(AuditLog::start(AuditPlace::File(folder.join("audit"))).unwrap()));
    metrics.watch_auth(Arc::default());
    metrics.watch_tls(Arc::new(TlsServer::new(LoadedTls::read(tls_settings(folder)).unwrap())));
    for what in ["tls", "htpasswd", "keys", "token_keys", "token_signing_key"] {
        metrics.watch_reloads_of(what);
    }
    metrics.watch_notifications(Arc::new(notifications()));
    metrics.reloaded(true, SystemTime::now());
    metrics.render()
}

/// Returns an endpoint of events, which gets none.
fn notifications() -> Notifications {
    let url = EndpointUrl::new(&"http://127.0.0.1:1".parse().unwrap()).unwrap();
    let tls = ClientTls { configuration: quinistry::client::default_configuration(), explain: |_| None };
    let prepared = PreparedEndpoint::new(EndpointSettings::new("a".into(), url), &tls).unwrap();
    let notifications = Notifications::new("registry.example:5000".into());
    let _runtime = RUNTIME.enter();
    notifications.apply(vec![Arc::new(prepared)], EventSettings::default());
    notifications
}

/// Makes a certificate, and returns the settings of a listener with it.
fn tls_settings(folder: &Path) -> TlsSettings {
    let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
    let pair = rcgen::generate_simple_self_signed(["registry.example".to_owned()]).unwrap();
    fs::write(&certificate, pair.cert.pem()).unwrap();
    fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    TlsSettings::new(certificate, key)
}
