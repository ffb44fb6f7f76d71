//! What the schema cannot check, or did not because it was another version's. Pure.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use quinistry_oci::{Algorithm, Digest};

use crate::crd::{MAX_GENERATIONS, NetworkMode, QuinistrySpec};

/// What a specification says that can be done.
#[derive(Debug)]
pub(in crate::operator) struct Valid {
    /// `spec.digest`.
    pub digest: Option<Digest>,
    /// `spec.seed.executable`.
    pub executable: Option<Digest>,
}

/// Returns what the specification of a resource of this name says, or what is wrong with it.
pub(in crate::operator) fn validate(name: &str, spec: &QuinistrySpec) -> Result<Valid, String> {
    let executable = match (&spec.image, &spec.seed) {
        (Some(_), Some(_)) | (None, None) => return Err("exactly one of image and seed must be set".into()),
        (Some(image), None) => {
            is_image(image, "image")?;
            None
        }
        (None, Some(seed)) => {
            for carrier in &seed.carriers {
                is_image(carrier, "each of seed.carriers")?;
            }
            let executable = parse(&seed.executable, "seed.executable")?;
            if executable.algorithm() != Algorithm::Sha256 {
                return Err("seed.executable must be a sha256 digest".into());
            }
            if spec.digest.is_none() {
                return Err("digest must be set beside seed".into());
            }
            Some(executable)
        }
    };
    if !(1..=MAX_GENERATIONS).contains(&spec.generations) {
        return Err(format!("generations must be from 1 to {MAX_GENERATIONS}"));
    }
    if !(1026..=65536 - spec.generations).contains(&spec.base_port) {
        return Err("basePort must be at least 1026, and basePort + generations - 1 at most 65535".into());
    }
    if name.len() > 57 {
        return Err("the name must be at most 57 characters long".into());
    }
    if amount(&spec.rollout.max_unavailable).is_none() {
        return Err("rollout.maxUnavailable must be a number from 1 or a percentage from 1% to 100%".into());
    }
    if share(&spec.rollout.tolerate_nodes, 0).is_none() {
        return Err("rollout.tolerateNodes must be a number or a percentage from 0% to 100%".into());
    }
    let digest = match &spec.digest {
        Some(text) => Some(parse(text, "digest")?),
        None => None,
    };
    if digest.is_none() && spec.network.mode == NetworkMode::HostNetwork {
        return Err(
            "digest must be set with HostNetwork: on a node's loopback, nobody else can learn it".into()
        );
    }
    Ok(Valid { digest, executable })
}

fn parse(text: &str, what: &str) -> Result<Digest, String> {
    text.parse().map_err(|error| format!("{what} '{text}' is {error}"))
}

fn is_image(image: &str, what: &str) -> Result<(), String> {
    if image.is_empty() {
        return Err(format!("{what} must be set"));
    }
    if image.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{what} must not have spaces in it"));
    }
    Ok(())
}

enum Amount {
    Nodes(i32),
    Percent(usize),
}

fn amount(value: &IntOrString) -> Option<Amount> {
    share(value, 1)
}

fn share(value: &IntOrString, least: i32) -> Option<Amount> {
    match value {
        IntOrString::Int(nodes) => (*nodes >= least).then_some(Amount::Nodes(*nodes)),
        IntOrString::String(text) => match text.strip_suffix('%') {
            Some(percent) => {
                let allowed = usize::try_from(least).unwrap_or_default()..=100;
                percent.parse().ok().filter(|percent| allowed.contains(percent)).map(Amount::Percent)
            }
            None => text.parse().ok().filter(|nodes| *nodes >= least).map(Amount::Nodes),
        },
    }
}

/// Returns the number of `nodes` that may lack a generation; percentages are rounded down.
pub(super) fn tolerated(value: &IntOrString, nodes: usize) -> usize {
    match share(value, 0) {
        None => 0,
        Some(Amount::Nodes(tolerated)) => usize::try_from(tolerated).unwrap_or_default(),
        Some(Amount::Percent(percent)) => nodes * percent / 100,
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
