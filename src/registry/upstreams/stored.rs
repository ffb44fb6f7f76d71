//! Copies of a storage that no request asks for: their numbers, and their removal on demand.

use std::collections::HashSet;
use std::time::Duration;

use quinistry_oci::{NameError, RepositoryName};
use quinistry_store::copies::{CopyLimits, CopySummary, EvictionInputs};
use quinistry_store::{Store, StoreError};

use super::UpstreamSettings;
use super::table::{UpstreamTable, UpstreamTableError};

/// Upstreams of a configuration, of which only the stored copies matter. They are never asked.
#[derive(Debug)]
pub struct StoredUpstreams {
    table: UpstreamTable,
    names: Vec<String>,
}

/// Copies that an administrator selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopySelection {
    /// Repositories; all of upstreams without any.
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
        let name = |settings: &UpstreamSettings| match &settings.prefix {
            Some(prefix) => prefix.to_string(),
            None => settings.remote_url.authority().map(ToString::to_string).unwrap_or_default(),
        };
        Ok(Self { table: UpstreamTable::new(settings)?, names: settings.iter().map(name).collect() })
    }

    /// Returns numbers about the copies of each upstream, in the order of the settings. Blocks.
    pub fn summaries(&self, store: &Store) -> Result<Vec<CopySummary>, StoreError> {
        store.summarize_copies(self.names.len(), &|name| self.upstream_of(name))
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

    /// Removes the copies of a selection. Returns their number. Blocks.
    pub fn evict(&self, store: &Store, selection: &CopySelection) -> Result<usize, StoreError> {
        let selected: HashSet<&RepositoryName> = selection.repositories.iter().collect();
        let keep = Some(selection.unused_for);
        let limits: Vec<CopyLimits> = self
            .names
            .iter()
            .map(|upstream| CopyLimits { upstream: upstream.clone(), keep, max_bytes: None })
            .collect();
        let report = store.evict_copies(EvictionInputs {
            limits: &limits,
            upstream_of: &|name| {
                self.upstream_of(name).filter(|_| selected.is_empty() || selected.contains(name))
            },
            is_protected: &|_, _| false,
            is_in_use: &|_, _| false,
            is_fetchable: &|_, _| true,
            coming_bytes: None,
            min_idle: Duration::ZERO,
            now: store.now(),
            lead: None,
        })?;
        Ok(report.upstreams.iter().map(|copies| copies.evicted).sum())
    }

    fn upstream_of(&self, name: &RepositoryName) -> Option<usize> {
        Some(self.table.locate(name).ok()??.upstream)
    }
}
