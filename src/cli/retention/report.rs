//! Result of `quinistry retention`, as a table and as JSON.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::cli::output;
use crate::cli::{count, format_bytes};
use crate::oci::{Digest, RepositoryName};
use crate::registry::rfc3339;
use crate::store::retention::{
    DeletedTag, Excess, JudgedTag, Policies, RepositoryPlan, RetentionInputs, RetentionReport,
};
use crate::store::{Store, StoreError};

/// Number of hexadecimal digits of a digest in the table.
const SHORT_DIGITS: usize = 12;

/// Headings of the table.
const HEADINGS: [&str; 7] = ["REPOSITORY", "TAG", "DIGEST", "PUSHED", "PULLED", "FREES", "RULE"];

/// Tags that a result lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    AllTags,
    DeletedTags,
}

/// Result of a plan or run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RetentionOutcome {
    /// SHA-256 of the policies.
    policies: Digest,
    /// True if tags were deleted, and not only judged.
    applied: bool,
    /// Reason for which a run deleted nothing.
    dry_run: Option<String>,
    tags: Vec<TagRow>,
    /// Number of tags that were judged.
    judged: usize,
    /// Number of tags that go, or have gone.
    deleted: usize,
    /// Number of tags that stay because they were pushed after they were judged.
    changed: usize,
    /// Repositories of which too many tags would go.
    pub(super) excesses: Vec<ExcessRow>,
    /// Bytes that collection frees at most; `None` if a manifest cannot be read.
    bytes: Option<u64>,
    /// True if manifests without a tag stay in all repositories, so that no bytes are freed.
    keeps_untagged: bool,
}

/// Tag with its verdict.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TagRow {
    repository: String,
    tag: String,
    digest: Digest,
    pushed: String,
    pulled: Option<String>,
    deleted: bool,
    /// Bytes that collection frees at most; `None` for a tag that stays, and if they are not known.
    bytes: Option<u64>,
    rule: String,
}

/// Repository of which too many tags would go.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExcessRow {
    repository: String,
    deleted: usize,
    tags: usize,
}

// === impl RetentionOutcome ===

impl RetentionOutcome {
    /// Judges all tags.
    pub(super) fn of_plan(store: &Store, policies: &Policies, scope: Scope) -> Result<Self, StoreError> {
        let keeps_untagged = policies.list.iter().all(|policy| policy.untagged.is_none());
        let mut outcome = Self {
            policies: policies.hash.clone(),
            applied: false,
            dry_run: None,
            tags: Vec::new(),
            judged: 0,
            deleted: 0,
            changed: 0,
            excesses: Vec::new(),
            bytes: Some(0),
            keeps_untagged,
        };
        let pulls = store.current_pulls()?;
        let inputs = RetentionInputs { pulls: &pulls, ..RetentionInputs::of(store) };
        store.plan_retention(policies, inputs, &mut |name, plan| {
            let freed = store.bytes_freed_by(policies, name, &plan)?;
            let sum = freed.as_ref().map(|freed| freed.iter().sum::<u64>());
            outcome.bytes = outcome.bytes.zip(sum).map(|(all, sum)| all.saturating_add(sum));
            outcome.add(name, plan, freed.unwrap_or_default(), scope);
            Ok(())
        })?;
        Ok(outcome)
    }

    /// Adds the tags of a repository; `freed` has the bytes of each deleted one, if they are known.
    fn add(&mut self, name: &RepositoryName, plan: RepositoryPlan, freed: Vec<u64>, scope: Scope) {
        let mut freed = freed.into_iter();
        self.judged += plan.tags.len();
        if let Some(deleted) = plan.excess {
            let tags = plan.tags.len();
            self.excesses.push(ExcessRow { repository: name.to_string(), deleted, tags });
        }
        for judged in plan.tags {
            let is_deleted = judged.verdict.deletes();
            self.deleted += usize::from(is_deleted);
            if is_deleted || scope == Scope::AllTags {
                let bytes = if is_deleted { freed.next() } else { None };
                self.tags.push(TagRow::new(name, &judged, bytes));
            }
        }
    }

    /// Returns the result of a run that followed.
    pub(super) fn applied(self, report: &RetentionReport) -> Self {
        let planned = self.tags.iter().map(|row| ((row.repository.clone(), row.tag.clone()), row.bytes));
        let planned: HashMap<_, _> = planned.collect();
        let row = |DeletedTag { repository, judged }: &DeletedTag| {
            let key = (repository.to_string(), judged.facts.tag.to_string());
            TagRow::new(repository, judged, planned.get(&key).copied().flatten())
        };
        Self {
            applied: report.dry_run.is_none(),
            dry_run: report.dry_run.map(|reason| reason.to_string()),
            tags: report.deleted.iter().map(row).collect(),
            judged: report.tags,
            deleted: report.deleted.len(),
            changed: report.changed,
            excesses: report.excesses.iter().map(ExcessRow::from).collect(),
            ..self
        }
    }

    /// Says what collection frees.
    fn freed(&self) -> String {
        match self.bytes {
            _ if self.deleted == 0 => String::new(),
            _ if self.keeps_untagged => {
                "; collection frees nothing, because no policy has `untagged`".to_owned()
            }
            None => "; a manifest cannot be read, so that the bytes are unknown".to_owned(),
            Some(bytes) => format!("; collection then frees at most {}", format_bytes(bytes)),
        }
    }
}

// === impl TagRow ===

impl TagRow {
    fn new(repository: &RepositoryName, judged: &JudgedTag, bytes: Option<u64>) -> Self {
        let JudgedTag { facts, verdict } = judged;
        Self {
            repository: repository.to_string(),
            tag: facts.tag.to_string(),
            digest: facts.digest.clone(),
            pushed: rfc3339(facts.pushed),
            pulled: facts.pulled.map(rfc3339),
            deleted: verdict.deletes(),
            bytes,
            rule: verdict.to_string(),
        }
    }

    fn cells(&self) -> [String; 7] {
        let hex = self.digest.hex();
        [
            self.repository.clone(),
            self.tag.clone(),
            hex.get(..SHORT_DIGITS).unwrap_or(hex).to_owned(),
            self.pushed.clone(),
            self.pulled.clone().unwrap_or_else(|| "-".into()),
            self.bytes.map_or_else(|| "-".into(), format_bytes),
            if self.deleted { format!("deleted: {}", self.rule) } else { self.rule.clone() },
        ]
    }
}

impl From<&Excess> for ExcessRow {
    fn from(Excess { repository, deleted, tags }: &Excess) -> Self {
        Self { repository: repository.to_string(), deleted: *deleted, tags: *tags }
    }
}

impl output::Report for RetentionOutcome {
    fn text(&self) -> String {
        let mut text = String::new();
        let rows: Vec<_> = self.tags.iter().map(TagRow::cells).collect();
        if !rows.is_empty() {
            let mut widths = HEADINGS.map(str::len);
            for row in &rows {
                widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.len()));
            }
            for row in std::iter::once(&HEADINGS.map(str::to_owned)).chain(&rows) {
                let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  "));
                let line: String = cells.collect();
                writeln!(text, "{}", line.trim_end()).expect("writing to a string does not fail");
            }
        }
        let mut line = |line: std::fmt::Arguments<'_>| {
            writeln!(text, "{line}").expect("writing to a string does not fail");
        };
        for ExcessRow { repository, deleted, tags } in &self.excesses {
            line(format_args!(
                "{repository}: {deleted} of {} would go, more than maxdelete allows, so that none does; see --max-delete of run",
                count(*tags, "tag")
            ));
        }
        if self.changed > 0 {
            line(format_args!("{} changed after the judgement, and left", count(self.changed, "tag")));
        }
        line(format_args!(
            "{} of {} {}{}",
            count(self.deleted, "tag"),
            self.judged,
            if self.applied { "deleted" } else { "would be deleted" },
            self.freed()
        ));
        if let Some(reason) = &self.dry_run {
            line(format_args!("nothing was deleted, because {reason}"));
        }
        text
    }

    /// Returns the tags that go, as references.
    fn essence(&self) -> String {
        let deleted = self.tags.iter().filter(|row| row.deleted);
        output::lines(deleted.map(|row| format!("{}:{}", row.repository, row.tag)))
    }
}
