//! Proof: which nodes can serve which images, by what their generations answered. Kept in memory: after a
//! restart nothing is known until nodes were asked again. Pure, with the time as an argument.
//!
//! A round asks at most [`NODES_PER_ROUND`] nodes. Nodes with images that they were not asked for come first,
//! then those that were asked longest ago, so that rounds reach all nodes. What nodes answer holds for
//! [`ANSWER_LIFETIME`].

mod registry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::parse::{Image, ParsedName};

pub(super) use registry::RegistryProof;

/// Number of nodes that are asked in one round.
pub(super) const NODES_PER_ROUND: usize = 5;

/// Number of these nodes that may be asked since they could not serve an image: more of them must not keep
/// the others from being asked.
const FAILING_NODES_PER_ROUND: usize = 2;

/// Greatest number of requests to the nodes of one registry within any [`BUDGET_PERIOD`].
pub(super) const REQUESTS_PER_PERIOD: usize = 300;

/// Period of [`REQUESTS_PER_PERIOD`], which may begin at any time.
pub(super) const BUDGET_PERIOD: Duration = Duration::from_mins(1);

/// Age at which a node's answer is renewed.
const RENEWAL_AGE: Duration = Duration::from_mins(10);

/// Age up to which a node's answer counts.
const ANSWER_LIFETIME: Duration = Duration::from_hours(1);

/// Time after a change of names in which a node may not have read them: a kubelet updates mounted
/// `ConfigMaps` once a minute, from a cache of up to another minute.
const SPREADING_TIME: Duration = Duration::from_secs(150);

/// A node whose generation can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AskableNode {
    /// Name of the node.
    pub node: String,
    /// IP address of the pod.
    pub ip: String,
}

/// Images to ask one node for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The node.
    pub node: AskableNode,
    /// The images, the most urgent first.
    pub images: Vec<Arc<Image>>,
}

/// Summary of the answers of nodes about some names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProofSummary {
    /// Number of nodes whose answers about all names are known.
    pub asked: usize,
    /// Number of these nodes that can serve all names.
    pub serving: usize,
    /// Number of names that some node can serve, and none cannot.
    pub served_names: usize,
    /// Nodes that cannot serve a name, and should by now.
    pub absent: Vec<AbsentNames>,
    /// Number of nodes that cannot serve a name, and may not have read the names yet.
    pub spreading: usize,
}

/// Names that a node cannot serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AbsentNames {
    /// Name of the node.
    pub node: String,
    /// The first of the names.
    pub first: String,
    /// Number of the names.
    pub count: usize,
}

/// Answers of the nodes of all registries, by UID of the registry.
#[derive(Debug, Default)]
pub(super) struct Proofs(HashMap<String, RegistryProof>);

// === impl Proofs ===

impl Proofs {
    /// Returns the answers of a registry's nodes.
    pub(super) fn of(&mut self, registry: &str) -> &mut RegistryProof {
        self.0.entry(registry.to_owned()).or_default()
    }

    /// Removes the answers of all registries but these.
    pub(super) fn retain(&mut self, registries: &BTreeSet<String>) {
        self.0.retain(|uid, _| registries.contains(uid));
    }
}

/// Groups names by image.
fn by_image(names: &[ParsedName]) -> BTreeMap<&Image, Vec<&str>> {
    let mut all: BTreeMap<&Image, Vec<&str>> = BTreeMap::new();
    for name in names {
        all.entry(&name.image).or_default().push(&name.text);
    }
    all
}
