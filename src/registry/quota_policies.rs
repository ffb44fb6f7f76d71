//! Quotas, by the patterns of a configuration.

use std::sync::Arc;

use quinistry_store::Quota;

use crate::auth::rules::PatternError;
use crate::repository_set::RepositorySet;

/// Quota as a configuration gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaPolicy {
    /// Patterns of repositories, whose usage is summed. One that begins with `!` takes repositories away.
    pub repositories: Vec<String>,
    /// Most bytes of the blobs and manifests of all repositories.
    pub bytes: Option<u64>,
    /// Most tags of all repositories.
    pub tags: Option<u64>,
}

/// Quotas of a registry.
#[derive(Debug)]
pub struct QuotaPolicies {
    policies: Vec<QuotaPolicy>,
    quotas: Vec<Quota>,
}

// === impl QuotaPolicies ===

impl QuotaPolicies {
    /// Compiles quotas. Fails if a pattern is not valid.
    pub fn new(policies: &[QuotaPolicy]) -> Result<Self, PatternError> {
        let compile = |policy: &QuotaPolicy| {
            Ok(Quota {
                name: policy.repositories.join(", "),
                repositories: Arc::new(RepositorySet::new(&policy.repositories)?),
                bytes: policy.bytes,
                tags: policy.tags,
            })
        };
        let quotas = policies.iter().map(compile).collect::<Result<_, PatternError>>()?;
        Ok(Self { policies: policies.to_vec(), quotas })
    }

    /// Returns the quotas for a store.
    pub(crate) fn quotas(&self) -> Vec<Quota> {
        self.quotas.clone()
    }
}

impl PartialEq for QuotaPolicies {
    fn eq(&self, other: &Self) -> bool {
        self.policies == other.policies
    }
}
