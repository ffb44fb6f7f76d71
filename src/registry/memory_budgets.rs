//! Budgets for what clients send, beside those for what every connection holds ([`quinistry_http::memory_budget`]).
//!
//! Only a registry with storage uses them. The pods that serve a generation (memory limit: 128 MiB) have none, so what
//! their clients can make them hold is bounded by the budgets of every connection alone. Bodies of uploads come in by
//! smaller reads where their budget is used up; manifests must be in memory as a whole, and wait for room.

use quinistry_http::memory_budget::MemoryBudget;

/// Bodies of uploads that are gathered to be written at once.
pub(crate) static UPLOADS: MemoryBudget = MemoryBudget::new(32 * 1024 * 1024);

/// Beginnings of manifests that come in, each up to [`SHORT_MANIFEST`]: long ones cannot take the room of
/// short ones.
pub(crate) static SHORT_MANIFESTS: MemoryBudget = MemoryBudget::new(16 * 1024 * 1024);

/// Rests of manifests that come in.
pub(crate) static LONG_MANIFESTS: MemoryBudget = MemoryBudget::new(64 * 1024 * 1024);

/// Bytes of each manifest that count as [`SHORT_MANIFESTS`]. Nearly all manifests are shorter.
pub(crate) const SHORT_MANIFEST: usize = 64 * 1024;
