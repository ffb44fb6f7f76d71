//! Forms of names and labels of Kubernetes objects. Pure.

/// Length of the longest subdomain, in bytes.
const MAX_SUBDOMAIN_BYTES: usize = 253;

/// Returns true for the name of a namespace, of any length (RFC 1123, label).
pub(super) fn is_dns_label(text: &str) -> bool {
    is_bounded(text, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit(), |byte| byte == b'-')
}

/// Returns true for the name of an object (RFC 1123, subdomain).
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN_BYTES && text.split('.').all(is_dns_label)
}

/// Returns true if a text is not empty, begins and ends with an outer byte, and has inner ones or outer ones between.
pub(super) fn is_bounded(text: &str, is_outer: fn(u8) -> bool, is_inner: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.into_iter().all(|byte| byte.is_some_and(|byte| is_outer(*byte)))
        && bytes.iter().all(|byte| is_outer(*byte) || is_inner(*byte))
}
