//! Claims: of several operators that look after the same resources without a common election, only one acts.
//!
//! Two installations overlap when one looks after all namespaces and the other after one of them; each would
//! undo what the other does. So an operator acts on the resources of a namespace only while it holds the
//! Lease `quinistry-claim` there. The holder is not a process but the group that elects one leader (see
//! [`naming::claimant`]), so that a new leader continues at once. A holder that has ended is replaced within
//! 45 seconds. An operator without the claim writes no status, which is the holder's: it reports that in an
//! Event, its log and a metric.
//!
//! Status is no input here either. Takes a client; `leader::candidate` decides the next step for a Lease.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Mutex;

use super::error::{Category, OperatorError};
use super::leader::{BootInstant, LeaseAction, LeaseCandidate};
use super::naming;
use super::{Operator, watches};
use crate::api::names::{CLAIM, managers};
use crate::one_line::one_line;

/// Time after which a claim that is not renewed expires for other operators.
const CLAIM_DURATION: Duration = Duration::from_secs(30);

/// Time from the start of a renewal in which writes are allowed. A write that is sent at its end has ten
/// seconds to arrive before the claim expires.
const WRITE_WINDOW: Duration = Duration::from_secs(20);

/// Interval at which a claim is renewed, and read by other operators. Two renewals may fail without harm.
pub(super) const RENEW_PERIOD: Duration = Duration::from_secs(5);

const _: () = assert!(RENEW_PERIOD.as_secs() * 3 < WRITE_WINDOW.as_secs(), "two renewals may fail");
const _: () = assert!(
    WRITE_WINDOW.as_secs() + 10 <= CLAIM_DURATION.as_secs(),
    "what is on its way arrives before another acts"
);

/// Time limit for releasing all claims: the kubelet or the user who ended the process waits for it.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// Number of attempts to write a Lease that others write too.
const MAX_ATTEMPTS: usize = 3;

/// The claims on all namespaces with resources.
pub(super) struct Claims {
    client: Client,
    identity: String,
    /// True if no other process continues the claims when this one ends.
    is_alone: bool,
    namespaces: Mutex<HashMap<String, Arc<Mutex<NamespaceClaim>>>>,
}

/// Known state of the claim on one namespace.
#[derive(Debug)]
struct NamespaceClaim {
    candidate: LeaseCandidate,
    /// Lease as last written by this operator, which saves reading it.
    written: Option<Lease>,
    claim: Option<(Claim, BootInstant)>,
    /// The problem that was logged last.
    logged: Option<String>,
}

/// The operator that acts in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// This operator acts.
    Ours,
    /// Another operator acts, of this identity.
    Theirs(String),
}

// A client has no `Debug` output.
impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claims").field("identity", &self.identity).finish_non_exhaustive()
    }
}

// === impl Claims ===

impl Claims {
    /// Creates the claims of an operator that elects a leader by `lease` in the client's namespace, or of an
    /// operator without election.
    pub(super) fn new(client: Client, lease: Option<&str>) -> Self {
        let name = lease.map_or_else(naming::machine_name, str::to_owned);
        let identity = naming::claimant(client.default_namespace(), &name);
        Self { client, identity, is_alone: lease.is_none(), namespaces: Mutex::default() }
    }

    /// Returns the operator that acts in a namespace; reads the Lease only if that is unknown or too old.
    /// (Client required.)
    pub(super) async fn holder(
        &self,
        namespace: &str,
        owners: &[OwnerReference],
    ) -> Result<Claim, OperatorError> {
        let claimed_namespace = self.claimed_namespace(namespace).await;
        let mut claimed_namespace = claimed_namespace.lock().await;
        match &claimed_namespace.claim {
            Some((Claim::Ours, at)) if BootInstant::now().since(*at) < WRITE_WINDOW => Ok(Claim::Ours),
            Some((Claim::Theirs(holder), at)) if BootInstant::now().since(*at) < RENEW_PERIOD => {
                Ok(Claim::Theirs(holder.clone()))
            }
            _ => self.renew(namespace, &mut claimed_namespace, owners).await,
        }
    }

    /// Renews claims and reads those of others, until dropped. (Client required.)
    pub(super) async fn run(operator: Arc<Operator>) {
        loop {
            tokio::time::sleep(RENEW_PERIOD).await;
            if !operator.leadership.holds() || !operator.is_synced() {
                continue;
            }
            let mut changed = false;
            for (namespace, owners) in owners(&operator) {
                let claims = &operator.claims;
                let claimed_namespace = claims.claimed_namespace(&namespace).await;
                let mut claimed_namespace = claimed_namespace.lock().await;
                let before = claimed_namespace.claim.take();
                match claims.renew(&namespace, &mut claimed_namespace, &owners).await {
                    Ok(claim) => changed |= before.is_some_and(|(before, _)| before != claim),
                    Err(error) => {
                        claimed_namespace.claim = before;
                        let error = one_line(&error);
                        if claimed_namespace.logged.as_ref() != Some(&error) {
                            tracing::warn!(namespace, error, "cannot renew claim");
                            claimed_namespace.logged = Some(error);
                        }
                    }
                }
            }
            if changed {
                watches::request_all(&operator);
            }
        }
    }

    /// Releases the claims when this process ends, if no other process continues them. (Client required.)
    pub(super) async fn release(&self) {
        if self.is_alone && tokio::time::timeout(RELEASE_TIMEOUT, self.release_all()).await.is_err() {
            let seconds = RELEASE_TIMEOUT.as_secs();
            tracing::warn!("cannot release claims: no response within {seconds} seconds");
        }
    }

    async fn release_all(&self) {
        for (namespace, claimed_namespace) in self.namespaces.lock().await.drain() {
            let mut claimed_namespace = claimed_namespace.lock().await;
            let Some(lease) = claimed_namespace.written.take() else { continue };
            if let Some(lease) = claimed_namespace.candidate.release(lease, Timestamp::now()) {
                let released = self.leases(&namespace).replace(CLAIM, &parameters(), &lease).await;
                if let Err(error) = released {
                    tracing::warn!(namespace, error = one_line(&error), "cannot release claim");
                }
            }
        }
    }

    async fn claimed_namespace(&self, namespace: &str) -> Arc<Mutex<NamespaceClaim>> {
        let mut namespaces = self.namespaces.lock().await;
        let claimed_namespace = || {
            let candidate = LeaseCandidate::new(self.identity.clone(), CLAIM_DURATION);
            Arc::new(Mutex::new(NamespaceClaim { candidate, written: None, claim: None, logged: None }))
        };
        namespaces.entry(namespace.into()).or_insert_with(claimed_namespace).clone()
    }

    async fn renew(
        &self,
        namespace: &str,
        claimed_namespace: &mut NamespaceClaim,
        owners: &[OwnerReference],
    ) -> Result<Claim, OperatorError> {
        let began = BootInstant::now();
        let claim = self.attempt(namespace, claimed_namespace, owners).await.map_err(|source| {
            OperatorError::Claim { namespace: namespace.into(), source: Box::new(source) }
        })?;
        claimed_namespace.claim = Some((claim.clone(), began));
        Ok(claim)
    }

    async fn attempt(
        &self,
        namespace: &str,
        claimed_namespace: &mut NamespaceClaim,
        owners: &[OwnerReference],
    ) -> kube::Result<Claim> {
        let leases = self.leases(namespace);
        let mut tries = 0;
        loop {
            let lease = match claimed_namespace.written.take() {
                Some(lease) => Some(lease),
                None => leases.get_opt(CLAIM).await?,
            };
            let written = match claimed_namespace.candidate.step(lease, BootInstant::now(), Timestamp::now())
            {
                LeaseAction::Wait(holder) => return Ok(Claim::Theirs(holder)),
                LeaseAction::Create(lease) => leases.create(&parameters(), &owned(lease, owners)).await,
                LeaseAction::Replace(lease) => {
                    leases.replace(CLAIM, &parameters(), &owned(lease, owners)).await
                }
            };
            tries += 1;
            match written {
                Ok(lease) => {
                    claimed_namespace.written = Some(lease);
                    return Ok(Claim::Ours);
                }
                // Another operator wrote, created or deleted the Lease at the same time.
                Err(error)
                    if tries < MAX_ATTEMPTS
                        && matches!(Category::of(&error), Category::Conflict | Category::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn leases(&self, namespace: &str) -> Api<Lease> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Returns the resources of each namespace, as owners of its claim: the claim is collected with the last of
/// them.
pub(super) fn owners(operator: &Operator) -> BTreeMap<String, Vec<OwnerReference>> {
    let mut owners = BTreeMap::<String, Vec<_>>::new();
    for resource in operator.resources.state() {
        let resource = resource.identity();
        owners.entry(resource.namespace.clone()).or_default().push(resource.owner());
    }
    owners
}

/// Returns the Lease, owned by the present resources.
fn owned(mut lease: Lease, owners: &[OwnerReference]) -> Lease {
    lease.metadata.name = Some(CLAIM.into());
    lease.metadata.owner_references = Some(owners.to_vec());
    lease
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(managers::OPERATOR.into()), ..PostParams::default() }
}
