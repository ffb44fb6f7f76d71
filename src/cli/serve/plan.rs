//! Plan of a registry: everything that `serve` starts from, whether it came from flags or from a configuration.
//!
//! Flags beside a configuration override the listener, and else only restrict further.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use super::peers::PeerSettings;
use super::{Flags, endpoints, settings, upstreams};
use crate::bucket::BucketOptions;
use crate::cli::configuration::{Configuration, Remarks};
use crate::cli::exit::UsageError;
use crate::cli::storage::bucket;
use crate::http::Limits;
use crate::http::access_log;
use crate::http::client_address::TrustedProxies;
use crate::http::tls::{LoadedTls, TlsSettings};
use crate::registry::auth::load::{self, LoadedAccess, UserState};
use crate::registry::config::{
    AuditConfig, CoherenceConfig, Config, Debug as DebugListener, HealthCheck, HealthCheckKind,
    ListenAddress, ListenHost, StorageLocation,
};
use crate::registry::health::DEFAULT_INTERVAL;
use crate::registry::notifications::{EventSettings, PreparedEndpoint};
use crate::registry::{
    CollectionSettings, ExtraHeaders, PageLimits, PathPrefix, Redirects, RepositoryNaming, Settings,
    UploadExpiry,
};
use crate::store::{AbsentParts, Coherence};
use crate::telemetry;

/// Port of a registry that no flag and no configuration gives an address.
const DEFAULT_PORT: u16 = 8080;

/// Path of the metrics that a flag asks for.
const METRICS_PATH: &str = "/metrics";

/// Memory for content with `storage: inmemory`, in bytes.
const MEMORY_BYTES: u64 = 1 << 30;

/// Everything that a registry starts from.
#[derive(Debug)]
pub(super) struct ServePlan {
    pub(super) listen: Listen,
    /// Address of the listener that alone takes pushes, if there is one.
    pub(super) push_listen: Option<ListenAddress>,
    pub(super) storage: Option<StoragePlan>,
    pub(super) prefix: PathPrefix,
    pub(super) limits: Limits,
    /// Listener for metrics and health.
    pub(super) debug: Option<DebugListener>,
    /// True if each connection begins with the PROXY protocol.
    pub(super) proxy_protocol: bool,
    pub(super) live: Live,
    /// Configuration that the plan came from, to compare with a later one.
    pub(super) config: Option<Config>,
    remarks: Remarks,
}

/// Socket to listen on.
#[derive(Debug)]
pub(super) enum Listen {
    /// Socket that is standard input.
    Stdin,
    /// Address that a flag demands.
    Demanded(ListenAddress),
    /// Address for want of a socket that systemd has opened.
    Default(ListenAddress),
}

/// Storage to open.
#[derive(Debug)]
pub(in crate::cli) struct StoragePlan {
    pub(in crate::cli) place: StoragePlace,
    pub(in crate::cli) access: FolderAccess,
    /// Parts of pushed manifests that may be absent.
    pub(in crate::cli) absent_parts: AbsentParts,
    /// Visibility of other replicas' changes, unless it is the usual one.
    pub(in crate::cli) coherence: Option<Coherence>,
    /// True if no other process writes to the storage, as its owner says.
    pub(in crate::cli) is_exclusive: bool,
}

#[derive(Debug)]
pub(in crate::cli) enum StoragePlace {
    Memory {
        bytes: u64,
    },
    Folder(PathBuf),
    Bucket(Box<BucketOptions>),
    /// Archive of images.
    Bundle(PathBuf),
}

/// Access to a storage folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum FolderAccess {
    /// The folder may be on a read-only file system, or served by another process as well.
    Read,
    /// The folder is this process's alone.
    Write,
    /// As for writing where that is possible: a reload may permit writes.
    WriteIfPossible,
}

/// Part of a plan that a reload replaces.
#[derive(Debug)]
pub(super) struct Live {
    log: telemetry::LogSettings,
    /// Settings without their observer.
    pub(super) settings: Settings,
    pub(super) access_log: Option<access_log::AccessLogFormat>,
    pub(super) trusted_proxies: TrustedProxies,
    pub(super) tls: Option<TlsSettings>,
    pub(super) health: Vec<HealthCheck>,
    pub(super) audit: Option<AuditConfig>,
    /// Endpoints that get events.
    pub(super) endpoints: Vec<Arc<PreparedEndpoint>>,
    pub(super) events: EventSettings,
}

impl ServePlan {
    /// Makes the plan of flags alone.
    pub(super) fn of_flags(Flags { args, log_format }: &Flags) -> Result<Self, UsageError> {
        let mut storage = args.storage.plan()?;
        if let Some(storage) = storage.as_mut().filter(|_| args.peers.keeps_named()) {
            // Bundles of some platforms have indexes without the other children. More may be absent only if
            // that is asked for.
            if storage.absent_parts == AbsentParts::Refused {
                storage.absent_parts = AbsentParts::OtherChildren;
            }
        }
        // Only one process writes to a folder. Other programs may write to a bucket, so that collection must
        // be asked for.
        let is_own =
            storage.as_ref().is_some_and(|storage| !matches!(storage.place, StoragePlace::Bucket(_)));
        let collects = args.storage.gc || args.peers.keeps_named() && is_own;
        let PeerSettings { peers, named } = args.peers.settings()?;
        let listen = match &args.listen {
            _ if args.listen_stdin => Listen::Stdin,
            Some(address) => Listen::Demanded(address.clone()),
            None => Listen::Default(ListenAddress::Tcp { host: ListenHost::All, port: DEFAULT_PORT }),
        };
        let log = telemetry::LogSettings {
            format: log_format.unwrap_or_default(),
            ..telemetry::LogSettings::default()
        };
        Ok(Self {
            listen,
            push_listen: args.push.address()?,
            prefix: PathPrefix::default(),
            limits: Limits::default(),
            proxy_protocol: false,
            debug: args.metrics.clone().map(debug_listener),
            live: Live {
                settings: Settings {
                    read_only: args.storage.is_read_only(),
                    delete: !args.storage.no_delete,
                    upload_expiry: UploadExpiry {
                        age: args.storage.upload_timeout(),
                        interval: args.storage.upload_timeout().min(UploadExpiry::default().interval),
                        ..UploadExpiry::default()
                    },
                    collection: collects.then(CollectionSettings::without_configuration),
                    peers,
                    named,
                    naming: naming(storage.as_ref()),
                    ..Settings::default()
                },
                access_log: args.access_log.then(|| access_log_format(log.format)),
                trusted_proxies: TrustedProxies::default(),
                tls: args.tls.settings(),
                health: bundle_check(storage.as_ref()).into_iter().collect(),
                audit: None,
                endpoints: Vec::new(),
                events: EventSettings::default(),
                log,
            },
            storage,
            config: None,
            remarks: Remarks::default(),
        })
    }

    /// Reads a configuration, and makes the plan of it and of the flags beside it.
    pub(super) fn of_configuration(
        Flags { args, log_format }: &Flags,
        configuration: &Configuration,
    ) -> anyhow::Result<Self> {
        if args.storage.names_a_place() {
            return Err(UsageError(format!(
                "--storage and --bundle cannot be used with a configuration, here {configuration}: set \
                 storage.filesystem.rootdirectory or REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY, or unset all \
                 REGISTRY_ variables"
            ))
            .into());
        }
        if args.peers.are_given() {
            return Err(UsageError(format!(
                "--peers cannot be used with a configuration, here {configuration}: serve with options alone, and \
                 unset all REGISTRY_ variables"
            ))
            .into());
        }
        if args.tls.settings().is_some() {
            return Err(UsageError(format!(
                "--tls-cert cannot be used with a configuration, here {configuration}: set http.tls.certificate and \
                 http.tls.key, or REGISTRY_HTTP_TLS_CERTIFICATE and REGISTRY_HTTP_TLS_KEY"
            ))
            .into());
        }
        let (config, remarks) = configuration.read()?.check_files().accept()?;
        let mut plan = Self { remarks, ..Self::of_config(config)? };
        if args.listen_stdin {
            plan.listen = Listen::Stdin;
        } else if let Some(address) = &args.listen {
            plan.listen = Listen::Demanded(address.clone());
        }
        if let Some(address) = &args.metrics {
            let path = plan.debug.and_then(|debug| debug.metrics_path);
            plan.debug = Some(DebugListener {
                metrics_path: path.or(Some(METRICS_PATH.into())),
                ..debug_listener(address.clone())
            });
        }
        if args.storage.is_read_only() {
            plan.live.settings.read_only = true;
            if let Some(storage) = &mut plan.storage {
                storage.access = FolderAccess::Read;
            }
        }
        plan.live.settings.delete &= !args.storage.no_delete;
        if let Some(format) = log_format {
            plan.live.log.format = *format;
        }
        if args.access_log || plan.live.access_log.is_some() {
            plan.live.access_log = Some(access_log_format(plan.live.log.format));
        }
        Ok(plan)
    }

    fn of_config(config: Config) -> anyhow::Result<Self> {
        let place = match &config.storage.location {
            StorageLocation::Memory => StoragePlace::Memory { bytes: MEMORY_BYTES },
            StorageLocation::Folder(folder) => StoragePlace::Folder(folder.clone()),
            StorageLocation::Bucket(config) => StoragePlace::Bucket(Box::new(bucket::options(config)?)),
        };
        let access =
            if config.storage.is_read_only { FolderAccess::WriteIfPossible } else { FolderAccess::Write };
        let coherence = config.storage.coherence.map(|coherence| match coherence {
            CoherenceConfig::Strict => Coherence::Strict,
            CoherenceConfig::Relaxed => Coherence::Relaxed,
        });
        let mut limits = Limits::default();
        limits.drain = config.http.drain_timeout.unwrap_or(limits.drain);
        Ok(Self {
            listen: Listen::Default(config.http.listen.clone()),
            push_listen: None,
            storage: Some(StoragePlan {
                place,
                access,
                absent_parts: AbsentParts::Refused,
                coherence,
                is_exclusive: config.storage.is_exclusive,
            }),
            prefix: config.http.prefix.path().parse()?,
            limits,
            proxy_protocol: config.http.proxy_protocol,
            debug: config.http.debug.clone(),
            live: Live::of(&config)?,
            config: Some(config),
            remarks: Remarks::default(),
        })
    }

    /// Reads users and rules, with the files that the configuration names. Blocks.
    pub(super) fn load_access(&self, users: &UserState) -> anyhow::Result<LoadedAccess> {
        let loaded = self.config.as_ref().map(|config| load::load(config, users)).transpose();
        Ok(loaded.map_err(anyhow::Error::from_boxed)?.unwrap_or_default())
    }

    /// Reads certificate, key and client authorities. Blocks.
    pub(super) fn load_tls(&self) -> anyhow::Result<Option<LoadedTls>> {
        let loaded = self.live.tls.clone().map(LoadedTls::read).transpose()?;
        // The remarks about a configuration have this warning.
        if self.config.is_none()
            && let Some(warning) = loaded.as_ref().and_then(LoadedTls::warning)
        {
            tracing::warn!("{warning}");
        }
        Ok(loaded)
    }

    /// Applies level, form and fields of the log, and logs remarks about the configuration.
    pub(super) fn start_log(&self) {
        telemetry::configure(&self.live.log);
        self.remarks.log();
    }
}

fn debug_listener(listen: ListenAddress) -> DebugListener {
    DebugListener { listen, metrics_path: Some(METRICS_PATH.into()) }
}

fn access_log_format(log: telemetry::LogFormat) -> access_log::AccessLogFormat {
    match log {
        telemetry::LogFormat::Text => access_log::AccessLogFormat::Combined,
        telemetry::LogFormat::Json | telemetry::LogFormat::Logstash => access_log::AccessLogFormat::Json,
    }
}

// === impl Live ===

impl Live {
    fn of(config: &Config) -> anyhow::Result<Self> {
        let log = telemetry::LogSettings {
            level: config.log.level,
            format: config.log.formatter,
            fields: config.log.fields.iter().cloned().collect(),
        };
        let mut headers = ExtraHeaders::default();
        for (name, value) in &config.http.headers {
            headers.append(name.clone(), value.clone())?;
        }
        Ok(Self {
            settings: Settings {
                headers,
                pages: PageLimits {
                    repositories: config.max_catalog_entries.get(),
                    tags: config.max_tags.get(),
                },
                validation: settings::validation(&config.validation)?,
                classes: config.policy_classes.clone().unwrap_or_default(),
                answers_root: true,
                redirects: config
                    .storage
                    .redirect
                    .map(|redirect| Redirects { lifetime: redirect.expiry, min_bytes: redirect.min_bytes }),
                upload_secret: settings::upload_secret(config),
                upstreams: upstreams::upstreams(&config.upstreams)?,
                ..settings::of_content(config)?
            },
            access_log: config.log.access_log.then(|| access_log_format(log.format)),
            trusted_proxies: config.http.trusted_proxies.clone(),
            tls: config.http.tls.clone(),
            health: config.health.clone(),
            audit: config.access.audit.clone(),
            endpoints: endpoints::prepare(&config.notifications)?,
            events: EventSettings {
                includes_references: config.notifications.includes_references,
                public_url: config.http.host.clone(),
            },
            log,
        })
    }
}

fn is_bundle(storage: Option<&StoragePlan>) -> bool {
    storage.is_some_and(|storage| matches!(storage.place, StoragePlace::Bundle(_)))
}

/// Returns the form of the names of repositories: those of an archive are full names of images.
fn naming(storage: Option<&StoragePlan>) -> RepositoryNaming {
    if is_bundle(storage) { RepositoryNaming::BelowHosts } else { RepositoryNaming::AsPushed }
}

/// Returns the check of an archive, which lies on removable media and shares: they vanish without a call to this program.
fn bundle_check(storage: Option<&StoragePlan>) -> Option<HealthCheck> {
    is_bundle(storage).then(|| HealthCheck {
        name: "bundle".into(),
        kind: HealthCheckKind::Storage,
        interval: DEFAULT_INTERVAL,
        threshold: NonZeroU32::MIN,
    })
}

#[cfg(test)]
mod tests;
