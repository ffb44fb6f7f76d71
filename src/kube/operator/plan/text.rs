//! Words for messages: lists, counts, and as much as fits. The same state gives the same words. Pure.

/// How many nodes a message names.
const MAX_NAMED_NODES: usize = 3;

/// How long a message may be; the schema says so too.
const MAX_MESSAGE_CHARS: usize = 1024;

/// `a, b, c and 4 more`, sorted, so that the same state gives the same words.
pub(super) fn names(mut nodes: Vec<&str>) -> String {
    nodes.sort_unstable();
    nodes.dedup();
    let more = nodes.len().saturating_sub(MAX_NAMED_NODES);
    nodes.truncate(MAX_NAMED_NODES);
    let list = nodes.join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}

/// `1 node`, `2 nodes`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// As much as the schema allows.
pub(super) fn shorten(message: &str) -> String {
    message.chars().take(MAX_MESSAGE_CHARS).collect()
}
