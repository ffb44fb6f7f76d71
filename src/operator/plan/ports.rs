//! Who owns the ports. Ports are a node's, so resources of all namespaces compete; the oldest wins. Pure.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use super::validate::validate;
use crate::crd::Quinistry;
use crate::operator::observed::Observed;
use crate::operator::select;

/// Another resource that owns some of the ports.
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) ports: RangeInclusive<i32>,
}

/// The resource that keeps this one from its ports. One that itself must stand back keeps nobody from anything, and
/// neither does one that cannot be raised at all.
pub(super) fn owner(quinistry: &Quinistry, observed: &Observed) -> Option<Owner> {
    let mut older: Vec<&Quinistry> = observed
        .rivals
        .iter()
        .map(AsRef::as_ref)
        .filter(|rival| rival.metadata.uid != quinistry.metadata.uid)
        .filter(|rival| by_age(rival, quinistry) == Ordering::Less && validate(rival).is_ok())
        .collect();
    older.sort_by(|one, other| by_age(one, other));
    let mut owners: Vec<&Quinistry> = Vec::new();
    for rival in older {
        if !owners.iter().any(|owner| compete(owner, rival)) {
            owners.push(rival);
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
