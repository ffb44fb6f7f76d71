//! Ownership of host ports. A port belongs to a node, so resources of all namespaces compete for it: a
//! resource that runs keeps its ports, and the oldest of the others gets what is free. Pure.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use k8s_openapi::jiff::Timestamp;

use crate::crd::QuinistrySpec;
use crate::operator::observed::ObservedState;
use crate::operator::resource::{ResourceIdentity, ValidResource};
use crate::operator::rival::Rival;
use crate::operator::select;

/// Another resource that owns some of the wanted ports.
pub(super) struct PortOwner {
    pub(super) name: String,
    pub(super) ports: RangeInclusive<i32>,
}

/// Returns the resource that keeps this one from its ports: of all competitors the one whose generations are
/// the oldest or, if no competitor runs, the oldest resource that may run. A resource that must itself wait
/// keeps no other from its ports.
pub(super) fn owner(quinistry: &ValidResource, observed: &ObservedState) -> Option<PortOwner> {
    let this = PortClaim::of_this(quinistry, observed);
    let rivals = observed.rivals.iter().filter(|rival| rival.identity.uid != this.identity.uid);
    let mut claims: Vec<PortClaim<'_>> =
        rivals.filter_map(|rival| PortClaim::of_rival(rival, observed)).chain([this]).collect();
    claims.sort_unstable_by(PortClaim::compare);
    let mut owners: Vec<PortClaim<'_>> = Vec::new();
    for claim in claims.into_iter().take_while(|claim| claim.identity.uid != this.identity.uid) {
        if !owners.iter().any(|owner| owner.competes(&claim)) {
            owners.push(claim);
        }
    }
    owners
        .into_iter()
        .find(|owner| owner.competes(&this))
        .map(|owner| PortOwner { name: owner.identity.to_string(), ports: owner.spec.ports() })
}

/// A resource that asks for ports.
#[derive(Clone, Copy)]
struct PortClaim<'a> {
    identity: &'a ResourceIdentity,
    spec: &'a QuinistrySpec,
    /// Time since which the resource has its ports, if it has any: its `DaemonSets` exist, and have pods or
    /// may have some. Without pods a suspended resource has none, nor has another resource whose status says
    /// that it was refused. The planned resource's own refusal does not count: its status is no input of its
    /// plan.
    since: Option<Timestamp>,
}

// === impl PortClaim ===

impl<'a> PortClaim<'a> {
    fn of_this(quinistry: &'a ValidResource, observed: &ObservedState) -> Self {
        let ValidResource { identity, spec, .. } = quinistry;
        Self { identity, spec, since: since(identity, !spec.suspend, observed) }
    }

    /// Returns the claim of another resource; `None` if that resource has no ports and can get none.
    fn of_rival(rival: &'a Rival, observed: &ObservedState) -> Option<Self> {
        let Rival { identity, spec, may_run } = rival;
        let since = since(identity, *may_run, observed);
        (*may_run || since.is_some()).then_some(Self { identity, spec, since })
    }

    /// Orders claims: a running resource precedes one that does not run, since its ports are taken.
    fn compare(&self, other: &Self) -> Ordering {
        let runs = |claim: &Self| (claim.since.is_none(), claim.since);
        runs(self).cmp(&runs(other)).then_with(|| by_age(self.identity, other.identity))
    }

    fn competes(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.spec.ports(), other.spec.ports());
        ours.start() <= theirs.end()
            && theirs.start() <= ours.end()
            && !select::disjoint(self.spec, other.spec)
    }
}

fn since(identity: &ResourceIdentity, may_run: bool, observed: &ObservedState) -> Option<Timestamp> {
    let held = observed.holdings.get(&identity.uid)?;
    (held.has_pods || may_run).then_some(held.since)
}

pub(super) fn by_age(one: &ResourceIdentity, other: &ResourceIdentity) -> Ordering {
    (one.created, &one.uid).cmp(&(other.created, &other.uid))
}
