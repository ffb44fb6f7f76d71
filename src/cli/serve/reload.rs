//! Reload of the configuration when SIGHUP asks for it: all of it, or nothing.

use std::time::SystemTime;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::plan::ServePlan;
use super::running::Parts;
use super::{Flags, exposure};
use crate::cli::configuration::{Configuration, Refused};
use crate::http::audit_log::{AuditEntry, AuditLog};
use crate::http::tls::LoadedTls;
use crate::registry::State;
use crate::registry::auth::LoadedAccess;

/// Requests to read the configuration again.
pub(super) struct Reloads {
    hangup: Signal,
    flags: Flags,
    configuration: Configuration,
    can_be_read_again: bool,
}

impl Reloads {
    /// Starts to listen for SIGHUP, which no longer ends the process. Must be called within a runtime.
    pub(super) fn listen(flags: Flags, configuration: Configuration) -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("failed to listen for SIGHUP")?;
        let can_be_read_again = configuration.can_be_read_again();
        Ok(Self { hangup, flags, configuration, can_be_read_again })
    }

    /// Reads the configuration at each signal, and exchanges the settings of `state` if it is accepted.
    pub(super) async fn run(mut self, state: State, mut parts: Parts) {
        while self.hangup.recv().await.is_some() {
            // Also if the configuration is refused: a program that rotates logs sends the signal, too.
            if let Some(log) = parts.audit_log() {
                reopen(log).await;
            }
            if !self.can_be_read_again {
                tracing::warn!(file = %self.configuration, "SIGHUP ignored, this is not a file that can be read again");
                continue;
            }
            let (flags, configuration) = (self.flags.clone(), self.configuration.clone());
            let users = parts.users.running();
            let read = move || {
                let plan = ServePlan::of_configuration(&flags, &configuration)?;
                let access = plan.load_access(&users)?;
                let tls = plan.load_tls()?;
                Ok((plan, access, tls))
            };
            // A file on a network may hang; requests must not wait for it.
            let read = tokio::task::spawn_blocking(read).await;
            let read = read.unwrap_or_else(|error| Err(anyhow::Error::from(error)));
            let result = read.and_then(|(plan, access, tls)| apply(&plan, access, tls, &state, &mut parts));
            parts.reloaded(result.is_ok());
            if let Some(log) = parts.audit_log() {
                record(&log, result.as_ref().err());
            }
            match result {
                Ok(()) => tracing::info!(file = %self.configuration, "configuration reloaded"),
                Err(error) => log_failure(&error),
            }
        }
    }
}

/// Records in the audit log that the configuration was read again, or refused.
fn record(log: &AuditLog, error: Option<&anyhow::Error>) {
    let reason = error.map(|error| format!("{error:#}"));
    log.log(&AuditEntry::of_reload(SystemTime::now(), reason.as_deref()));
}

/// Opens the file of an audit log again, for one that was renamed.
async fn reopen(log: AuditLog) {
    let place = log.place().clone();
    let reopened = tokio::task::spawn_blocking(move || log.reopen()).await;
    if let Err(error) = reopened.map_err(std::io::Error::from).flatten() {
        tracing::error!(%error, %place, "cannot open audit log again, keeping the former file");
    }
}

/// Puts a plan into effect: what can fail comes first, so that all of it takes effect or nothing.
fn apply(
    plan: &ServePlan,
    access: LoadedAccess,
    tls: Option<LoadedTls>,
    state: &State,
    parts: &mut Parts,
) -> anyhow::Result<()> {
    let is_open_on_purpose = plan.config.as_ref().is_some_and(|config| config.users.is_none);
    if access.control.is_none() && state.has_users() && !is_open_on_purpose {
        // Such as a file that an editor or a full disk has cut off.
        anyhow::bail!(
            "there are neither users nor rules any more, and every client could push and delete; write `auth: none` \
             if that is intended, or restore auth and quinistry.access"
        );
    }
    let loses_rules = access.control.as_ref().is_some_and(|control| control.rules.are_absent());
    if loses_rules && state.has_rules() {
        anyhow::bail!(
            "there are users, but no rules any more, and each user could push and delete everywhere; grant `admin` in \
             `**` to `authenticated` if that is intended, or restore quinistry.access"
        );
    }
    let prepared = parts.prepare(&plan.live, access, tls)?;
    plan.start_log();
    let (settings, has_opened) = parts.apply(&plan.live, prepared);
    let former_issuer = state.token_issuer();
    state.replace_settings(settings);
    if let (Some(former), Some(issuer)) = (former_issuer, state.token_issuer())
        && issuer.ends_tokens_of(&former)
    {
        tracing::warn!(
            "http.secret or quinistry.tokens.key has changed, tokens that were issued before are no longer valid"
        );
    }
    if has_opened {
        tracing::warn!("{}", exposure::NOW_OPEN);
    }
    for key in parts.keys_that_need_a_restart(plan.config.as_ref()) {
        tracing::warn!(key, "changed key takes effect only when the registry is started again");
    }
    if parts.is_unwritable() && !plan.live.settings.read_only {
        tracing::warn!(
            "storage was opened for reading only, writes are refused until the registry is started again"
        );
    }
    Ok(())
}

fn log_failure(error: &anyhow::Error) {
    match error.downcast_ref::<Refused>().and_then(Refused::first) {
        Some(first) => tracing::error!(
            place = %first.origin,
            key = %first.key,
            problem = %first.message,
            "configuration refused, keeping the former one"
        ),
        None => {
            tracing::error!(error = format!("{error:#}"), "configuration refused, keeping the former one");
        }
    }
}
