//! Garbage collection: removes content that no manifest needs.
//!
//! [`offline`] collects while no registry runs on the storage. [`online`] collects while any number of
//! registries serve and take pushes. Both keep what a manifest needs ([`needs`]).

pub(super) mod link_guard;
pub(crate) mod needs;
mod offline;
pub(super) mod online;
mod rules;

pub use offline::{Collected, Collection, DamagedManifest, NotUnderstood};
pub use online::phase::GcPhase;
pub use online::report::{CycleReport, KindReport, RepositoryReport, SubjectReport, UnknownNeeds};
#[cfg(any(test, feature = "testing"))]
pub use online::safeguard::Safeguard;
pub use online::{Cycle, DamagedManifests, GcOptions, Writers};
pub use rules::{KeepAll, LooseRevision, RemoveUntagged, RevisionRules};

use offline::blob_folder;
