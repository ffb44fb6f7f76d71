//! Retention: which tags stay, by the policies of an operator, and the deletion of the others.
//!
//! The plan of a repository is a pure function of policies, facts and time ([`plan()`]). A run deletes tags
//! alone, each only if it still is what was judged, so that a push in between wins. Manifests that no tag
//! holds any more, their links and bytes are the business of the collection, which asks [`RetentionRules`]
//! which of them stay. Called by the background task of a registry and by `quinistry retention`.

mod criteria;
mod estimate;
mod facts;
mod plan;
mod policy;
mod remembered;
mod rules;
mod run;
#[cfg(test)]
mod tests;
mod untagged;

pub use criteria::{Criteria, Criterion, PULL_SLACK};
pub use facts::{NoPulls, PullHistory, PullRecords};
pub use plan::{JudgedTag, RepositoryPlan, TagFacts, Verdict, plan};
pub use policy::{Percentage, Policies, Policy, TagMatcher, TagRule};
pub use rules::RetentionRules;
pub use run::{DeletedTag, DryRun, Excess, RetentionInputs, RetentionReport, RetentionRun};
pub use untagged::LooseFacts;
