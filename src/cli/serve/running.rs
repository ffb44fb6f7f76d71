//! A running registry: its listeners, storage and state, and the settings that a reload exchanges.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use axum::Router;

use super::announce;
use super::plan::{Listen, Live, Plan};
use super::reload::Reloads;
use crate::cli::listen;
use crate::http::access_log::AccessLog;
use crate::http::{Limits, Listener, WithPeer, serve, serve_each};
use crate::quine::Quine;
use crate::registry::config::{Config, HealthCheck, HealthCheckKind};
use crate::registry::debug::{self, DebugOptions};
use crate::registry::health::{Check, Health, HttpProbe, Probe};
use crate::registry::metrics::Metrics;
use crate::registry::{Observer, Settings, State};
use crate::store::Store;

/// Longest time to write the last lines of the access log at the end.
const ACCESS_LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Registry that is ready to serve.
pub(super) struct Running {
    listener: Listener,
    debug: Option<(Listener, Router)>,
    limits: Limits,
    state: State,
    parts: Parts,
}

/// Parts of a running registry that outlive its settings.
pub(super) struct Parts {
    store: Option<Store>,
    /// Metrics, if a listener shows them.
    metrics: Option<Arc<Metrics>>,
    /// Access log, once one was configured.
    access_log: Option<AccessLog>,
    /// Checks that run, and what they were made of.
    health: Option<(Vec<HealthCheck>, Health)>,
    has_configuration: bool,
    /// Configuration that is in use.
    pub(super) config: Option<Config>,
}

impl Running {
    /// Binds the listeners, opens the storage, and says that it serves. Must be called within a runtime.
    pub(super) fn start(plan: Plan, quine: &Quine) -> anyhow::Result<Self> {
        let listener = bind(&plan.listen, plan.limits)?;
        let debug_listener =
            plan.debug.as_ref().map(|debug| listen::bind(&debug.listen, plan.limits)).transpose()?;
        let metrics_path = plan.debug.as_ref().and_then(|debug| debug.metrics_path.clone());
        let metrics = metrics_path.as_ref().map(|_| Arc::new(Metrics::default()));
        let mut state = State::new(quine).with_prefix(plan.prefix);
        let mut live = plan.live;
        let mut store = None;
        if let Some(storage) = &plan.storage {
            let opened = storage.open(metrics.as_deref())?;
            live.settings.read_only |= !opened.is_writable;
            state = state.with_store(opened.store.clone(), Settings::default());
            if let Some(metrics) = &metrics {
                metrics.watch_store(opened.store.clone());
            }
            store = Some(opened.store);
        }
        let mut parts = Parts {
            store,
            metrics,
            access_log: None,
            health: None,
            has_configuration: plan.config.is_some(),
            config: plan.config,
        };
        announce::serving(&listener, debug_listener.as_ref(), quine, plan.storage.as_ref(), &live.settings)?;
        let settings = parts.settings(live)?;
        state.replace_settings(settings);
        parts.reloaded(true);
        let debug = debug_listener.map(|listener| {
            let (state, metrics) = (state.clone(), metrics_path.zip(parts.metrics.clone()));
            let options = move || DebugOptions { health: state.health(), metrics: metrics.clone() };
            (listener, debug::router(options))
        });
        Ok(Self { listener, debug, limits: plan.limits, state, parts })
    }

    /// Serves until `stop` resolves, and exchanges the settings when a reload asks for it.
    pub(super) async fn serve(self, reloads: Option<Reloads>, stop: impl Future<Output = ()>) {
        let Self { listener, debug, limits, state, parts } = self;
        let has_observer = parts.has_configuration || parts.access_log.is_some();
        let mut tasks = vec![tokio::spawn(state.expire_uploads())];
        if let Some((listener, router)) = debug {
            tasks.push(tokio::spawn(serve(listener, router, limits, std::future::pending())));
        }
        let access_log = parts.access_log.clone();
        if let Some(reloads) = reloads {
            tasks.push(tokio::spawn(reloads.run(state.clone(), parts)));
        }
        if has_observer {
            // Only an access log looks at the peer.
            serve_each(listener, move |peer| WithPeer::new(state.clone(), peer), limits, stop).await;
        } else {
            serve(listener, state, limits, stop).await;
        }
        for task in tasks {
            task.abort();
        }
        if let Some(log) = access_log {
            log.flush(ACCESS_LOG_FLUSH_TIMEOUT);
        }
    }
}

fn bind(wanted: &Listen, limits: Limits) -> anyhow::Result<Listener> {
    match wanted {
        Listen::Stdin => listen::from_stdin().context("standard input is not a listening TCP socket"),
        Listen::Demanded(address) => listen::bind(address, limits),
        Listen::Default(address) => match Listener::from_systemd()? {
            Some(listener) => Ok(listener),
            None => listen::bind(address, limits),
        },
    }
}

// === impl Parts ===

impl Parts {
    /// Completes settings by the observer that the plan asks for.
    pub(super) fn settings(&mut self, live: Live) -> anyhow::Result<Settings> {
        let access_log = live.access_log.map(|format| self.access_log(format)).transpose()?;
        let health = self.health(&live.health)?;
        let observer = Observer {
            metrics: self.metrics.clone(),
            access_log,
            health,
            trusted_proxies: live.trusted_proxies,
            request_ids: self.has_configuration,
        };
        let is_observed =
            self.has_configuration || observer.metrics.is_some() || observer.access_log.is_some();
        Ok(Settings { observer: is_observed.then(|| Arc::new(observer)), ..live.settings })
    }

    /// Records in the metrics that a configuration was read, and whether it is in use.
    pub(super) fn reloaded(&self, is_successful: bool) {
        if let Some(metrics) = self.metrics.as_ref().filter(|_| self.has_configuration) {
            metrics.reloaded(is_successful, SystemTime::now());
        }
    }

    /// Returns the access log, which is started once: its thread and its queue outlive the settings.
    fn access_log(&mut self, format: crate::http::access_log::Format) -> anyhow::Result<AccessLog> {
        if let Some(log) = &self.access_log {
            log.set_format(format);
            return Ok(log.clone());
        }
        let log = AccessLog::on_stdout(format).context("failed to start the access log")?;
        if let Some(metrics) = &self.metrics {
            metrics.watch_access_log(log.clone());
        }
        self.access_log = Some(log.clone());
        Ok(log)
    }

    /// Returns the running checks; those that did not change go on, with what they know.
    fn health(&mut self, wanted: &[HealthCheck]) -> anyhow::Result<Option<Health>> {
        if let Some((_, health)) = self.health.as_ref().filter(|(checks, _)| checks == wanted) {
            return Ok(Some(health.clone()));
        }
        let checks = wanted.iter().filter_map(|check| self.check(check).transpose());
        let checks = checks.collect::<anyhow::Result<Vec<_>>>()?;
        self.health = (!checks.is_empty()).then(|| (wanted.to_vec(), Health::start(checks)));
        Ok(self.health.as_ref().map(|(_, health)| health.clone()))
    }

    /// Returns a check that can run; `None` for one of a storage that is not there.
    fn check(&self, check: &HealthCheck) -> anyhow::Result<Option<Check>> {
        let probe = match &check.kind {
            HealthCheckKind::Storage => match &self.store {
                Some(store) => Probe::Storage(store.clone()),
                None => return Ok(None),
            },
            HealthCheckKind::File(path) => Probe::File(path.clone()),
            HealthCheckKind::Tcp { address, timeout } => {
                Probe::Tcp { address: address.clone(), timeout: *timeout }
            }
            HealthCheckKind::Http { uri, headers, status, timeout } => {
                Probe::Http(HttpProbe::new(&uri.to_string(), headers.clone(), *status, *timeout)?)
            }
        };
        let (name, interval, threshold) = (check.name.clone(), check.interval, check.threshold.get());
        Ok(Some(Check { name, probe, interval, threshold }))
    }
}
