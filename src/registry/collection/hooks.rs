//! Work of the leader beside a cycle of collection, and the rules that the cycle follows.

use std::fmt;
use std::sync::Arc;

use quinistry_store::{KeepAll, Lead, RemoveUntagged, RevisionRules, Store, StoreError};

use crate::metrics::{CollectionMetrics, RetentionMetrics};
use crate::settings::Settings;

/// Work of the leader beside a cycle of collection. Blocks; checks the lead before each of its steps.
pub type LeaderWork = Arc<dyn Fn(&Store, &Settings, &Lead) -> Result<(), StoreError> + Send + Sync>;

/// Work beside the cycles of collection, and the rules that they follow.
#[derive(Clone)]
pub struct CollectionHooks {
    /// Work right before each cycle, with its name for the log: what it deletes is garbage of that cycle.
    pub before: Vec<(&'static str, LeaderWork)>,
    /// Work right after each cycle, with its name for the log.
    pub after: Vec<(&'static str, LeaderWork)>,
    /// Returns the rules that decide which manifests without a tag stay.
    pub rules: fn(&Store, &Settings) -> Arc<dyn RevisionRules>,
}

// === impl CollectionHooks ===

impl Default for CollectionHooks {
    /// Returns the work of a registry: retention by its settings, removal of what no name needs, and records
    /// of what was deleted.
    fn default() -> Self {
        Self::counting(Arc::default())
    }
}

impl CollectionHooks {
    /// Returns the work of a registry, as by default, which counts in `metrics` what retention does.
    #[must_use]
    pub fn counting(metrics: Arc<CollectionMetrics>) -> Self {
        let before: Vec<(&'static str, LeaderWork)> = vec![
            (
                "apply retention",
                Arc::new(move |store, settings, lead| {
                    apply_retention(store, settings, lead, &metrics.retention)
                }),
            ),
            ("remove tags that no name needs", Arc::new(remove_unnamed_tags)),
        ];
        let after: Vec<(&'static str, LeaderWork)> = vec![
            ("write records of deletions", Arc::new(|store, _, _| store.flush_deletions())),
            ("find usage of quotas", Arc::new(|store, _, lead| store.renew_usage_base(lead))),
        ];
        Self { before, after, rules }
    }

    /// Returns the hooks of a cycle that only reports, and that need not lead: they change nothing. Tags that retention
    /// would delete count as tags that stay.
    #[must_use]
    pub fn of_preview() -> Self {
        let before: Vec<(&'static str, LeaderWork)> =
            vec![("look at retention", Arc::new(preview_retention))];
        Self { before, after: Vec::new(), rules }
    }
}

impl fmt::Debug for CollectionHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            |hooks: &[(&'static str, LeaderWork)]| hooks.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        f.debug_struct("CollectionHooks")
            .field("before", &names(&self.before))
            .field("after", &names(&self.after))
            .finish_non_exhaustive()
    }
}

fn apply_retention(
    store: &Store,
    settings: &Settings,
    lead: &Lead,
    metrics: &RetentionMetrics,
) -> Result<(), StoreError> {
    let Some(retention) = &settings.retention else {
        metrics.forget();
        return Ok(());
    };
    let report = retention.run(store, lead).inspect_err(|_| metrics.failed())?;
    metrics.ran(&report);
    Ok(())
}

fn remove_unnamed_tags(store: &Store, settings: &Settings, lead: &Lead) -> Result<(), StoreError> {
    settings.named.as_ref().map_or(Ok(()), |named| named.remove_tags(store, lead))
}

fn preview_retention(store: &Store, settings: &Settings, _: &Lead) -> Result<(), StoreError> {
    settings.retention.as_ref().map_or(Ok(()), |retention| retention.preview(store))
}

fn rules(store: &Store, settings: &Settings) -> Arc<dyn RevisionRules> {
    let removes_untagged = settings.collection.is_some_and(|collection| collection.removes_untagged);
    match (&settings.named, &settings.retention) {
        (Some(named), _) => named.rules(),
        (None, Some(retention)) => Arc::new(retention.rules(store).removing_unpoliced(removes_untagged)),
        (None, None) if removes_untagged => Arc::new(RemoveUntagged),
        (None, None) => Arc::new(KeepAll),
    }
}
