//! Names that the operator derives: of `DaemonSets`, of ports, and of itself. Used by every step.
//!
//! Users' queries contain the `DaemonSets`' name endings, so none may change.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use crate::api::names::{MAIN_CARRIER, managers};
use crate::crd::QuinistrySpec;

/// Port on which the registry listens within a pod.
pub(super) const CONTAINER_PORT: i32 = 8080;

/// Returns the name of a generation's `DaemonSet`; for generation 0, that of the main carrier.
#[must_use]
pub(super) fn daemon_set_name(resource: &str, generation: i32) -> String {
    if generation == 1 { resource.into() } else { format!("{resource}-gen{generation}") }
}

/// Returns the name of generation 0's `DaemonSet` for one carrier.
#[must_use]
pub(super) fn carrier_set_name(resource: &str, carrier: &str) -> String {
    let name = daemon_set_name(resource, 0);
    if carrier == MAIN_CARRIER { name } else { format!("{name}-{carrier}") }
}

/// Key of the `ConfigMap` with the names of images, and the name of its file in pods.
pub(super) const NAMES_KEY: &str = "names.json";

/// Returns the name of all objects of a resource's stores.
#[must_use]
pub(super) fn store_name(resource: &str) -> String {
    format!("{resource}-store")
}

/// Returns the name of the `ConfigMap` with the names of images.
#[must_use]
pub(super) fn names_map_name(resource: &str) -> String {
    format!("{resource}-names")
}

/// Returns true if a name is that of a `DaemonSet` of this generation of a resource.
#[must_use]
pub(super) fn is_of_generation(resource: &str, generation: i32, name: &str) -> bool {
    let own = daemon_set_name(resource, generation);
    name == own || generation == 0 && name.strip_prefix(&own).is_some_and(|rest| rest.starts_with('-'))
}

/// Returns the number of a resource's first generation.
#[must_use]
pub(super) const fn first_generation(spec: &QuinistrySpec) -> i32 {
    if spec.seed.is_some() { 0 } else { 1 }
}

/// Returns the host port of a generation.
#[must_use]
pub(super) fn port(spec: &QuinistrySpec, generation: i32) -> i32 {
    spec.base_port + generation - 1
}

/// Returns the role of a generation: `seed`, `parent` or `child`.
#[must_use]
pub(super) const fn role(generation: i32) -> &'static str {
    match generation {
        0 => "seed",
        1 => "parent",
        _ => "child",
    }
}

/// Returns the holder of claims for all operators that elect one by the Lease `lease` of namespace
/// `namespace`: a new leader continues the claims of the previous one.
#[must_use]
pub fn claimant(namespace: &str, lease: &str) -> String {
    format!("{namespace}/{lease}")
}

/// Returns the name, in claims, of an operator without leader election: that of its pod or of its machine, so
/// that a restarted operator continues its claims.
#[must_use]
pub(super) fn machine_name() -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = std::env::var("POD_NAME").ok().filter(|name| !name.is_empty()).or_else(host);
    name.map_or_else(instance_name, |name| name.trim().to_owned())
}

/// Returns true if an operator with these arguments looks after the resources of a namespace.
#[must_use]
pub fn looks_after<S: AsRef<str>>(arguments: &[S], namespace: &str) -> bool {
    let mut words = arguments.iter().map(AsRef::as_ref);
    if !words.any(|word| word == "operator") {
        return false;
    }
    let mut only = None;
    while let Some(word) = words.next() {
        if word == "--namespace" {
            only = words.next();
        } else if let Some(value) = word.strip_prefix("--namespace=") {
            only = Some(value);
        }
    }
    only.is_none_or(|only| only == namespace)
}

/// Returns the name of this operator in Leases and Events: that of its pod, which a restarted container
/// keeps, or a random one.
#[must_use]
pub(super) fn instance_name() -> String {
    // A map's seed is random enough for a name, and needs no generator.
    let chance = || format!("{}-{:016x}", managers::OPERATOR, RandomState::new().build_hasher().finish());
    std::env::var("POD_NAME").ok().filter(|name| !name.is_empty()).unwrap_or_else(chance)
}

#[cfg(test)]
mod tests {
    use super::looks_after;

    #[test]
    fn an_operator_looks_after_its_namespace_or_after_all() {
        for (arguments, expected) in [
            (&["operator"][..], true),
            (&["operator", "--namespace=pantry", "--leader-elect"], true),
            (&["operator", "--namespace", "pantry"], true),
            (&["operator", "--leader-elect", "--namespace=cellar"], false),
            (&["serve", "--namespace=pantry"], false),
            (&[], false),
        ] {
            assert_eq!(looks_after(arguments, "pantry"), expected, "{arguments:?}");
        }
    }
}
