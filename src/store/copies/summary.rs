//! Numbers about the copies of each upstream.

use std::time::SystemTime;

use quinistry_oci::RepositoryName;

use super::facts::FactsQuery;
use super::plan::{CopyFacts, Lengths, Usage};
use super::references::CopyMemory;
use crate::{Store, StoreError};

/// Copies of one upstream, as far as the storage tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopySummary {
    /// Number of repositories with copies.
    pub repositories: usize,
    /// Number of manifests.
    pub copies: usize,
    /// Bytes of the manifests and of their blobs that are stored. Content that several copies need counts once.
    pub bytes: u64,
    /// Last use of the copy that was not used for longest.
    pub oldest_use: Option<SystemTime>,
}

impl Store {
    /// Sums up the copies of so many upstreams; `upstream_of` returns the index of the one that a repository belongs to.
    /// Blocks.
    pub fn summarize_copies(
        &self,
        upstreams: usize,
        upstream_of: &dyn Fn(&RepositoryName) -> Option<usize>,
    ) -> Result<Vec<CopySummary>, StoreError> {
        let mut summaries = vec![CopySummary::default(); upstreams];
        let mut memory = CopyMemory::default();
        let mut copies: Vec<Vec<CopyFacts>> = vec![Vec::new(); upstreams];
        for (name, recorded) in self.recorded_copies(&|name| upstream_of(name).is_some())? {
            let Some(upstream) = upstream_of(&name) else { continue };
            let query = FactsQuery { name: &name, upstream, is_protected: &|_| false };
            let found = self.copy_facts(&query, &recorded, &mut memory)?;
            let summary = &mut summaries[upstream];
            let mut has_copies = false;
            for (facts, copy) in found.into_iter().zip(&recorded) {
                let Some(facts) = facts else { continue };
                has_copies = true;
                summary.copies += 1;
                copies[upstream].push(facts);
                let used = copy.record.modified;
                summary.oldest_use = Some(summary.oldest_use.map_or(used, |oldest| oldest.min(used)));
            }
            summary.repositories += usize::from(has_copies);
        }
        let mut lengths = Lengths::new();
        for (summary, copies) in summaries.iter_mut().zip(copies) {
            self.read_lengths(copies.iter(), &mut lengths, &memory)?;
            let mut usage = Usage::new(&lengths);
            for copy in &copies {
                usage.add(copy);
            }
            summary.bytes = usage.bytes();
        }
        Ok(summaries)
    }
}
