//! Immutable and protected tags, and quotas.

pub use crate::{QuotaPolicy, TagPolicy};

/// Limits of what clients can change and store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Tags that keep their first manifest.
    pub immutable_tags: Vec<TagPolicy>,
    /// Tags that cannot be deleted.
    pub protected_tags: Vec<TagPolicy>,
    /// Quotas of repositories.
    pub quotas: Vec<QuotaPolicy>,
}
