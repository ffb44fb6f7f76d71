//! End of removals that were cut off, without a mark.
//!
//! A push of content whose shard is being decided or removed waits for `done`. If the leader stopped in between, the
//! next cycle goes on, but only after a whole mark, perhaps in another night, and never if collection was switched off.
//! So a leader ends what was begun before it waits for the time of a cycle.
//!
//! A shard without `doomed` is decided without a mark. Its subjects stay for this epoch, but for manifests that refer to
//! one of a shard that was decided before: the mark of that decision found none of them live, and one that stayed would be
//! incomplete.

use std::collections::BTreeSet;
use std::sync::Arc;

use quinistry_oci::RepositoryName;

use super::GcOptions;
use super::mark::Context;
use super::prior::Prior;
use super::subject::{Shard, SubjectKind};
use super::sweep::Sweep;
use crate::layout::collection::EpochKeys;
use crate::{KeepAll, Lead, Store, StoreError};

impl Store {
    /// Ends the removals that a former leader or a failed cycle has begun, so that pushes of that content need not wait
    /// for the next cycle. Removes nothing else, and can be called at any time, also while nothing is collected.
    ///
    /// Returns the number of shards that were ended, `None` if the lead was lost before all were.
    pub fn end_cut_off_removals(
        &self,
        options: &GcOptions,
        lead: &Lead,
    ) -> Result<Option<usize>, StoreError> {
        let _turn = crate::waiting::lock(&self.0.collector.running);
        if !lead.still() {
            return Ok(None);
        }
        if self.is_reader() {
            return Ok(Some(0));
        }
        let begun = self.storage().now();
        // Earlier epochs were swept whole before this one was sealed.
        let Some(last) = self.epochs()?.last else { return Ok(Some(0)) };
        if self.register(&EpochKeys(last.number).swept())?.is_some() {
            return Ok(Some(0));
        }
        let decisions = self.decisions(last.number)?;
        let shards: Vec<Shard> = decisions.cut_off().collect();
        if shards.is_empty() {
            return Ok(Some(0));
        }
        let pace = self.pace(options.rate);
        let prior = match self.prior(last, decisions, &|requests| pace.take(requests)) {
            // A later leader has swept the epoch and cleared its lists, while this process was stopped.
            Err(StoreError::CollectionUnknown(_)) if !lead.still() => return Ok(None),
            prior => prior?,
        };
        let context = Context { options, rules: &KeepAll, lead, pace, begun, prior: Some(prior) };
        let prior = context.prior.as_ref().expect("the context was made with subjects of an epoch");
        self.note_all_doomed(&context, prior, &shards)?;
        let mut sweep = Sweep::default();
        for shard in &shards {
            // A new decision dooms what was noted to be removable, and no client has revived.
            if self.sweep_shard(&context, prior, *shard, &mut sweep)?.is_none() {
                return Ok(None);
            }
        }
        tracing::info!(
            epoch = prior.epoch.number,
            shards = shards.len(),
            "removals that were cut off are ended"
        );
        Ok(Some(shards.len()))
    }

    /// Notes what is known without a mark about the subjects of shards, and which keys go with those that are removed.
    fn note_all_doomed(
        &self,
        context: &Context<'_>,
        prior: &Prior,
        shards: &[Shard],
    ) -> Result<(), StoreError> {
        let mut repositories: BTreeSet<Arc<RepositoryName>> = BTreeSet::new();
        let mut has_bytes = false;
        for shard in shards {
            let doomed = prior.decisions.doomed.get(shard);
            for (_, subject) in prior.of_shard(*shard) {
                let may_go = doomed
                    .map_or(shard.kind == SubjectKind::Revision, |doomed| doomed.contains(&subject.hash));
                if may_go {
                    has_bytes |= shard.kind == SubjectKind::Bytes;
                    repositories.extend(subject.repository.clone());
                }
            }
        }
        for name in &repositories {
            self.note_doomed(context, name)?;
        }
        if has_bytes { self.note_aliases(context, prior) } else { Ok(()) }
    }
}
