//! Owners of ports. Ports are a node's, so resources of all namespaces compete: what runs keeps them, and of
//! what does not the oldest gets them. Pure.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use k8s_openapi::jiff::Timestamp;

use super::validate::validate;
use crate::api::conditions::READY;
use crate::crd::Quinistry;
use crate::operator::observed::Observed;
use crate::operator::select;

/// Another resource that owns some of the ports.
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) ports: RangeInclusive<i32>,
}

/// Reasons for which nothing of a resource can run, whatever its specification asks for.
const REFUSED: [&str; 5] =
    ["InvalidSpec", "ApplyRejected", "PodSecurityForbidden", "NamespaceTerminating", "NoNodes"];

/// Returns the resource that keeps this one from its ports: of those that compete for them, the one whose
/// generations have been there for longest; if none has any, the oldest that can have some. One that must
/// itself stand back keeps no other from anything.
pub(super) fn owner(quinistry: &Quinistry, observed: &Observed) -> Option<Owner> {
    let is_self = |other: &Quinistry| other.metadata.uid == quinistry.metadata.uid;
    let rivals = observed.rivals.iter().map(AsRef::as_ref).filter(|rival| !is_self(rival));
    let claim = |one| Claim { quinistry: one, since: holds(one, observed) };
    let mut claims: Vec<Claim<'_>> = rivals
        .map(claim)
        .filter(|claim| claim.since.is_some() || may_run(claim.quinistry))
        .chain([claim(quinistry)])
        .collect();
    claims.sort_by(Claim::compare);
    let mut owners: Vec<&Quinistry> = Vec::new();
    for claim in claims.iter().map(|claim| claim.quinistry).take_while(|one| !is_self(one)) {
        if !owners.iter().any(|owner| compete(owner, claim)) {
            owners.push(claim);
        }
    }
    owners.into_iter().find(|owner| compete(owner, quinistry)).map(|owner| Owner {
        name: format!(
            "{}/{}",
            owner.metadata.namespace.as_deref().unwrap_or_default(),
            owner.metadata.name.as_deref().unwrap_or_default()
        ),
        ports: owner.spec.ports(),
    })
}

/// A resource that asks for ports, and since when it has them.
struct Claim<'a> {
    quinistry: &'a Quinistry,
    since: Option<Timestamp>,
}

// === impl Claim ===

impl Claim<'_> {
    /// Orders claims: a resource that runs precedes one that does not, since its ports are taken.
    fn compare(&self, other: &Self) -> Ordering {
        let runs = |claim: &Self| (claim.since.is_none(), claim.since);
        runs(self).cmp(&runs(other)).then_with(|| by_age(self.quinistry, other.quinistry))
    }
}

/// Returns the time since which a resource has its ports, if it has any: its `DaemonSets` are there, and have
/// pods or may have some. Without pods a suspended resource has none, nor has one whose pods are refused.
fn holds(quinistry: &Quinistry, observed: &Observed) -> Option<Timestamp> {
    let held = observed.holdings.get(quinistry.metadata.uid.as_deref()?)?;
    (held.has_pods || may_run(quinistry)).then_some(held.since)
}

/// Returns true if the resource can be raised, and is to be.
fn may_run(quinistry: &Quinistry) -> bool {
    let going = quinistry.metadata.deletion_timestamp.is_some();
    !going && !quinistry.spec.suspend && !is_refused(quinistry) && validate(quinistry).is_ok()
}

/// Returns true if the operator has said of this very specification that nothing of it can run. Only the plans of
/// other resources read this: what the API server refused is known to the operator alone that looks after the
/// resource, which may be another one than this.
fn is_refused(quinistry: &Quinistry) -> bool {
    let Some(status) = &quinistry.status else { return false };
    let current = status.observed_generation >= quinistry.metadata.generation.unwrap_or_default();
    let mut ready = status.conditions.iter().filter(|one| one.type_ == READY && one.status == "False");
    current && ready.any(|one| REFUSED.contains(&one.reason.as_str()))
}

pub(super) fn by_age(one: &Quinistry, other: &Quinistry) -> Ordering {
    let age = |quinistry: &Quinistry| {
        (quinistry.metadata.creation_timestamp.as_ref().map(|time| time.0), quinistry.metadata.uid.clone())
    };
    age(one).cmp(&age(other))
}

fn compete(one: &Quinistry, other: &Quinistry) -> bool {
    let (ours, theirs) = (one.spec.ports(), other.spec.ports());
    ours.start() <= theirs.end() && theirs.start() <= ours.end() && !select::disjoint(one, other)
}
