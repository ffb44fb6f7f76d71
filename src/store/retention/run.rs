//! A run of retention: each repository is judged, and the tags that go are deleted.
//!
//! A tag is deleted only if its link is the one that was judged, by
//! [`Storage::remove_if`](crate::Storage::remove_if), so that a push in between wins. On a shared storage
//! whose tags of objects are hashes of the bytes, a push of the same manifest under the same tag cannot be
//! told from the judged one by them; the time of the link is compared right before.

use std::fmt;
use std::time::SystemTime;

use quinistry_oci::{Digest, RepositoryName, Tag};

use super::facts::{PullRecords, RepositoryFacts};
use super::plan::{JudgedTag, RepositoryPlan, TagFacts, Verdict, plan};
use super::policy::Policies;
use crate::layout::RepositoryKeys;
use crate::quotas::Usage;
use crate::storage::{Meta, Removed};
use crate::{DeletedSubject, Deletion, DeletionActor, Lead, Page, Store, StoreError};

/// Number of repositories whose names are read at once.
const REPOSITORIES_AT_ONCE: usize = 1000;

/// Number of tags of a dry run that are logged: enough to see what a mistaken policy does.
const MAX_LOGGED_TAGS: usize = 100;

/// Facts that other parts of the program know.
#[derive(Clone, Copy)]
pub struct RetentionInputs<'a> {
    /// Records of pulls.
    pub pulls: &'a dyn PullRecords,
    /// Returns true if a tag is protected from retention, beside those that the store's rules protect.
    pub is_protected: &'a (dyn Fn(&RepositoryName, &Tag) -> bool + Sync),
}

/// Options of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetentionRun<'a> {
    /// Right to act, which may end during the run; `None` for a run that needs none.
    pub lead: Option<&'a Lead>,
    /// True if changed policies are applied at once, and not after a dry run.
    pub applies_changes_at_once: bool,
}

/// Reason for which a run deletes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    /// The configuration says so.
    Configured,
    /// The policies have changed since the last run.
    PoliciesChanged,
}

/// Result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionReport {
    /// Reason for which nothing was deleted, if the run was dry.
    pub dry_run: Option<DryRun>,
    /// Number of repositories that a policy is for.
    pub repositories: usize,
    /// Number of tags in these repositories.
    pub tags: usize,
    /// Tags that were deleted, or would have been in a dry run.
    pub deleted: Vec<DeletedTag>,
    /// Number of tags that stay because they were pushed or deleted after they were judged.
    pub changed: usize,
    /// Repositories of which too many tags would go, so that all stay.
    pub excesses: Vec<Excess>,
    /// True if the right to act ended before the last repository.
    pub lost_lead: bool,
}

/// Tag that retention has deleted, or would delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTag {
    /// Repository of the tag.
    pub repository: RepositoryName,
    /// Tag with its verdict.
    pub judged: JudgedTag,
}

/// Repository of which too many tags would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Repository.
    pub repository: RepositoryName,
    /// Number of tags that would go.
    pub deleted: usize,
    /// Number of all tags.
    pub tags: usize,
}

impl Store {
    /// Judges the tags of each repository that a policy is for, and passes the plans to `visit`. Changes
    /// nothing.
    pub fn plan_retention(
        &self,
        policies: &Policies,
        inputs: RetentionInputs<'_>,
        visit: &mut dyn FnMut(&RepositoryName, RepositoryPlan) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.visit_policed(policies, &mut |name| {
            let (plan, _) = self.judge_tags(policies, inputs, name)?;
            visit(name, plan)?;
            Ok(true)
        })
    }

    /// Applies policies to all repositories: deletes the tags that no policy keeps, unless the run is dry.
    ///
    /// Runs dry as long as the policies say so, and once after they have changed, unless `run` applies
    /// changes at once.
    pub fn run_retention(
        &self,
        policies: &Policies,
        inputs: RetentionInputs<'_>,
        run: RetentionRun<'_>,
    ) -> Result<RetentionReport, StoreError> {
        let is_known = self.knows_policies(&policies.hash)?;
        let dry_run = if policies.dry_run {
            Some(DryRun::Configured)
        } else {
            (!is_known && !run.applies_changes_at_once).then_some(DryRun::PoliciesChanged)
        };
        let mut report = RetentionReport { dry_run, ..RetentionReport::default() };
        self.visit_policed(policies, &mut |name| {
            if run.lead.is_some_and(|lead| !lead.still()) {
                report.lost_lead = true;
                return Ok(false);
            }
            self.apply_retention(policies, inputs, run, name, &mut report)?;
            Ok(true)
        })?;
        if !is_known && !report.lost_lead {
            self.remember_policies(&policies.hash)?;
        }
        let (tags, deleted, changed) = (report.tags, report.deleted.len(), report.changed);
        match dry_run {
            None => tracing::info!(tags, deleted, changed, "retention finished"),
            Some(reason) => tracing::info!(tags, deleted, %reason, "retention finished, deleted nothing"),
        }
        Ok(report)
    }

    /// Calls `visit` with each repository that a policy is for, until it returns false.
    fn visit_policed(
        &self,
        policies: &Policies,
        visit: &mut dyn FnMut(&RepositoryName) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut last = String::new();
        loop {
            let page = Page { size: REPOSITORIES_AT_ONCE, last };
            let is_policed = |name: &RepositoryName| policies.of(name).is_some();
            let (names, next) = self.listed_repositories(&page, usize::MAX, &is_policed)?;
            for name in &names {
                if !visit(name)? {
                    return Ok(());
                }
            }
            let Some(next) = next else { return Ok(()) };
            last = next;
        }
    }

    /// Judges the tags of a repository; returns the plan, and the metadata of each tag's link in the plan's
    /// order.
    fn judge_tags(
        &self,
        policies: &Policies,
        inputs: RetentionInputs<'_>,
        name: &RepositoryName,
    ) -> Result<(RepositoryPlan, Vec<Meta>), StoreError> {
        let RepositoryFacts { mut tags, recording_since } = self.retention_facts(name, &inputs)?;
        // Read behind the facts, so that no tag is younger than now.
        let now = self.storage().now();
        tags.sort_by(|(one, _), (other, _)| one.tag.cmp(&other.tag));
        let (facts, links): (Vec<_>, Vec<_>) = tags.into_iter().unzip();
        Ok((plan(policies, name, facts, recording_since, now), links))
    }

    fn apply_retention(
        &self,
        policies: &Policies,
        inputs: RetentionInputs<'_>,
        run: RetentionRun<'_>,
        name: &RepositoryName,
        report: &mut RetentionReport,
    ) -> Result<(), StoreError> {
        let (plan, links) = self.judge_tags(policies, inputs, name)?;
        report.repositories += 1;
        report.tags += plan.tags.len();
        if let Some(deleted) = plan.excess {
            let tags = plan.tags.len();
            tracing::warn!(
                repository = %name, tags, deleted, max_delete = %policies.max_delete,
                "retention deletes too many tags, deleted none"
            );
            report.excesses.push(Excess { repository: name.clone(), deleted, tags });
        }
        for (judged, link) in plan.tags.into_iter().zip(links) {
            if !judged.verdict.deletes() {
                continue;
            }
            if report.dry_run.is_none() {
                if run.lead.is_some_and(|lead| !lead.still()) {
                    report.lost_lead = true;
                    return Ok(());
                }
                if !self.remove_judged_tag(name, &judged.facts.tag, &link)? {
                    tracing::info!(repository = %name, tag = %judged.facts.tag, "tag changed, left by retention");
                    report.changed += 1;
                    continue;
                }
                self.record_deletion(deletion(policies, name, &judged));
            } else if report.deleted.len() < MAX_LOGGED_TAGS {
                let JudgedTag { facts: TagFacts { tag, digest, .. }, verdict } = &judged;
                tracing::info!(repository = %name, %tag, %digest, reason = %verdict, "tag would be deleted");
            }
            report.deleted.push(DeletedTag { repository: name.clone(), judged });
        }
        Ok(())
    }

    /// Removes a tag if its link is the one that was judged. Returns false if it was written or removed
    /// since.
    pub(crate) fn remove_judged_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        judged: &Meta,
    ) -> Result<bool, StoreError> {
        let mut is_removed = false;
        self.changing_manifests(name, || {
            is_removed = self.freeing_quota(name, || {
                let is_removed = if self.is_shared() {
                    self.remove_shared_tag_if(name, tag, judged)?
                } else {
                    let link = RepositoryKeys(name).tag_link(tag);
                    let is_removed = self.storage().remove_if(&link, &judged.tag)? == Removed::Removed;
                    if is_removed {
                        self.remove_tag(name, tag)?;
                    }
                    is_removed
                };
                Ok((is_removed, Usage { bytes: 0, tags: u64::from(is_removed) }))
            })?;
            Ok(())
        })?;
        Ok(is_removed)
    }
}

/// Returns the record of a deleted tag.
fn deletion(policies: &Policies, name: &RepositoryName, judged: &JudgedTag) -> Deletion {
    let JudgedTag { facts, verdict } = judged;
    let policy = verdict.policy().map(|policy| format!("policies[{policy}] of {}", policies.hash));
    Deletion {
        actor: DeletionActor::Retention,
        subject: DeletedSubject::Tag {
            repository: name.clone(),
            tag: facts.tag.clone(),
            digest: facts.digest.clone(),
        },
        policy,
        reason: verdict.to_string(),
    }
}

// === impl RetentionInputs ===

impl<'a> RetentionInputs<'a> {
    /// Returns the facts that a store knows: its folded records of pulls, and its [rules about tags](crate::TagRules).
    #[must_use]
    pub fn of(store: &'a Store) -> Self {
        Self { pulls: store, is_protected: &|_, _| false }
    }
}

impl fmt::Debug for RetentionInputs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetentionInputs").field("pulls", &self.pulls).finish_non_exhaustive()
    }
}

// === impl DryRun ===

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "quinistry.retention.dryrun is true",
            Self::PoliciesChanged => "the policies have changed since the last run",
        })
    }
}

// === impl RepositoryPlan ===

impl RepositoryPlan {
    /// Returns the digests of the tags that go or stay.
    pub(super) fn digests(&self, deleted: bool) -> impl Iterator<Item = &Digest> {
        let wanted = self.tags.iter().filter(move |tag| tag.verdict.deletes() == deleted);
        wanted.map(|tag| &tag.facts.digest)
    }
}

impl DeletedTag {
    /// Returns the last pull, if one is recorded.
    #[must_use]
    pub const fn pulled(&self) -> Option<SystemTime> {
        self.judged.facts.pulled
    }

    /// Returns the verdict.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.judged.verdict
    }
}
