//! Reload of the configuration when SIGHUP asks for it: all of it, or nothing.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Flags;
use super::plan::Plan;
use super::running::Parts;
use crate::cli::configuration::{Configuration, Refused};
use crate::registry::State;

/// Requests to read the configuration again.
pub(super) struct Reloads {
    hangup: Signal,
    flags: Flags,
    configuration: Configuration,
}

impl Reloads {
    /// Starts to listen for SIGHUP, which no longer ends the process. Must be called within a runtime.
    pub(super) fn listen(flags: Flags, configuration: Configuration) -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("failed to listen for SIGHUP")?;
        Ok(Self { hangup, flags, configuration })
    }

    /// Reads the configuration at each signal, and exchanges the settings of `state` if it is accepted.
    pub(super) async fn run(mut self, state: State, mut parts: Parts) {
        while self.hangup.recv().await.is_some() {
            if !self.configuration.can_be_read_again() {
                tracing::warn!("SIGHUP ignored, the configuration is not a file that can be read again");
                continue;
            }
            let (flags, configuration) = (self.flags.clone(), self.configuration.clone());
            let read = move || Plan::of_configuration(&flags, &configuration);
            // A file on a network may hang; requests must not wait for it.
            let Ok(read) = tokio::task::spawn_blocking(read).await else { return };
            let result = read.and_then(|plan| apply(plan, &state, &mut parts));
            parts.reloaded(result.is_ok());
            match result {
                Ok(()) => tracing::info!(file = %self.configuration, "configuration reloaded"),
                Err(error) => log_failure(&error),
            }
        }
    }
}

fn apply(plan: Plan, state: &State, parts: &mut Parts) -> anyhow::Result<()> {
    let old = parts.config.take().zip(plan.config.as_ref());
    let late = old.as_ref().map(|(old, new)| old.keys_that_need_a_restart(new)).unwrap_or_default();
    parts.config = old.map(|(old, _)| old);
    plan.start_log();
    let settings = parts.settings(plan.live)?;
    state.replace_settings(settings);
    for key in late {
        tracing::warn!(key, "changed key takes effect only when the registry is started again");
    }
    parts.config = plan.config;
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
