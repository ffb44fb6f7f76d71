//! What the schema cannot check, or did not because it was another version's. Pure.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::crd::{MAX_GENERATIONS, NetworkMode, Quinistry};
use crate::oci::Digest;

/// The given digest, or what is wrong with the specification.
pub(super) fn validate(quinistry: &Quinistry) -> Result<Option<Digest>, String> {
    let spec = &quinistry.spec;
    if spec.seed.is_some() {
        return Err("this version cannot raise a seed: set image instead".into());
    }
    let image = spec.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        return Err("image must be set".into());
    }
    if image.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("image must not have spaces in it".into());
    }
    if !(1..=MAX_GENERATIONS).contains(&spec.generations) {
        return Err(format!("generations must be from 1 to {MAX_GENERATIONS}"));
    }
    if !(1026..=65536 - spec.generations).contains(&spec.base_port) {
        return Err("basePort must be at least 1026, and basePort + generations - 1 at most 65535".into());
    }
    let name = quinistry.metadata.name.as_deref().unwrap_or_default();
    if name.len() > 57 {
        return Err("the name must be at most 57 characters long".into());
    }
    if amount(&spec.rollout.max_unavailable).is_none() {
        return Err("rollout.maxUnavailable must be a number from 1 or a percentage from 1% to 100%".into());
    }
    let digest = match &spec.digest {
        Some(text) => Some(text.parse::<Digest>().map_err(|error| format!("digest '{text}' is {error}"))?),
        None => None,
    };
    if digest.is_none() && spec.network.mode == NetworkMode::HostNetwork {
        return Err(
            "digest must be set with HostNetwork: on a node's loopback, nobody else can learn it".into()
        );
    }
    Ok(digest)
}

enum Amount {
    Nodes(i32),
    Percent(usize),
}

fn amount(value: &IntOrString) -> Option<Amount> {
    match value {
        IntOrString::Int(nodes) => (*nodes >= 1).then_some(Amount::Nodes(*nodes)),
        IntOrString::String(text) => match text.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|percent| (1..=100).contains(percent)).map(Amount::Percent)
            }
            None => text.parse().ok().filter(|nodes| *nodes >= 1).map(Amount::Nodes),
        },
    }
}

/// So many of `nodes`; at least one, or nothing would ever be replaced. Percentages are rounded up, as the `DaemonSet`
/// controller does.
pub(super) fn max_unavailable(value: &IntOrString, nodes: usize) -> i32 {
    match amount(value) {
        None => 1,
        Some(Amount::Nodes(nodes)) => nodes,
        Some(Amount::Percent(percent)) => {
            i32::try_from((nodes * percent).div_ceil(100)).unwrap_or(i32::MAX).max(1)
        }
    }
}
