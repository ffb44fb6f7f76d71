//! Stores: nodes that hold the content of applications.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Number of stores of one resource at most.
pub const MAX_COPIES: i32 = 16;

/// Number of stores of a resource whose `spec.store` names none.
pub const DEFAULT_COPIES: i32 = 3;

/// Pattern of the folder of a store: absolute, and without `.` or `..` as a part.
const PATH_PATTERN: &str = r"^(/\.?[A-Za-z0-9_-][A-Za-z0-9._-]*)+$";

/// Nodes that hold the images and charts of applications, from which the generations stream them.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreSpec {
    /// Number of nodes that hold a copy: 1 to 16, by default 3.
    #[serde(default = "defaults::copies")]
    #[schemars(range(min = 1, max = 16))]
    pub copies: i32,

    /// Folder on these nodes, an absolute path; /var/lib/quinistry by default. Cannot be changed.
    #[serde(default = "defaults::path")]
    #[schemars(length(max = 255), regex(pattern = PATH_PATTERN))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("store.path cannot be changed; remove store, and add it again with the other path"))]
    pub path: String,

    /// Labels of the nodes to choose from, beside those that the resource selects; at most 32.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
}

/// Observed state of the stores.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreStatus {
    /// Number of stores that are ready, of the number requested, as in 2/3.
    #[serde(default)]
    pub copies: String,

    /// Names of the nodes that were chosen, sorted.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub nodes: Vec<String>,
}

// === impl StoreSpec ===

impl StoreSpec {
    /// Checks what the schema checks, for a definition of another version; returns what is wrong.
    ///
    /// # Errors
    ///
    /// Returns a message for the user if a field is out of bounds.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=MAX_COPIES).contains(&self.copies) {
            return Err(format!("store.copies must be from 1 to {MAX_COPIES}"));
        }
        let is_part = |part: &str| {
            let rest = part.strip_prefix('.').unwrap_or(part);
            rest.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
                && rest.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        };
        if !self.path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_part)) {
            return Err(
                "store.path must be an absolute path without '.' and '..', of letters, digits, '.', '_' \
                        and '-'"
                    .into(),
            );
        }
        Ok(())
    }
}

mod defaults {
    pub(super) const fn copies() -> i32 {
        super::DEFAULT_COPIES
    }

    pub(super) fn path() -> String {
        "/var/lib/quinistry".into()
    }
}

#[cfg(test)]
mod tests {
    use super::StoreSpec;

    #[test]
    fn a_path_is_absolute_and_leads_nowhere_else() {
        let check = |path: &str| {
            StoreSpec { copies: 1, path: path.into(), node_selector: std::collections::BTreeMap::new() }
                .check()
        };
        for good in ["/var/lib/quinistry", "/srv", "/.hidden/a-b_c.d", "/a/-b"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "/", "srv", "/a/../b", "/..", "/.", "/a//b", "/a/", "/a b", "/..a", "/a\n"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
