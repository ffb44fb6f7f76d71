//! The election: renews the Lease periodically, and updates [`Leadership`] with the outcome. `candidate`
//! decides the next step; this is the part that takes a client. Run by the driver.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

use super::candidate::{LeaseAction, LeaseCandidate};
use super::{ATTEMPT_TIMEOUT, BootInstant, LEASE_DURATION, Leadership, RENEW_PERIOD, WRITE_WINDOW};
use crate::api::names::managers;
use crate::one_line::one_line;
use crate::operator::error::Category;

/// Delay after another candidate wrote the Lease first.
const CONTESTED_RETRY_DELAY: Duration = Duration::from_millis(100);

/// One operator's participation in the election.
#[derive(Debug)]
pub(in crate::operator) struct Election {
    leases: Api<Lease>,
    name: String,
    candidate: LeaseCandidate,
    leadership: Arc<Leadership>,
    /// Lease as last written by this operator, which saves reading it.
    written: Option<Lease>,
    /// Last logged state, so that each is logged once.
    logged: String,
}

/// Outcome of one renewal.
enum RenewalOutcome {
    Leads,
    Follows(String),
    /// Another candidate wrote at the same time.
    Contested,
}

// === impl Election ===

impl Election {
    /// Creates the election by the Lease of this name in the client's own namespace. The client must not be
    /// guarded.
    pub(in crate::operator) fn new(
        client: Client,
        name: String,
        identity: String,
        leadership: Arc<Leadership>,
    ) -> Self {
        tracing::info!(lease = name, identity, "leader election started");
        Self {
            leases: Api::default_namespaced(client),
            name,
            candidate: LeaseCandidate::new(identity, LEASE_DURATION),
            leadership,
            written: None,
            logged: String::new(),
        }
    }

    /// Runs until another operator holds the Lease that this operator held, and returns the holder. `take_up`
    /// is called whenever this operator gets the permission to write. (Client required.)
    pub(in crate::operator) async fn run(&mut self, take_up: impl Fn()) -> String {
        let mut has_led = false;
        loop {
            let began = BootInstant::now();
            // Every timeout starts from the present state: a renewal that timed out may still have been
            // executed.
            let outcome = tokio::time::timeout(ATTEMPT_TIMEOUT, self.attempt()).await;
            let pause = match outcome {
                Ok(Ok(RenewalOutcome::Leads)) => {
                    has_led = true;
                    self.log_once("leading", || tracing::info!("this operator leads"));
                    if self.leadership.extend_until(began + WRITE_WINDOW) {
                        take_up();
                    }
                    RENEW_PERIOD
                }
                Ok(Ok(RenewalOutcome::Follows(holder))) => {
                    self.leadership.give_up();
                    if has_led {
                        return holder;
                    }
                    self.log_once(&holder, || tracing::info!(leader = holder, "another operator leads"));
                    RENEW_PERIOD
                }
                Ok(Ok(RenewalOutcome::Contested)) => {
                    self.leadership.give_up();
                    CONTESTED_RETRY_DELAY
                }
                Ok(Err(error)) => {
                    let error = one_line(&error);
                    self.log_once(&error, || tracing::warn!(error, "cannot take or renew lease, retrying"));
                    RENEW_PERIOD
                }
                Err(_) => {
                    let seconds = ATTEMPT_TIMEOUT.as_secs();
                    self.log_once("slow", || {
                        tracing::warn!(
                            "cannot take or renew lease, retrying: no response within {seconds} seconds"
                        );
                    });
                    RENEW_PERIOD
                }
            };
            tokio::time::sleep(pause.saturating_sub(BootInstant::now().since(began))).await;
        }
    }

    /// Releases the Lease, so that no other operator has to wait for its expiry. To be called after the last
    /// write. (Client required.)
    pub(in crate::operator) async fn release(&mut self) {
        self.leadership.give_up();
        let release = async {
            let lease = match self.written.take() {
                Some(lease) => Some(lease),
                None => self.leases.get_opt(&self.name).await?,
            };
            if let Some(lease) = lease.and_then(|lease| self.candidate.release(lease, Timestamp::now())) {
                self.leases.replace(&self.name, &parameters(), &lease).await?;
            }
            kube::Result::Ok(())
        };
        match tokio::time::timeout(ATTEMPT_TIMEOUT, release).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if Category::of(&error) == Category::Conflict => {}
            Ok(Err(error)) => tracing::warn!(error = one_line(&error), "cannot release lease"),
            Err(_) => tracing::warn!(
                "cannot release lease: no response within {} seconds",
                ATTEMPT_TIMEOUT.as_secs()
            ),
        }
    }

    async fn attempt(&mut self) -> Result<RenewalOutcome, kube::Error> {
        let lease = match self.written.take() {
            Some(lease) => Some(lease),
            None => self.leases.get_opt(&self.name).await?,
        };
        let written = match self.candidate.step(lease, BootInstant::now(), Timestamp::now()) {
            LeaseAction::Wait(holder) => return Ok(RenewalOutcome::Follows(holder)),
            LeaseAction::Create(mut lease) => {
                lease.metadata.name = Some(self.name.clone());
                self.leases.create(&parameters(), &lease).await
            }
            LeaseAction::Replace(lease) => self.leases.replace(&self.name, &parameters(), &lease).await,
        };
        match written {
            Ok(lease) => {
                self.written = Some(lease);
                Ok(RenewalOutcome::Leads)
            }
            // Another candidate deleted or created the Lease at the same time.
            Err(error) if matches!(Category::of(&error), Category::Conflict | Category::NotFound) => {
                Ok(RenewalOutcome::Contested)
            }
            Err(error) => Err(error),
        }
    }

    /// Logs a state, unless it was the last one logged.
    fn log_once(&mut self, state: &str, log: impl FnOnce()) {
        if self.logged != state {
            state.clone_into(&mut self.logged);
            log();
        }
    }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(managers::OPERATOR.into()), ..PostParams::default() }
}
