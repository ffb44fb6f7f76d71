//! Memory budgets of request bodies, beside those of connections ([`quinistry_http::memory_budget`]).
//!
//! Only a registry with storage uses them. The pods that serve a generation (memory limit: 128 MiB) have no
//! storage, so the budgets of connections alone bound the memory that their clients take. Where their budget
//! is used up, bodies of uploads are received by smaller reads; manifests must be in memory as a whole, and
//! wait for their budget, unless they fit into the bytes that every connection has.

use quinistry_http::memory_budget::MemoryBudget;

/// Budget of the batches in which bodies of uploads are written.
pub(crate) static UPLOAD_BATCHES: MemoryBudget = MemoryBudget::new(32 * 1024 * 1024);

/// Budget of the beginnings of received manifests, each up to [`MAX_MANIFEST_BEGINNING_BYTES`]. Separate from
/// the rest, so that long manifests cannot take the memory of short ones.
pub(crate) static MANIFEST_BEGINNINGS: MemoryBudget = MemoryBudget::new(16 * 1024 * 1024);

/// Budget of the remainders of received manifests.
pub(crate) static MANIFEST_REMAINDERS: MemoryBudget = MemoryBudget::new(64 * 1024 * 1024);

/// Budgets of a manifest of at most [`MAX_MANIFEST_BEGINNING_BYTES`].
pub(crate) static SHORT_MANIFEST_BUDGETS: [&MemoryBudget; 1] = [&MANIFEST_BEGINNINGS];

/// Budgets of a longer manifest.
pub(crate) static LONG_MANIFEST_BUDGETS: [&MemoryBudget; 2] = [&MANIFEST_BEGINNINGS, &MANIFEST_REMAINDERS];

/// Bytes of each manifest that [`MANIFEST_BEGINNINGS`] covers. Nearly all manifests are shorter.
pub(crate) const MAX_MANIFEST_BEGINNING_BYTES: usize = 64 * 1024;
