//! Log lines of an endpoint. None shows more of its URL than scheme and host.

use quinistry_oci::escape::Escaped;

use super::{Endpoint, PreparedEndpoint};
use crate::notifications::delivery::{Outcome, Redirect};
use crate::notifications::event::Event;

impl Endpoint {
    /// Logs name and place of the endpoint.
    pub(in crate::notifications) fn log_place(&self) {
        tracing::info!(endpoint = %Escaped(&self.name), url = %self.url(), "sending events");
    }

    /// Logs the first failure in a row, and the one at which the pauses begin.
    pub(super) fn log_failure(&self, prepared: &PreparedEndpoint, outcome: &Outcome) {
        let (failures, waiting) = {
            let state = self.state();
            (state.delivery.failures(), state.queue.len())
        };
        let endpoint = Escaped(&self.name);
        let url = &prepared.settings.url;
        let problem = problem(outcome);
        if failures == prepared.settings.threshold.get() {
            tracing::warn!(%endpoint, %url, %problem, failures, waiting, "cannot send events, pausing between attempts");
        } else if failures == 1 {
            tracing::warn!(%endpoint, %url, %problem, "cannot send event, trying again");
        }
    }

    pub(super) fn log_recovery(&self, failures: u32, prepared: &PreparedEndpoint) {
        if failures >= prepared.settings.threshold.get() {
            let waiting = self.state().queue.len();
            tracing::info!(endpoint = %Escaped(&self.name), failures, waiting, "receiver takes events again");
        }
    }

    pub(super) fn log_expiry(&self, dropped: usize) {
        tracing::warn!(endpoint = %Escaped(&self.name), events = dropped, "events older than giveup dropped");
    }

    pub(super) fn log_ignored(&self, dropped: usize) {
        let endpoint = Escaped(&self.name);
        tracing::info!(%endpoint, events = dropped, "events that the new configuration excludes dropped");
    }

    pub(super) fn log_refusal(&self, event: &Event, outcome: &Outcome) {
        tracing::warn!(
            endpoint = %Escaped(&self.name),
            event = %event.id,
            action = event.action.as_str(),
            repository = %event.target.repository,
            problem = %problem(outcome),
            "refused event dropped"
        );
    }

    pub(super) fn warn_of_loop(&self, actor: &str) {
        tracing::warn!(
            endpoint = %Escaped(&self.name),
            actor = %Escaped(actor),
            "more than 1000 pulls of one user in a minute were sent; if the receiver makes them, add pull to \
             ignore.actions or the user to quinistry.ignoreactors"
        );
    }
}

/// Describes what kept an event from arriving, on one line and without secrets.
fn problem(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted(status) | Outcome::Unavailable { status, .. } => {
            format!("receiver answered {}", status.as_u16())
        }
        Outcome::Refused { status, redirect: None } => format!("receiver answered {}", status.as_u16()),
        Outcome::Refused { status, redirect: Some(Redirect::Elsewhere(place)) } => format!(
            "receiver answered {} with the place {place}, which is not followed; configure its URL",
            status.as_u16()
        ),
        Outcome::Refused { status, redirect: Some(Redirect::TooMany(count)) } => format!(
            "receiver answered {} after {count} redirects; configure the URL that they lead to",
            status.as_u16()
        ),
        Outcome::Failed(error) => error.clone(),
    }
}
