//! Validation of what the schema cannot check, or did not check because another version of it was installed.
//! Pure.

use quinistry_oci::{Algorithm, Digest};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::crd::{MAX_GENERATIONS, NetworkMode, QuinistrySpec};

/// Parsed fields of a valid specification.
#[derive(Debug)]
pub(in crate::operator) struct ValidSpec {
    /// `spec.digest`.
    pub digest: Option<Digest>,
    /// `spec.seed.executable`.
    pub executable: Option<Digest>,
    /// `spec.rollout.maxUnavailable`.
    pub max_unavailable: Share,
    /// `spec.rollout.tolerateNodes`.
    pub tolerated: Share,
}

/// A number of nodes, or a percentage of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::operator) enum Share {
    /// Number of nodes.
    Nodes(i32),
    /// Percentage of the selected nodes.
    Percent(usize),
}

// === impl Share ===

impl Share {
    /// Parses a share; `None` below `least` or above 100%.
    fn parse(value: &IntOrString, least: i32) -> Option<Self> {
        match value {
            IntOrString::Int(nodes) => (*nodes >= least).then_some(Self::Nodes(*nodes)),
            IntOrString::String(text) => match text.strip_suffix('%') {
                Some(percent) => {
                    let allowed = usize::try_from(least).unwrap_or_default()..=100;
                    percent.parse().ok().filter(|percent| allowed.contains(percent)).map(Self::Percent)
                }
                None => text.parse().ok().filter(|nodes| *nodes >= least).map(Self::Nodes),
            },
        }
    }

    /// Returns the share of `nodes`, rounded down.
    pub(super) fn rounded_down(self, nodes: usize) -> usize {
        match self {
            Self::Nodes(share) => usize::try_from(share).unwrap_or_default(),
            Self::Percent(percent) => nodes * percent / 100,
        }
    }

    /// Returns the share of `nodes`, rounded up as the `DaemonSet` controller does; at least one, or nothing
    /// would ever be replaced.
    pub(super) fn rounded_up(self, nodes: usize) -> i32 {
        match self {
            Self::Nodes(share) => share,
            Self::Percent(percent) => {
                i32::try_from((nodes * percent).div_ceil(100)).unwrap_or(i32::MAX).max(1)
            }
        }
    }
}

/// Parses the specification of a resource of this name, or returns why it is invalid.
pub(in crate::operator) fn validate(name: &str, spec: &QuinistrySpec) -> Result<ValidSpec, String> {
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
    let max_unavailable = Share::parse(&spec.rollout.max_unavailable, 1)
        .ok_or("rollout.maxUnavailable must be a number from 1 or a percentage from 1% to 100%")?;
    let tolerated = Share::parse(&spec.rollout.tolerate_nodes, 0)
        .ok_or("rollout.tolerateNodes must be a number or a percentage from 0% to 100%")?;
    let digest = match &spec.digest {
        Some(text) => Some(parse(text, "digest")?),
        None => None,
    };
    if digest.is_none() && spec.network.mode == NetworkMode::HostNetwork {
        return Err(
            "digest must be set with HostNetwork: the operator cannot reach a node's loopback to learn it"
                .into(),
        );
    }
    if let Some(store) = &spec.store {
        store.check()?;
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.contains('.') {
            return Err("with store, the name must begin with a letter and have no dots".into());
        }
    }
    Ok(ValidSpec { digest, executable, max_unavailable, tolerated })
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
