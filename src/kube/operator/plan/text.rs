//! Text of messages: lists, counts, lengths. The same state always gives the same text. Pure.

/// Number of nodes that a message names.
const MAX_NAMED_NODES: usize = 3;

/// Longest message in characters; the schema of the resource has the same limit.
const MAX_MESSAGE_CHARS: usize = 1024;

/// Joins names as `a, b, c and 4 more`, sorted, so that the same state gives the same text.
pub(in crate::operator) fn names(mut nodes: Vec<&str>) -> String {
    nodes.sort_unstable();
    nodes.dedup();
    let more = nodes.len().saturating_sub(MAX_NAMED_NODES);
    nodes.truncate(MAX_NAMED_NODES);
    let list = nodes.join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}

/// Formats a count with its noun: `1 node`, `2 nodes`.
pub(in crate::operator) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Cuts a message to the length that the schema allows.
pub(in crate::operator) fn shorten(message: &str) -> String {
    message.chars().take(MAX_MESSAGE_CHARS).collect()
}
