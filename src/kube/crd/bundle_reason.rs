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
    /// The `Quinistry` that could serve the bundle has no stores.
    RegistryWithoutStore,
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
    pub const ALL: [Self; 16] = [
        Self::Accepted,
        Self::Served,
        Self::AsExpected,
        Self::Spreading,
        Self::NotAsked,
        Self::InvalidSpec,
        Self::RegistryNotFound,
        Self::RegistryWithoutStore,
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
        let (_, table) = document.split_once("| reason | meaning | what to do |\n|---|---|---|\n").unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let listed: Vec<&str> =
            rows.filter_map(|line| Some(line.strip_prefix("| `")?.split_once("` |")?.0)).collect();
        assert_eq!(listed, BundleReason::ALL.map(|reason| reason.to_string()));
    }
}
