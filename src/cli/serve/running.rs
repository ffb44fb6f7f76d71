//! A running registry: its listeners, storage and state, and the settings that a reload exchanges.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use axum::Router;

use super::announce::{self, Listeners};
use super::endpoints::{self, client_tls};
use super::exposure::Exposure;
use super::files::{FileValues, FileWatcher, WatchedFiles};
use super::heal_sources;
use super::opened_storage::OpenedStorage;
use super::plan::{Listen, Live, ServePlan};
use super::push_listener;
use super::reload::Reloads;
use super::renewal;
use crate::cli::{listen, private_file};
use crate::http::access_log::{self, AccessLog};
use crate::http::audit_log::{AuditLog, AuditPlace};
use crate::http::proxy_protocol::ProxyProtocol;
use crate::http::tls::{AcceptedTls, LoadedTls, TlsServer};
use crate::http::{Limits, Listener, Transport, WithPeer, serve, serve_each};
use crate::quine::Quine;
use crate::registry::auth::LoadedAccess;
use crate::registry::auth::load::UserState;
use crate::registry::config::{AuditConfig, AuditPath, Config, HealthCheck, HealthCheckKind, ListenAddress};
use crate::registry::debug::{self, DebugOptions};
use crate::registry::health::{Check, Health, HttpProbe, Probe};
use crate::registry::metrics::{CollectionMetrics, RegistryMetrics};
use crate::registry::notifications::Notifications;
use crate::registry::{Audit, CollectionHooks, Observer, Settings, State};
use crate::store::HealSource;

/// Longest time to write the last lines of a log at the end.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Registry that is ready to serve.
pub(super) struct RunningRegistry {
    listener: Listener,
    /// Listener that alone takes pushes, if there is one.
    push_listener: Option<Listener>,
    debug: Option<(Listener, Router)>,
    /// Set when the registry begins to stop.
    is_stopping: Arc<AtomicBool>,
    limits: Limits,
    state: State,
    parts: Parts,
    file_watcher: FileWatcher,
    /// Sources of content that replaces damaged one.
    heal_sources: Vec<Arc<dyn HealSource>>,
}

/// Parts of a running registry that outlive its settings.
pub(super) struct Parts {
    /// Store, and whether its storage was opened for writing.
    opened: Option<OpenedStorage>,
    /// Metrics, if a listener shows them.
    metrics: Option<Arc<RegistryMetrics>>,
    /// Access log, once one was configured; its thread and its queue outlive the settings.
    access_log: Arc<OnceLock<AccessLog>>,
    /// Audit log, once one was configured; its thread and its queue outlive the settings.
    audit: Arc<Mutex<Option<AuditLog>>>,
    /// Checks that run, and what they were made of.
    health: Option<(Vec<HealthCheck>, Health)>,
    /// Files that are read again when they change.
    files: WatchedFiles,
    /// State of users and their passwords.
    pub(super) users: UserState,
    /// Steps of the public listener before HTTP.
    transport: Transport,
    /// Endpoints that get events; they and their queues outlive the settings.
    notifications: Arc<Notifications>,
    /// True if clients without credentials can write.
    exposure: Exposure,
    /// Numbers of the collection of garbage, which outlive its settings.
    collection: Arc<CollectionMetrics>,
    /// Configuration of the start, if there was one.
    config: Option<Config>,
}

/// Checks and log that a plan asks for, ready to be used: nothing of them can fail any more.
pub(super) struct Prepared {
    checks: Vec<Check>,
    access_log: Option<AccessLog>,
    audit: Option<Audit>,
    access: LoadedAccess,
    tls: Option<AcceptedTls>,
    /// Values that were read from files, to be watched.
    file_values: FileValues,
}

impl RunningRegistry {
    /// Binds the listeners, opens the storage, and says that it serves. Must be called within a runtime.
    pub(super) fn start(plan: &ServePlan, quine: &Quine) -> anyhow::Result<Self> {
        let option = if plan.config.is_some() { "http.addr or --listen" } else { "--listen" };
        let transport = transport(plan)?;
        let listener = bind(&plan.listen, plan.limits, option)?.with_transport(transport.clone());
        let push_listener = bind_other(plan.push_listen.as_ref(), plan.limits, "--push-listen")?;
        let debug_address = plan.debug.as_ref().map(|debug| &debug.listen);
        let debug_listener = bind_other(debug_address, plan.limits, "--metrics or http.debug.addr")?;
        let metrics_path = plan.debug.as_ref().and_then(|debug| debug.metrics_path.clone());
        let metrics = metrics_path.as_ref().map(|_| Arc::new(RegistryMetrics::default()));
        let mut state = State::new(quine).with_prefix(plan.prefix.clone());
        let collection = Arc::<CollectionMetrics>::default();
        let opened = plan.storage.as_ref().map(|storage| storage.open(metrics.as_deref())).transpose()?;
        if let Some(OpenedStorage { store, .. }) = &opened {
            state = state.with_store(store.clone(), Settings::default());
            if let Some(metrics) = &metrics {
                metrics.watch_store(store.clone());
                metrics.watch_collection(collection.clone());
                if let Some(upstreams) = state.upstream_metrics() {
                    metrics.watch_upstreams(upstreams);
                }
            }
        }
        if let Some(peers) = &plan.live.settings.peers {
            peers.read_names();
            if let Some(metrics) = &metrics {
                metrics.watch_peers(peers.metrics());
                if let Some(named) = &plan.live.settings.named {
                    metrics.watch_named_images(named.clone());
                }
            }
        }
        let access_log = Arc::default();
        let (files, file_watcher) = WatchedFiles::new(metrics.clone());
        if let Some((metrics, tls)) = metrics.as_ref().zip(transport.tls.clone()) {
            metrics.watch_tls(tls);
        }
        let config = plan.config.clone();
        let users = UserState::new().map_err(anyhow::Error::from_boxed)?;
        if let Some(metrics) = metrics.as_ref().filter(|_| config.is_some()) {
            metrics.watch_auth(users.metrics().clone());
        }
        let address = listener.local_address()?;
        let notifications = Arc::new(Notifications::new(endpoints::source(&address)));
        if let Some(metrics) = metrics.as_ref().filter(|_| config.is_some()) {
            metrics.watch_notifications(notifications.clone());
        }
        let mut parts = Parts {
            opened,
            metrics,
            access_log,
            audit: Arc::default(),
            health: None,
            files,
            users,
            transport,
            notifications: notifications.clone(),
            exposure: Exposure::new(&address),
            collection,
            config,
        };
        let heal_from = plan.config.as_ref().map(|config| &config.scrub.heal_from[..]);
        let heal_sources = heal_sources::sources(heal_from.unwrap_or_default())?;
        let access = plan.load_access(&parts.users)?;
        if let Some(user) = &access.created_user {
            announce::created_user(user, plan.config.as_ref());
        }
        let has_users = access.control.is_some();
        let prepared = parts.prepare(&plan.live, access, None)?;
        let certificate = parts.transport.tls.as_ref().and_then(|tls| tls.certificate());
        let clients = announce::Clients { has_users, certificate };
        let listeners =
            Listeners { public: &listener, push: push_listener.as_ref(), debug: debug_listener.as_ref() };
        announce::serving(&listeners, quine, plan, &clients)?;
        let (settings, _) = parts.apply(&plan.live, prepared);
        state.replace_settings(settings);
        parts.reloaded(true);
        let is_stopping = Arc::<AtomicBool>::default();
        let debug = debug_listener.map(|listener| {
            let (state, metrics) = (state.clone(), metrics_path.zip(parts.metrics.clone()));
            let stopping = is_stopping.clone();
            let options = move || DebugOptions {
                health: state.health(),
                metrics: metrics.clone(),
                notifications: Some(notifications.clone()),
                upstreams: state.upstream_metrics(),
                is_stopping: stopping.load(Ordering::Relaxed),
            };
            (listener, debug::router(options))
        });
        let limits = plan.limits;
        Ok(Self {
            listener,
            push_listener,
            debug,
            is_stopping,
            limits,
            state,
            parts,
            file_watcher,
            heal_sources,
        })
    }

    /// Serves until `stop` resolves, and exchanges the settings when a reload asks for it.
    pub(super) async fn serve(self, reloads: Option<Reloads>, stop: impl Future<Output = ()>) {
        let Self {
            listener,
            push_listener,
            debug,
            is_stopping,
            limits,
            state,
            parts,
            file_watcher,
            heal_sources,
        } = self;
        let stopped_at = Arc::<OnceLock<Instant>>::default();
        let begins_to_stop = stopped_at.clone();
        let stop = async move {
            stop.await;
            begins_to_stop.get_or_init(Instant::now);
            is_stopping.store(true, Ordering::Relaxed);
        };
        let (access_log, audit) = (parts.access_log.clone(), parts.audit.clone());
        let notifications = parts.notifications.clone();
        // Only an access log and users look at the peer, and a reload may switch them on.
        let looks_at_peers = reloads.is_some() || access_log.get().is_some() || state.has_users();
        let mut tasks = vec![tokio::spawn(state.expire_uploads()), tokio::spawn(state.write_records())];
        if parts.opened.as_ref().is_some_and(|opened| opened.store.outlives_process()) {
            tasks.push(tokio::spawn(state.scrub(heal_sources)));
        }
        if parts.opened.as_ref().is_some_and(|opened| opened.store.is_shared()) {
            tasks.push(tokio::spawn(state.maintain_storage()));
        }
        let hooks = CollectionHooks::counting(parts.collection.clone());
        tasks.push(tokio::spawn(state.collect_garbage(hooks, parts.collection.clone())));
        tasks.push(tokio::spawn(state.evict_copies()));
        tasks.push(tokio::spawn(state.prefetch()));
        tasks.push(tokio::spawn(state.keep_named()));
        if let Some((listener, router)) = debug {
            tasks.push(tokio::spawn(serve(listener, router, limits, std::future::pending())));
        }
        tasks.push(tokio::spawn(file_watcher.run()));
        if let Some(tls) = &parts.transport.tls {
            tasks.push(tokio::spawn(renewal::keep(tls.clone())));
        }
        if let Some(reloads) = reloads {
            tasks.push(tokio::spawn(reloads.run(state.clone(), parts)));
        }
        let stored = state.clone();
        if let Some(push_listener) = push_listener {
            push_listener::serve_apart(listener, push_listener, state, limits, stop).await;
        } else if looks_at_peers {
            serve_each(listener, move |peer| WithPeer::new(state.clone(), peer), limits, stop).await;
        } else {
            serve(listener, state, limits, stop).await;
        }
        for task in tasks {
            task.abort();
        }
        // In what is left of the time for requests.
        let elapsed = stopped_at.get().map_or(Duration::ZERO, Instant::elapsed);
        notifications.drain(limits.drain.saturating_sub(elapsed)).await;
        if tokio::time::timeout(LOG_FLUSH_TIMEOUT, stored.flush_records()).await.is_err() {
            tracing::warn!("storage too slow, records of the last minutes not written");
        }
        if let Some(log) = access_log.get() {
            log.flush(LOG_FLUSH_TIMEOUT);
        }
        if let Some(log) = &*lock(&audit) {
            log.flush(LOG_FLUSH_TIMEOUT);
        }
    }
}

fn lock(log: &Mutex<Option<AuditLog>>) -> MutexGuard<'_, Option<AuditLog>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the steps of the public listener before HTTP.
fn transport(plan: &ServePlan) -> anyhow::Result<Transport> {
    if let Some(settings) = &plan.live.tls {
        renewal::renew(settings);
    }
    let tls = plan.load_tls()?.map(|loaded| Arc::new(TlsServer::new(loaded)));
    let protocol = || Arc::new(ProxyProtocol::new(plan.live.trusted_proxies.clone()));
    Ok(Transport { tls, proxy_protocol: plan.proxy_protocol.then(protocol) })
}

fn bind(wanted: &Listen, limits: Limits, option: &str) -> anyhow::Result<Listener> {
    match wanted {
        Listen::Stdin => listen::from_stdin().context("standard input is not a listening TCP socket"),
        Listen::Demanded(address) => listen::bind(address, limits, "--listen"),
        Listen::Default(address) => match Listener::from_systemd()? {
            Some(listener) => Ok(listener),
            None => listen::bind(address, limits, option),
        },
    }
}

/// Binds a listener beside the public one, if it has an address.
fn bind_other(
    address: Option<&ListenAddress>,
    limits: Limits,
    option: &str,
) -> anyhow::Result<Option<Listener>> {
    address.map(|address| listen::bind(address, limits, option)).transpose()
}

// === impl Parts ===

impl Parts {
    /// Makes the checks and the access log of a plan; changes nothing that is in use.
    pub(super) fn prepare(
        &self,
        live: &Live,
        mut access: LoadedAccess,
        tls: Option<LoadedTls>,
    ) -> anyhow::Result<Prepared> {
        let checks = live.health.iter().filter_map(|check| self.check(check).transpose());
        let checks = checks.collect::<anyhow::Result<_>>()?;
        let access_log = live.access_log.map(|format| self.access_log(format)).transpose()?;
        let audit = live.audit.as_ref().map(|audit| self.audit(audit)).transpose()?;
        let tls = self.transport.tls.as_ref().zip(tls);
        let tls = tls.map(|(server, loaded)| server.accept(loaded)).transpose()?;
        let mut file_values = FileValues::new();
        file_values.append(&mut access.files);
        if let Some(tls) = &self.transport.tls {
            file_values.push(tls.clone());
        }
        Ok(Prepared { checks, access_log, audit, access, tls, file_values })
    }

    /// Returns the settings of a plan with the observer that it asks for, and whether every client that reaches the
    /// registry can write from now on, and could not before.
    pub(super) fn apply(&mut self, live: &Live, prepared: Prepared) -> (Settings, bool) {
        let Prepared { checks, access_log, audit, access, tls, file_values } = prepared;
        let audit_log = audit.as_ref().map(|audit| audit.log.clone());
        if let Some(metrics) = &self.metrics {
            metrics.watch_audit_log(audit_log.clone());
        }
        *lock(&self.audit) = audit_log;
        if let Some((server, accepted)) = self.transport.tls.as_ref().zip(tls) {
            server.replace(accepted);
        }
        if let Some(protocol) = &self.transport.proxy_protocol {
            protocol.trust(live.trusted_proxies.clone());
        }
        self.files.replace(file_values);
        if let (Some(log), Some(format)) = (&access_log, live.access_log) {
            log.set_format(format);
        }
        let has_configuration = self.config.is_some();
        let observer = Observer {
            metrics: self.metrics.clone(),
            access_log,
            health: self.health(&live.health, checks),
            trusted_proxies: live.trusted_proxies.clone(),
            request_ids: has_configuration,
        };
        let is_observed = has_configuration || observer.metrics.is_some() || observer.access_log.is_some();
        let read_only = live.settings.read_only || self.is_unwritable();
        let has_opened = self.exposure.update(self.opened.is_some() && !read_only, access.control.is_some());
        let settings = Settings {
            observer: is_observed.then(|| Arc::new(observer)),
            read_only,
            access: access.control,
            audit,
            notifier: self.notifications.apply(live.endpoints.clone(), live.events.clone()),
            ..live.settings.clone()
        };
        (settings, has_opened)
    }

    /// Returns true if the storage was opened for reading only, which no reload changes.
    pub(super) fn is_unwritable(&self) -> bool {
        self.opened.as_ref().is_some_and(|opened| !opened.is_writable)
    }

    /// Returns the keys that differ from the configuration of the start, and wait for the next one.
    pub(super) fn keys_that_need_a_restart(&self, new: Option<&Config>) -> Vec<&'static str> {
        self.config.as_ref().zip(new).map(|(old, new)| old.keys_that_need_a_restart(new)).unwrap_or_default()
    }

    /// Records in the metrics that a configuration was read, and whether it is in use.
    pub(super) fn reloaded(&self, is_successful: bool) {
        if let Some(metrics) = self.metrics.as_ref().filter(|_| self.config.is_some()) {
            metrics.reloaded(is_successful, SystemTime::now());
        }
    }

    /// Returns the access log, and starts it the first time.
    fn access_log(&self, format: access_log::AccessLogFormat) -> anyhow::Result<AccessLog> {
        if let Some(log) = self.access_log.get() {
            return Ok(log.clone());
        }
        let log = AccessLog::on_stdout(format).context("failed to start the access log")?;
        if let Some(metrics) = &self.metrics {
            metrics.watch_access_log(log.clone());
        }
        Ok(self.access_log.get_or_init(|| log).clone())
    }

    /// Returns the audit log, and starts it if it goes to another place than before.
    fn audit(&self, wanted: &AuditConfig) -> anyhow::Result<Audit> {
        let place = match &wanted.path {
            AuditPath::Stdout => AuditPlace::Stdout,
            AuditPath::File(path) => AuditPlace::File(path.clone()),
        };
        let running = lock(&self.audit).clone().filter(|log| *log.place() == place);
        let log = if let Some(log) = running {
            log
        } else {
            let failed = || format!("failed to open audit log {place}; name a file that can be written");
            if let AuditPlace::File(path) = &place {
                private_file::make_folder_of(path).with_context(failed)?;
            }
            AuditLog::start(place.clone()).with_context(failed)?
        };
        Ok(Audit { log, pulls: wanted.pulls })
    }

    /// Returns the audit log, if there is one.
    pub(super) fn audit_log(&self) -> Option<AuditLog> {
        lock(&self.audit).clone()
    }

    /// Returns the running checks. If none has changed they go on; otherwise they start with what is known.
    fn health(&mut self, wanted: &[HealthCheck], checks: Vec<Check>) -> Option<Health> {
        let is_same = self.health.as_ref().is_some_and(|(former, _)| former == wanted);
        if !is_same {
            let former = self.health.take();
            let former = former.as_ref().map(|(_, health)| health);
            self.health =
                (!checks.is_empty()).then(|| (wanted.to_vec(), Health::start_after(former, checks)));
        }
        self.health.as_ref().map(|(_, health)| health.clone())
    }

    /// Returns a check that can run; `None` for one of a storage that is not there.
    fn check(&self, check: &HealthCheck) -> anyhow::Result<Option<Check>> {
        let probe = match &check.kind {
            HealthCheckKind::Storage => match &self.opened {
                Some(opened) => Probe::Storage(opened.store.clone()),
                None => return Ok(None),
            },
            HealthCheckKind::File(path) => Probe::File(path.clone()),
            HealthCheckKind::Tcp { address, timeout } => {
                Probe::Tcp { address: address.clone(), timeout: *timeout }
            }
            HealthCheckKind::Http { uri, headers, status, timeout } => {
                let (uri, headers) = (uri.to_string(), headers.clone());
                Probe::Http(Box::new(HttpProbe::new(&uri, headers, *status, *timeout, client_tls())?))
            }
        };
        let (name, interval, threshold) = (check.name.clone(), check.interval, check.threshold.get());
        Ok(Some(Check { name, probe, interval, threshold }))
    }
}
