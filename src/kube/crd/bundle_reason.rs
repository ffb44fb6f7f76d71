//! The list of all reasons of a bundle's conditions. A test holds the documented table to this list.

use std::fmt;

/// Reason of a condition of a `Bundle`, spelled as the variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleReason {
    // === all is well, or on its way ===
    /// All names count.
    Accepted,
    /// Every node that was asked can serve all names.
    Served,
    /// Nothing is wrong.
    AsExpected,
    /// Nodes are reading the changed names.
    Spreading,
    /// No node was asked yet, or none answered.
    NotAsked,

    // === the specification ===
    /// The specification cannot be read or contradicts itself.
    InvalidSpec,
    /// No `Quinistry` is there that could serve the bundle.
    RegistryNotFound,
    /// The bundle does not say which of several `Quinistry` resources serves it.
    RegistryAmbiguous,
    /// An older bundle gives a name another digest.
    NameTaken,
    /// The names do not fit into a `ConfigMap` beside those of older bundles.
    TooLarge,
    /// The history does not fit into the `ConfigMap`.
    HistoryCut,

    // === the cluster ===
    /// The API server refuses the `ConfigMap` of names, or another one has its name.
    NamesRejected,
    /// Some node cannot serve a name.
    NodeCannotServe,
    /// No node that was asked can serve a name.
    ContentMissing,
    /// The pods listen on their nodes' loopback, where the operator cannot ask them.
    NodesUnreachable,
}

impl BundleReason {
    /// All reasons, in the order of the documentation.
    pub const ALL: [Self; 15] = [
        Self::Accepted,
        Self::Served,
        Self::AsExpected,
        Self::Spreading,
        Self::NotAsked,
        Self::InvalidSpec,
        Self::RegistryNotFound,
        Self::RegistryAmbiguous,
        Self::NameTaken,
        Self::TooLarge,
        Self::HistoryCut,
        Self::NamesRejected,
        Self::NodeCannotServe,
        Self::ContentMissing,
        Self::NodesUnreachable,
    ];
}

impl fmt::Display for BundleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::BundleReason;

    #[test]
    fn each_reason_of_a_bundle_is_documented() {
        let document = include_str!("../../../docs/bundle-resource.md");
        let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
        let listed: Vec<&str> = rows
            .map(|(reason, _)| reason)
            .filter(|reason| BundleReason::ALL.iter().any(|known| known.to_string() == *reason))
            .collect();
        assert_eq!(listed, BundleReason::ALL.map(|reason| reason.to_string()));
    }
}
