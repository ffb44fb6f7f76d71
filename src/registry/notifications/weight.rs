//! Memory that texts take, for the bound of a queue. Pure.

/// Memory of an allocation beside its bytes: the allocator's own, and what it rounds up.
pub(super) const ALLOCATION_BYTES: usize = 16;

/// Returns the memory behind a text, in bytes; an empty one has none.
pub(super) const fn text_weight(text: &str) -> usize {
    if text.is_empty() { 0 } else { text.len() + ALLOCATION_BYTES }
}
