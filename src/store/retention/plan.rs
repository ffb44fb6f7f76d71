//! Plan of a repository: policies, facts and time in, a verdict on each tag out. Pure.

use std::fmt;
use std::time::SystemTime;

use quinistry_oci::{Digest, RepositoryName, Tag};

use super::criteria::{Candidate, Clock, Criterion};
use super::policy::{Policies, Policy};

/// Facts about a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagFacts {
    /// Tag.
    pub tag: Tag,
    /// Digest that the tag refers to.
    pub digest: Digest,
    /// Last push of the tag: the time at which its link was written.
    pub pushed: SystemTime,
    /// Last pull of the tag or its manifest, if one is recorded.
    pub pulled: Option<SystemTime>,
    /// True if the tag is protected from retention.
    pub is_protected: bool,
}

/// Tag with its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedTag {
    /// Facts that were judged.
    pub facts: TagFacts,
    /// Verdict.
    pub verdict: Verdict,
}

/// Verdict on a tag. Displayed as the key of the configuration that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The tag is protected.
    Protected,
    /// No policy is for the repository.
    NoPolicy,
    /// The policy of this index has no entries.
    NoEntries(usize),
    /// An entry of a policy keeps the tag.
    Kept {
        /// Index of the policy.
        policy: usize,
        /// Index of the entry.
        entry: usize,
        /// Criterion of the entry.
        by: Criterion,
    },
    /// The tag would go, but too many tags of the repository would.
    TooMany(usize),
    /// The tag goes.
    Deleted {
        /// Index of the policy.
        policy: usize,
        /// Index of the entry whose patterns match and whose criteria do not hold; `None` if no pattern
        /// matches.
        entry: Option<usize>,
    },
}

/// Plan of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryPlan {
    /// All tags of the repository, in the order of their names.
    pub tags: Vec<JudgedTag>,
    /// Number of tags that would go, if these are too many, so that none goes.
    pub excess: Option<usize>,
}

/// Judges the tags of a repository. The order of `tags` does not matter.
///
/// `recording_since` is the begin of the recording of pulls, if they are recorded.
#[must_use]
pub fn plan(
    policies: &Policies,
    repository: &RepositoryName,
    mut tags: Vec<TagFacts>,
    recording_since: Option<SystemTime>,
    now: SystemTime,
) -> RepositoryPlan {
    tags.sort_by(|one, other| one.tag.cmp(&other.tag));
    let verdicts = match policies.of(repository) {
        None => vec![Verdict::NoPolicy; tags.len()],
        Some((index, policy)) if policy.keep_tags.is_empty() => vec![Verdict::NoEntries(index); tags.len()],
        Some((index, policy)) => judge(index, policy, &tags, Clock { now, recording_since }),
    };
    let judged = tags.into_iter().zip(verdicts).map(|(facts, verdict)| JudgedTag {
        verdict: if facts.is_protected { Verdict::Protected } else { verdict },
        facts,
    });
    let mut tags: Vec<JudgedTag> = judged.collect();
    let deleted = tags.iter().filter(|tag| tag.verdict.deletes()).count();
    let is_excess = !policies.max_delete.allows(deleted, tags.len());
    if is_excess {
        for tag in &mut tags {
            if let Verdict::Deleted { policy, .. } = tag.verdict {
                tag.verdict = Verdict::TooMany(policy);
            }
        }
    }
    RepositoryPlan { tags, excess: is_excess.then_some(deleted) }
}

fn judge(index: usize, policy: &Policy, tags: &[TagFacts], clock: Clock) -> Vec<Verdict> {
    let mut verdicts = vec![Verdict::Deleted { policy: index, entry: None }; tags.len()];
    let mut of_entries: Vec<Vec<usize>> = vec![Vec::new(); policy.keep_tags.len()];
    for (at, tag) in tags.iter().enumerate() {
        let first = policy.keep_tags.iter().position(|entry| entry.tags.matches(tag.tag.as_str()));
        if let Some(entry) = first {
            of_entries[entry].push(at);
        }
    }
    for (entry, (rule, of_entry)) in policy.keep_tags.iter().zip(of_entries).enumerate() {
        let candidate = |at: &usize| {
            let TagFacts { tag, digest, pushed, pulled, .. } = &tags[*at];
            Candidate { name: tag.as_str(), digest, pushed: *pushed, pulled: *pulled }
        };
        let candidates: Vec<_> = of_entry.iter().map(candidate).collect();
        for (at, kept) in of_entry.into_iter().zip(rule.criteria.judge(&candidates, clock)) {
            verdicts[at] = match kept {
                Some(by) => Verdict::Kept { policy: index, entry, by },
                None => Verdict::Deleted { policy: index, entry: Some(entry) },
            };
        }
    }
    verdicts
}

// === impl Verdict ===

impl Verdict {
    /// Returns true if the tag goes.
    #[must_use]
    pub const fn deletes(self) -> bool {
        matches!(self, Self::Deleted { .. })
    }

    /// Returns the index of the policy that decides.
    #[must_use]
    pub const fn policy(self) -> Option<usize> {
        match self {
            Self::Protected | Self::NoPolicy => None,
            Self::NoEntries(policy)
            | Self::TooMany(policy)
            | Self::Kept { policy, .. }
            | Self::Deleted { policy, .. } => Some(policy),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protected => f.write_str("protect"),
            Self::NoPolicy => f.write_str("no policy"),
            Self::NoEntries(policy) => write!(f, "policies[{policy}] without keeptags"),
            Self::Kept { policy, entry, by } => {
                write!(f, "policies[{policy}].keeptags[{entry}].{}", by.key())?;
                if *by == Criterion::NoPullStatistics { f.write_str(" (no statistics)") } else { Ok(()) }
            }
            Self::TooMany(_) => f.write_str("maxdelete"),
            Self::Deleted { policy, entry: Some(entry) } => {
                write!(f, "no criterion of policies[{policy}].keeptags[{entry}]")
            }
            Self::Deleted { policy, entry: None } => write!(f, "no pattern of policies[{policy}].keeptags"),
        }
    }
}
