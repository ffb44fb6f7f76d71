//! Typed configuration that a registry starts from. Pure data, made by [`load`](super::load) alone.
//!
//! Every value here is valid: addresses parse, header values are single lines, and durations are not negative.

mod access;
mod bucket;
mod gc;
mod limits;
mod notifications;
mod retention;
mod scrub;
mod tokens;
mod upstreams;
mod users;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode, Uri};
use quinistry_http::client_address::TrustedProxies;

pub use quinistry_http::telemetry::{LogFormat, LogLevel};
pub use quinistry_http::tls::{CipherSuites, ClientAuth, TlsSettings};

pub use crate::{RepositoryClass, RequiredEntries, RequiredPlatform, UploadExpiry};

pub use self::bucket::{
    AzureConfig, AzureLogin, BucketConfig, BucketStore, CoherenceConfig, GcsConfig, RedirectConfig, S3Config,
};

pub use self::access::{AccessConfig, AccessRule, AuditConfig, AuditPath, Grantee, Group};
pub use self::gc::{CollectionSettings, DailyWindow, DamagedManifests, Writers};
pub use self::limits::{LimitsConfig, QuotaPolicy, TagPolicy};
pub use self::notifications::{
    Action, EndpointSettings, EndpointUrl, EnvelopeVersion, NotificationsConfig, SigningSecret,
};
pub use self::retention::{KeepTagsConfig, RetentionConfig, RetentionPolicyConfig};
pub use self::scrub::{HealFrom, ScrubConfig};
pub use self::tokens::{AllowedAlgorithms, KeyFiles, OwnTokens, SecretText, TokenServer};
pub use self::upstreams::{
    InsecureUpstream, MissingPolicy, Namespace, PrefetchRule, UpstreamCredentials, UpstreamSettings,
};
pub use self::users::{HtpasswdConfig, UsersConfig};
pub use crate::auth::certificate::CertificateField;

pub use super::listen_address::{ListenAddress, ListenAddressError, ListenHost};

/// Configuration of a registry.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Application log and access log.
    pub log: Log,
    /// Storage, and the changes that it permits.
    pub storage: StorageConfig,
    /// Listeners, and the HTTP side of every response.
    pub http: Http,
    /// Health checks. One that fails makes every response 503.
    pub health: Vec<HealthCheck>,
    /// Checks of pushed manifests.
    pub validation: ValidationConfig,
    /// Classes of images that clients may push, if `policy.repository.classes` restricts them.
    pub policy_classes: Option<Vec<RepositoryClass>>,
    /// Longest page of the catalog, in repositories.
    pub max_catalog_entries: NonZeroUsize,
    /// Longest page of a tag list, in tags.
    pub max_tags: NonZeroUsize,
    /// Users and their keys.
    pub users: UsersConfig,
    /// Rules of access, groups and the audit log.
    pub access: AccessConfig,
    /// Immutable and protected tags, and quotas.
    pub limits: LimitsConfig,
    /// Server whose tokens are accepted.
    pub token_server: Option<TokenServer>,
    /// Tokens that this registry issues.
    pub tokens: OwnTokens,
    /// Scrub of the stored content.
    pub scrub: ScrubConfig,
    /// Retention of tags, if there is one.
    pub retention: Option<RetentionConfig>,
    /// Registries that are asked for what this one does not have.
    pub upstreams: Vec<UpstreamSettings>,
    /// Collection of garbage while the registry serves, if it is asked for.
    pub collection: Option<CollectionSettings>,
    /// Events for other programs.
    pub notifications: NotificationsConfig,
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Least severe level that is written.
    pub level: LogLevel,
    /// Form of a line.
    pub formatter: LogFormat,
    /// Fields that are added to each line, in the order of the file.
    pub fields: Vec<(String, String)>,
    /// True if each request makes a line on standard output.
    pub access_log: bool,
}

/// Storage, and the changes that it permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// Place of the content.
    pub location: StorageLocation,
    /// True if clients can delete tags, manifests and blobs. Otherwise DELETE is answered with 405.
    pub allows_delete: bool,
    /// True if every write is answered with 405.
    pub is_read_only: bool,
    /// Removal of abandoned uploads.
    pub upload_purging: UploadExpiry,
    /// Redirects of pulls to the store of a bucket, unless they are off.
    pub redirect: Option<RedirectConfig>,
    /// Visibility of other replicas' changes, if the configuration says so.
    pub coherence: Option<CoherenceConfig>,
    /// True if no other process writes to the storage.
    pub is_exclusive: bool,
}

/// Place of a registry's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageLocation {
    /// Memory: content is lost when the process ends.
    Memory,
    /// Folder in distribution's layout.
    Folder(PathBuf),
    /// Bucket of an object store, in distribution's layout.
    Bucket(Box<BucketConfig>),
}

/// Listeners, and the HTTP side of every response.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Address of the public listener.
    pub listen: ListenAddress,
    /// Path in front of `/v2/`: begins and ends with `/`.
    pub prefix: PathAndQuery,
    /// URL whose scheme and authority clients use for this registry, if they differ from those of their requests.
    pub host: Option<Uri>,
    /// Secret that replicas of a registry share.
    pub secret: Option<SecretText>,
    /// Headers of every response.
    pub headers: HeaderMap,
    /// Longest time that requests may go on after a signal to stop; `None` stands for the program's default.
    pub drain_timeout: Option<Duration>,
    /// Proxies whose statements about a client's address are believed.
    pub trusted_proxies: TrustedProxies,
    /// Listener for health and metrics.
    pub debug: Option<Debug>,
    /// TLS, if the public listener has it.
    pub tls: Option<TlsSettings>,
    /// True if each connection begins with the PROXY protocol.
    pub proxy_protocol: bool,
    /// Names in a client certificate that can be a user's, in the order in which they are looked for.
    pub certificate_names: Vec<CertificateField>,
}

/// Listener for health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debug {
    /// Address of the listener.
    pub listen: ListenAddress,
    /// Path of the metrics, beginning with `/`, if they are served.
    pub metrics_path: Option<String>,
}

/// Periodic check of something that the registry needs.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// Name in `/debug/health`, without the query of a URL.
    pub name: String,
    /// Subject of the check.
    pub kind: HealthCheckKind,
    /// Time between two checks, at least 100 milliseconds.
    pub interval: Duration,
    /// Failures in a row after which the registry is unhealthy.
    pub threshold: NonZeroU32,
}

/// Subject of a health check.
#[derive(Clone, Debug, PartialEq)]
pub enum HealthCheckKind {
    /// Storage, which must answer.
    Storage,
    /// File whose existence means unhealthy.
    File(PathBuf),
    /// Address that must accept a connection.
    Tcp {
        /// Host, which may be a name, and port.
        address: String,
        /// Longest time for the connection.
        timeout: Duration,
    },
    /// URL that must answer a HEAD request.
    Http {
        /// URL with the scheme `http`, without user and password.
        uri: Uri,
        /// Headers of the request.
        headers: HeaderMap,
        /// Status of a healthy answer.
        status: StatusCode,
        /// Longest time for the answer.
        timeout: Duration,
    },
}

/// Checks of pushed manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationConfig {
    /// True if `urls` of layers and missing children of indexes are accepted as they are.
    pub is_disabled: bool,
    /// Rules for `urls` of layers: unanchored regular expressions, each of which compiles. Without any expression,
    /// layers with `urls` are refused.
    pub urls: UrlPatterns,
    /// Children of an index that must be present.
    pub indexes: RequiredEntries,
}

/// Rules for `urls` of layers: unanchored regular expressions, each of which compiles. Without any expression,
/// layers with `urls` are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlPatterns {
    /// Expressions of which one must match.
    pub allow: Vec<String>,
    /// Expressions of which none may match.
    pub deny: Vec<String>,
}

// === impl Config ===

impl Config {
    /// Returns true if there is a source of users.
    #[must_use]
    pub const fn has_users(&self) -> bool {
        self.users.htpasswd.is_some()
            || self.users.keys_file.is_some()
            || self.token_server.is_some()
            || !self.http.certificate_names.is_empty()
    }

    /// Returns the keys that differ from `new` and take effect only when the registry is started again.
    #[must_use]
    pub fn keys_that_need_a_restart(&self, new: &Self) -> Vec<&'static str> {
        let (http, other) = (&self.http, &new.http);
        [
            ("storage", self.storage.location != new.storage.location),
            ("quinistry.exclusive", self.storage.is_exclusive != new.storage.is_exclusive),
            ("quinistry.coherence", self.storage.coherence != new.storage.coherence),
            ("quinistry.scrub.healfrom", self.scrub.heal_from != new.scrub.heal_from),
            ("http.addr", http.listen != other.listen),
            ("http.net", http.listen.is_unix() != other.listen.is_unix()),
            ("http.prefix", http.prefix != other.prefix),
            ("http.draintimeout", http.drain_timeout != other.drain_timeout),
            ("http.debug", http.debug != other.debug),
            ("http.tls", http.tls.is_some() != other.tls.is_some()),
            ("quinistry.http.proxyprotocol", http.proxy_protocol != other.proxy_protocol),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}
