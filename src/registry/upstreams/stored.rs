//! Copies of a storage that no request asks for: their numbers, and their removal on demand.

use std::collections::HashSet;
use std::time::Duration;

use quinistry_oci::{NameError, RepositoryName, Tag};
use quinistry_store::copies::{CopyLimits, CopySummary, EvictionInputs, EvictionReport};
use quinistry_store::{Store, StoreError};

use super::UpstreamSettings;
use super::prefetch::is_prefetched;
use super::prefetch_rules::ScheduledRule;
use super::table::{UpstreamTable, UpstreamTableError};

/// Upstreams of a configuration, of which only the stored copies matter. They are never asked.
#[derive(Debug)]
pub struct StoredUpstreams {
    table: UpstreamTable,
    upstreams: Vec<StoredUpstream>,
}

#[derive(Debug)]
struct StoredUpstream {
    name: String,
    settings: UpstreamSettings,
    rules: Vec<ScheduledRule>,
}

/// Copies that an administrator selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopySelection {
    /// Repositories, of which all copies go; without any those of all upstreams, as far as the settings do not keep them
    /// for ever or fetch them in advance.
    pub repositories: Vec<RepositoryName>,
    /// Least time since the last use.
    pub unused_for: Duration,
}

/// Error of a name in a selection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// The repository belongs to no upstream.
    #[error("{0} is no repository of an upstream; begin with the prefix of one")]
    NotOfUpstream(RepositoryName),
    /// The name at the upstream is not valid.
    #[error("{0} {1}")]
    Name(RepositoryName, NameError),
}

impl StoredUpstreams {
    /// Makes the table of the upstreams.
    pub fn new(settings: &[UpstreamSettings]) -> Result<Self, UpstreamTableError> {
        let upstream = |settings: &UpstreamSettings| {
            let rules = settings.prefetch.iter().cloned().map(ScheduledRule::new).collect::<Result<_, _>>();
            let rules = rules.map_err(|(pattern, error)| UpstreamTableError::Pattern(pattern, error))?;
            Ok(StoredUpstream { name: settings.display_name(), settings: settings.clone(), rules })
        };
        let table = UpstreamTable::new(settings)?;
        Ok(Self { table, upstreams: settings.iter().map(upstream).collect::<Result<_, _>>()? })
    }

    /// Returns numbers about the copies of each upstream, in the order of the settings. Blocks.
    pub fn summaries(&self, store: &Store) -> Result<Vec<CopySummary>, StoreError> {
        store.summarize_copies(self.upstreams.len(), &|name| self.upstream_of(name))
    }

    /// Returns the names that the repositories of a selection have in the storage. Names that mean one repository of an
    /// upstream are one.
    pub fn resolve(&self, repositories: &[RepositoryName]) -> Result<Vec<RepositoryName>, SelectionError> {
        let resolve = |name: &RepositoryName| match self.table.locate(name) {
            Ok(Some(located)) => Ok(located.name),
            Ok(None) => Err(SelectionError::NotOfUpstream(name.clone())),
            Err(error) => Err(SelectionError::Name(name.clone(), error)),
        };
        repositories.iter().map(resolve).collect()
    }

    /// Removes the copies of a selection. Blocks.
    pub fn evict(&self, store: &Store, selection: &CopySelection) -> Result<EvictionReport, StoreError> {
        let selected: HashSet<&RepositoryName> = selection.repositories.iter().collect();
        let is_named = !selected.is_empty();
        let limits = self.upstreams.iter().map(|upstream| {
            // What expires never goes only by its name.
            let is_wanted = is_named || upstream.settings.keep.is_some();
            let keep = is_wanted.then_some(selection.unused_for);
            CopyLimits { upstream: upstream.name.clone(), keep, max_bytes: None }
        });
        let limits: Vec<CopyLimits> = limits.collect();
        store.evict_copies(EvictionInputs {
            limits: &limits,
            upstream_of: &|name| self.upstream_of(name).filter(|_| !is_named || selected.contains(name)),
            is_protected: &|name, tag| !is_named && self.prefetches(name, tag),
            is_in_use: &|_, _| false,
            is_fetchable: &|_, _| true,
            coming_bytes: None,
            min_idle: Duration::ZERO,
            now: store.now(),
            lead: None,
        })
    }

    fn prefetches(&self, name: &RepositoryName, tag: &Tag) -> bool {
        self.upstream_of(name).is_some_and(|index| {
            let StoredUpstream { settings, rules, .. } = &self.upstreams[index];
            is_prefetched(&self.table, (index, settings), rules, (name, tag))
        })
    }

    fn upstream_of(&self, name: &RepositoryName) -> Option<usize> {
        Some(self.table.locate(name).ok()??.upstream)
    }
}
