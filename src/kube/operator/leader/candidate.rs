//! Decisions of a candidate for a Lease. Pure: clocks are parameters, and no time written by another machine
//! is read, only whether the Lease changes.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::core::ObjectMeta;

use super::BootInstant;

/// Longest duration of a Lease that is respected, whatever its holder has written.
const MAX_LEASE_DURATION: Duration = Duration::from_mins(1);

/// A candidate for a Lease.
#[derive(Debug)]
pub(in crate::operator) struct LeaseCandidate {
    identity: String,
    /// Time after which a lease that is not renewed expires for the other candidates.
    duration: Duration,
    /// Version of another holder's Lease, and the time at which it was first seen.
    other_lease: Option<(Option<String>, BootInstant)>,
}

/// Next step of a candidate.
#[derive(Debug, PartialEq)]
pub(in crate::operator) enum LeaseAction {
    /// Create the Lease, which does not exist.
    Create(Lease),
    /// Write the Lease, which is this candidate's, free or expired. Its version is part of the write, so that
    /// only one of several candidates succeeds.
    Replace(Lease),
    /// Wait: this other candidate holds the Lease.
    Wait(String),
}

// === impl LeaseCandidate ===

impl LeaseCandidate {
    pub(in crate::operator) fn new(identity: String, duration: Duration) -> Self {
        Self { identity, duration, other_lease: None }
    }

    /// Returns the next step for the Lease as it was just read.
    pub(in crate::operator) fn step(
        &mut self,
        lease: Option<Lease>,
        now: BootInstant,
        clock: Timestamp,
    ) -> LeaseAction {
        let Some(lease) = lease else {
            return LeaseAction::Create(Lease {
                metadata: ObjectMeta::default(),
                spec: Some(self.new_term(0, clock)),
            });
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if holder == self.identity {
            self.other_lease = None;
            let spec = LeaseSpec { renew_time: Some(MicroTime(clock)), ..self.with_duration(spec) };
            return LeaseAction::Replace(Lease { spec: Some(spec), ..lease });
        }
        if !holder.is_empty() && !self.is_expired(&lease, &spec, now) {
            return LeaseAction::Wait(holder);
        }
        self.other_lease = None;
        let transitions = spec.lease_transitions.unwrap_or_default().saturating_add(1);
        LeaseAction::Replace(Lease { spec: Some(self.new_term(transitions, clock)), ..lease })
    }

    /// Returns the released Lease, if this candidate holds it.
    pub(in crate::operator) fn release(&self, lease: Lease, clock: Timestamp) -> Option<Lease> {
        let spec = lease.spec.clone().unwrap_or_default();
        (spec.holder_identity.as_deref() == Some(self.identity.as_str())).then(|| {
            let spec = LeaseSpec {
                holder_identity: Some(String::new()),
                renew_time: Some(MicroTime(clock)),
                ..self.with_duration(spec)
            };
            Lease { spec: Some(spec), ..lease }
        })
    }

    fn new_term(&self, transitions: i32, clock: Timestamp) -> LeaseSpec {
        LeaseSpec {
            acquire_time: Some(MicroTime(clock)),
            holder_identity: Some(self.identity.clone()),
            lease_transitions: Some(transitions),
            renew_time: Some(MicroTime(clock)),
            ..self.with_duration(LeaseSpec::default())
        }
    }

    /// Sets the fields that an earlier version of this program may have written differently.
    fn with_duration(&self, spec: LeaseSpec) -> LeaseSpec {
        LeaseSpec { lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(), ..spec }
    }

    /// Returns true if the Lease was not renewed for as long as its holder asked for.
    fn is_expired(&mut self, lease: &Lease, spec: &LeaseSpec, now: BootInstant) -> bool {
        let version = lease.metadata.resource_version.clone();
        let since = match &self.other_lease {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                self.other_lease = Some((version, now));
                now
            }
        };
        let asked = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let expiry =
            asked.map_or(self.duration, Duration::from_secs).clamp(self.duration, MAX_LEASE_DURATION);
        now.since(since) >= expiry
    }
}
