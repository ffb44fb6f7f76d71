//! Findings of a probe.

use crate::{ObjectError, StoreAbilities};

pub(super) const CREATES: (&str, &str) = ("create if absent", "one writer at a time, in this process alone");
pub(super) const COMPLETES: (&str, &str) =
    ("end an upload if absent", "an upload replaces an object of the same digest");
pub(super) const REMOVES_IF: (&str, &str) =
    ("remove if unchanged", "a tag is read again right before it is removed");
pub(super) const REMOVES_MANY: (&str, &str) = ("remove many", "objects are removed one by one");
pub(super) const COPIES: (&str, &str) = ("copy", "bytes are read and written again");
pub(super) const COPIES_PARTS: (&str, &str) =
    ("copy a range", "objects beyond 5 GiB are read and written again");
pub(super) const UNEQUAL_PARTS: (&str, &str) =
    ("parts of unequal length", "an upload has at most 10,000 parts of one length");
pub(super) const SIGNS: (&str, &str) = ("signed URLs", "pulls go through the registry");
pub(super) const FENCES: (&str, &str) = ("refusal of late removals", "the bucket is not collected");
pub(super) const VERIFIES: (&str, &str) =
    ("SHA-256 of bodies", "bytes that a fault changes on their way are found when they are read");

/// Result of a probe.
#[derive(Debug)]
pub struct ProbeReport {
    /// Abilities of the store. One that was not tried is none.
    pub abilities: StoreAbilities,
    /// Findings, one for each ability.
    pub findings: Vec<Finding>,
}

/// Finding about one ability.
#[derive(Debug)]
pub struct Finding {
    /// Name of the ability.
    pub name: &'static str,
    /// Consequence, if the store lacks the ability.
    pub without: &'static str,
    /// True or false as the store behaved; `None` if the ability was not tried.
    pub outcome: Option<bool>,
    /// Error of the request, if it was refused.
    pub error: Option<ObjectError>,
}

// === impl Finding ===

impl Finding {
    pub(super) fn new(
        (name, without): (&'static str, &'static str),
        outcome: Result<Option<bool>, ObjectError>,
    ) -> Self {
        match outcome {
            Ok(outcome) => Self { name, without, outcome, error: None },
            Err(error) => Self { name, without, outcome: Some(false), error: Some(error) },
        }
    }

    pub(super) fn is_able(&self) -> bool {
        self.outcome == Some(true)
    }
}
