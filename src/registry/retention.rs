//! Retention by a configuration: its patterns, compiled for the planner of the store, and its part in
//! collection.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quinistry_oci::{Digest, to_json};
use quinistry_store::retention::{
    Policies, Policy, RetentionInputs, RetentionReport, RetentionRules, RetentionRun, TagMatcher, TagRule,
};
use quinistry_store::{Lead, Store, StoreError};
use regex_lite::{Regex, RegexBuilder};

use crate::auth::rules::PatternError;
use crate::config::{KeepTagsConfig, RetentionConfig, RetentionPolicyConfig};
use crate::records::{PullRecording, PullingClient};
use crate::repository_set::RepositorySet;

/// Greatest size of the compiled expressions of one entry, in bytes.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// Error of patterns that a configuration must not have.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPatterns {
    /// A pattern of repositories is not valid.
    #[error("pattern of repositories {0}")]
    Repositories(#[from] PatternError),
    /// An expression for tags is not valid.
    #[error("expression for tags is not valid: {0}")]
    Tags(#[from] regex_lite::Error),
}

/// Expression for whole names of tags; `None` for all tags.
#[derive(Debug)]
struct TagPatterns(Option<Regex>);

/// Retention of a registry that collects while it serves.
#[derive(Debug)]
pub struct Retention {
    policies: Arc<Policies>,
    ignored_pullers: Vec<String>,
    /// True until a run of these policies has deleted what they delete.
    ran_dry: AtomicBool,
}

// === impl Retention ===

impl Retention {
    /// Compiles the policies of a configuration.
    pub fn new(config: &RetentionConfig) -> Result<Self, InvalidPatterns> {
        Ok(Self {
            policies: Arc::new(compile(config)?),
            ignored_pullers: config.ignored_pullers.clone(),
            ran_dry: AtomicBool::new(true),
        })
    }

    /// Applies the policies, as the leader does before each collection. Blocks.
    pub fn run(&self, store: &Store, lead: &Lead) -> Result<RetentionReport, StoreError> {
        // After a failure, all manifests without a tag stay.
        self.ran_dry.store(true, Ordering::Relaxed);
        if self.policies.need_pulls() {
            // Without the pulls of all processes, tags in use would go.
            store.fold_pulls()?;
        }
        let run = RetentionRun { lead: Some(lead), applies_changes_at_once: false };
        let report = store.run_retention(&self.policies, RetentionInputs::of(store), run)?;
        self.ran_dry.store(report.dry_run.is_some(), Ordering::Relaxed);
        Ok(report)
    }

    /// Finds out whether the next run is dry, and deletes nothing: for a collection that only reports. Blocks.
    pub fn preview(&self, store: &Store) -> Result<(), StoreError> {
        self.ran_dry.store(true, Ordering::Relaxed);
        self.ran_dry.store(store.would_run_dry(&self.policies)?, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the rules by which the collection after [`run`](Self::run) keeps manifests without a tag.
    /// After a dry run, those stay that a policy is for.
    #[must_use]
    pub fn rules(&self, store: &Store) -> RetentionRules {
        RetentionRules::new(store.clone(), self.policies.clone(), self.ran_dry.load(Ordering::Relaxed))
    }

    /// Returns the recording of pulls, if a policy needs it.
    #[must_use]
    pub fn recording(&self) -> Option<PullRecording> {
        let ignored = self.ignored_pullers.clone();
        let recording = || PullRecording::unless(move |client| is_ignored(&ignored, client));
        self.policies.need_pulls().then(recording)
    }
}

/// Returns true if one of the names is that of the client's user, or begins its user agent, in any case.
fn is_ignored(names: &[String], client: PullingClient<'_>) -> bool {
    let is_agent = |name: &str| {
        let begin = client.user_agent.and_then(|agent| agent.get(..name.len()));
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(name))
    };
    names.iter().any(|name| client.account == Some(name.as_str()) || is_agent(name))
}

/// Compiles the policies of a configuration.
pub fn compile(config: &RetentionConfig) -> Result<Policies, InvalidPatterns> {
    Ok(Policies {
        dry_run: config.dry_run,
        max_delete: config.max_delete,
        list: config.policies.iter().map(policy).collect::<Result<_, _>>()?,
        hash: Digest::sha256(&to_json(&config.policies)),
    })
}

fn policy(config: &RetentionPolicyConfig) -> Result<Policy, InvalidPatterns> {
    Ok(Policy {
        repositories: Arc::new(RepositorySet::new(&config.repositories)?),
        keep_tags: config.keep_tags.iter().map(entry).collect::<Result<_, _>>()?,
        untagged: config.untagged,
        keeps_referrers: config.keeps_referrers,
    })
}

fn entry(config: &KeepTagsConfig) -> Result<TagRule, InvalidPatterns> {
    let expression = match &config.patterns[..] {
        [] => None,
        patterns => Some(tag_expression(patterns.iter().map(String::as_str))?),
    };
    Ok(TagRule { tags: Arc::new(TagPatterns(expression)), criteria: config.criteria })
}

/// Returns the expression that matches the whole names which one of several expressions matches.
pub(crate) fn tag_expression<'a>(
    expressions: impl IntoIterator<Item = &'a str>,
) -> Result<Regex, regex_lite::Error> {
    let groups: Vec<String> = expressions.into_iter().map(|text| format!("(?:{text})")).collect();
    RegexBuilder::new(&format!(r"\A(?:{})\z", groups.join("|"))).size_limit(MAX_COMPILED_BYTES).build()
}

// === impl TagPatterns ===

impl TagMatcher for TagPatterns {
    fn matches(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|expression| expression.is_match(name))
    }
}
