//! Typed configuration from a checked tree. A value that did not pass its check counts as absent.

mod access;
mod bucket;
mod gc;
mod limits;
mod notifications;
mod retention;
mod scrub;
mod tls;
mod tokens;
mod upstreams;
mod users;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, StatusCode, Uri};

use super::model::{
    Config, Debug, HealthCheck, HealthCheckKind, Http, ListenAddress, Log, LogFormat, LogLevel,
    RepositoryClass, RequiredEntries, RequiredPlatform, StorageConfig, StorageLocation, UploadExpiry,
    UrlPatterns, ValidationConfig,
};
use super::rules::{self, MIN_CHECK_INTERVAL, is_empty};
use super::scalar;
use super::schema::{self, Kind};
use super::tree::ConfigNode;
use super::values;

/// Page of a list whose configured length stands for the default.
const DEFAULT_PAGE: NonZeroUsize = NonZeroUsize::new(1000).expect("1000 is not 0");

/// Reader of one section.
#[derive(Clone, Copy)]
struct Section<'a> {
    node: &'a ConfigNode,
    /// Path of the section in the table of keys, with its final dot.
    path: &'a str,
}

/// Makes the configuration.
pub(super) fn build(tree: &ConfigNode) -> Config {
    let root = Section { node: tree, path: "" };
    Config {
        log: log(root),
        storage: storage(tree),
        http: http(root, rules::is_unix(tree)),
        health: health(root),
        validation: validation(root),
        policy_classes: classes(root),
        max_catalog_entries: page(root.integer("catalog.maxentries")),
        max_tags: page(root.integer("tags.maxtags")),
        users: users::users(root),
        access: access::access(root),
        limits: limits::limits(root),
        token_server: tokens::server(root),
        tokens: tokens::own(root),
        scrub: scrub::scrub(root),
        retention: retention::retention(root),
        upstreams: upstreams::upstreams(root),
        collection: gc::collection(root),
        notifications: notifications::notifications(root),
    }
}

// === impl Section ===

impl<'a> Section<'a> {
    /// Returns the value of a key, unless it is absent or null.
    fn value(self, key: &str) -> Option<&'a ConfigNode> {
        self.node.at(key).filter(|node| !node.is_null())
    }

    fn default(self, key: &str) -> &'static str {
        let path = format!("{}{key}", self.path);
        schema::find(&path).expect("every key that is read stands in the table").default
    }

    fn boolean(self, key: &str) -> bool {
        let read = self.value(key).and_then(|node| values::boolean(node).ok());
        read.unwrap_or_else(|| scalar::boolean(self.default(key)).unwrap_or(false))
    }

    fn integer(self, key: &str) -> i64 {
        let read = self.value(key).and_then(|node| values::integer(node, i64::MIN).ok());
        read.unwrap_or_else(|| scalar::integer(self.default(key)).unwrap_or(0))
    }

    /// Returns a whole number that is not negative.
    fn bytes(self, key: &str) -> u64 {
        u64::try_from(self.integer(key)).unwrap_or(0)
    }

    fn size(self, key: &str) -> u64 {
        let read = self.value(key).and_then(|node| values::size(node).ok());
        read.unwrap_or_else(|| scalar::size(self.default(key)).unwrap_or(0))
    }

    fn duration(self, key: &str) -> Duration {
        let read = self.value(key).and_then(|node| values::duration(node).ok());
        let read = read.or_else(|| scalar::duration(self.default(key)).ok());
        read.map(|written| written.duration).unwrap_or_default()
    }

    /// Returns a duration, of which 0 stands for the default.
    fn positive_duration(self, key: &str) -> Duration {
        let duration = self.duration(key);
        if !duration.is_zero() {
            return duration;
        }
        scalar::duration(self.default(key)).map(|written| written.duration).unwrap_or_default()
    }

    fn text(self, key: &str) -> String {
        let read = self.value(key).and_then(ConfigNode::as_text).filter(|text| !text.is_empty());
        read.unwrap_or_else(|| self.default(key)).to_owned()
    }

    /// Returns one of the words that the table names for the key.
    fn word(self, key: &str) -> Option<&'static str> {
        let path = format!("{}{key}", self.path);
        let Some(Kind::OneOf(options)) = schema::find(&path).map(|key| key.kind) else { return None };
        values::one_of(self.value(key)?, options).ok()
    }

    fn threshold(self, key: &str) -> NonZeroU32 {
        let read = self.value(key).and_then(|node| values::threshold(node).ok());
        read.unwrap_or(NonZeroU32::MIN)
    }

    fn headers(self, key: &str) -> HeaderMap {
        self.value(key).and_then(|node| values::headers(node).ok()).unwrap_or_default()
    }

    fn url(self, key: &str) -> Option<Uri> {
        self.value(key).and_then(|node| values::url(node).ok())
    }

    fn elements(self, key: &str, path: &'a str) -> impl Iterator<Item = Section<'a>> {
        let items = self.value(key).and_then(ConfigNode::as_list).unwrap_or_default();
        items.iter().map(move |node| Section { node, path })
    }
}

fn log(root: Section<'_>) -> Log {
    let level = root.word("log.level").or_else(|| root.word("loglevel"));
    Log {
        level: match level.unwrap_or_else(|| root.default("log.level")) {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            _ => LogLevel::Info,
        },
        formatter: match root.word("log.formatter") {
            Some("json") => LogFormat::Json,
            Some("logstash") => LogFormat::Logstash,
            _ => LogFormat::Text,
        },
        fields: root.value("log.fields").and_then(|node| values::text_map(node).ok()).unwrap_or_default(),
        access_log: !root.boolean("log.accesslog.disabled"),
    }
}

/// Makes the part of the configuration that `storage` gives.
pub(super) fn storage(tree: &ConfigNode) -> StorageConfig {
    let root = Section { node: tree, path: "" };
    let location = if root.node.at("storage").is_some_and(|storage| storage.entry("inmemory").is_some()) {
        StorageLocation::Memory
    } else if let Some(bucket) = bucket::bucket(root) {
        StorageLocation::Bucket(Box::new(bucket))
    } else {
        StorageLocation::Folder(PathBuf::from(root.text("storage.filesystem.rootdirectory")))
    };
    StorageConfig {
        location,
        allows_delete: root.boolean("storage.delete.enabled"),
        is_read_only: root.boolean("storage.maintenance.readonly.enabled"),
        upload_purging: UploadExpiry {
            enabled: root.boolean("storage.maintenance.uploadpurging.enabled"),
            age: root.duration("storage.maintenance.uploadpurging.age"),
            interval: root.duration("storage.maintenance.uploadpurging.interval"),
            dry_run: root.boolean("storage.maintenance.uploadpurging.dryrun"),
        },
        redirect: bucket::redirect(root),
        coherence: bucket::coherence(root),
        is_exclusive: root.boolean("quinistry.exclusive"),
    }
}

fn http(root: Section<'_>, is_unix: bool) -> Http {
    let listen = root.value("http.addr").filter(|node| !is_empty(node));
    let listen = listen.and_then(|node| values::address(node, is_unix).ok());
    let trusted = root.value("quinistry.http.trustedproxies");
    let drain = root.duration("http.draintimeout");
    Http {
        listen: listen.unwrap_or_else(|| default_address(root)),
        prefix: prefix(root),
        host: root.url("http.host"),
        secret: tokens::secret(root),
        headers: root.headers("http.headers"),
        drain_timeout: (!drain.is_zero()).then_some(drain),
        trusted_proxies: trusted.and_then(|node| values::proxies(node).ok()).unwrap_or_default(),
        debug: debug(root),
        tls: tls::tls(root),
        proxy_protocol: root.boolean("quinistry.http.proxyprotocol"),
        certificate_names: tls::certificate_names(root),
    }
}

fn default_address(root: Section<'_>) -> ListenAddress {
    root.default("http.addr").parse().expect("the table's default is an address")
}

fn prefix(root: Section<'_>) -> PathAndQuery {
    let read = root.value("http.prefix").and_then(|node| values::url_path(node).ok());
    let prefix = read.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if prefix.path().ends_with('/') {
        return prefix;
    }
    format!("{prefix}/").parse().expect("a path followed by a slash is a path")
}

fn debug(root: Section<'_>) -> Option<Debug> {
    let node = root.value("http.debug.addr").filter(|node| !is_empty(node))?;
    let listen = values::address(node, false).ok()?;
    let is_enabled = root.boolean("http.debug.prometheus.enabled");
    let path = root.text("http.debug.prometheus.path");
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    Some(Debug { listen, metrics_path: is_enabled.then_some(path) })
}

fn health(root: Section<'_>) -> Vec<HealthCheck> {
    let mut checks = Vec::new();
    if root.boolean("health.storagedriver.enabled") {
        let storage = root.node.at("storage").map(|storage| rules::drivers_of(storage, "storage"));
        let driver = storage.iter().flatten().map(|entry| &*entry.key).next().unwrap_or("filesystem");
        checks.push(HealthCheck {
            name: format!("storagedriver_{driver}"),
            kind: HealthCheckKind::Storage,
            interval: root.positive_duration("health.storagedriver.interval").max(MIN_CHECK_INTERVAL),
            threshold: root.threshold("health.storagedriver.threshold"),
        });
    }
    for check in root.elements("health.file", "health.file[].") {
        let path = check.text("file");
        let kind = HealthCheckKind::File(PathBuf::from(&path));
        checks.push(health_check(check, path, kind));
    }
    for check in root.elements("health.http", "health.http[].") {
        let Some(uri) = check.url("uri") else { continue };
        let status = u16::try_from(check.integer("statuscode")).ok();
        // A query may hold a token, and the names of checks are shown.
        let shown = format!(
            "{}://{}{}",
            uri.scheme_str().unwrap_or("http"),
            uri.authority().map(Authority::as_str).unwrap_or_default(),
            uri.path()
        );
        let kind = HealthCheckKind::Http {
            uri,
            headers: check.headers("headers"),
            status: status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK),
            timeout: check.positive_duration("timeout"),
        };
        checks.push(health_check(check, shown, kind));
    }
    for check in root.elements("health.tcp", "health.tcp[].") {
        let address = check.text("addr");
        let kind =
            HealthCheckKind::Tcp { address: address.clone(), timeout: check.positive_duration("timeout") };
        checks.push(health_check(check, address, kind));
    }
    checks
}

fn health_check(check: Section<'_>, name: String, kind: HealthCheckKind) -> HealthCheck {
    let interval = check.positive_duration("interval").max(MIN_CHECK_INTERVAL);
    let threshold = check.threshold("threshold");
    HealthCheck { name, kind, interval, threshold }
}

fn validation(root: Section<'_>) -> ValidationConfig {
    let patterns = |key: &str| -> Vec<String> {
        root.value(key).and_then(|node| values::patterns(node).ok()).unwrap_or_default()
    };
    let platform = |section: Section<'_>| RequiredPlatform {
        architecture: section.text("architecture"),
        os: section.text("os"),
    };
    let list = "validation.manifests.indexes.platformlist";
    ValidationConfig {
        // Distribution 2.8 and 3.x: the old switch wins when it is on.
        is_disabled: root.boolean("validation.disabled") && !root.boolean("validation.enabled"),
        urls: UrlPatterns {
            allow: patterns("validation.manifests.urls.allow"),
            deny: patterns("validation.manifests.urls.deny"),
        },
        indexes: match root.word("validation.manifests.indexes.platforms") {
            Some("none") => RequiredEntries::None,
            Some("list") => RequiredEntries::OfPlatforms(
                root.elements(list, "validation.manifests.indexes.platformlist[].").map(platform).collect(),
            ),
            _ => RequiredEntries::All,
        },
    }
}

/// Returns the classes that clients may push. An empty list restricts nothing, as in distribution.
fn classes(root: Section<'_>) -> Option<Vec<RepositoryClass>> {
    let read = root.value("policy.repository.classes").and_then(|node| values::texts(node).ok())?;
    let class = |text: &str| match text.to_ascii_lowercase().as_str() {
        "plugin" => RepositoryClass::Plugin,
        _ => RepositoryClass::Image,
    };
    let classes: Vec<_> = read.into_iter().map(class).collect();
    (!classes.is_empty()).then_some(classes)
}

/// Returns the length of a page; 0 and less stand for the default.
fn page(length: i64) -> NonZeroUsize {
    usize::try_from(length).ok().and_then(NonZeroUsize::new).unwrap_or(DEFAULT_PAGE)
}
