//! Number of caches that a request has passed, so that caches that ask each other in a circle come to an end.
//!
//! The trait [`Upstream`](crate::Upstream) carries no such number, so that it is a value of the task: a registry reads
//! [`HOPS_HEADER`] of a client's request by [`hops_of`], and answers the request within [`with_hops`]. Blobs are fetched
//! by tasks of their own, which is why their source takes the number when it is made.

use tokio::task::futures::TaskLocalFuture;

/// Header in which a cache says how many caches a request has passed, itself included.
pub const HOPS_HEADER: &str = "quinistry-hops";

/// Most caches that one request passes. Real chains have three: a cluster, a site, a company.
pub const MAX_HOPS: u32 = 8;

/// Number in the question of a peer, which is answered by what is there alone. More than [`MAX_HOPS`], so
/// that it is told from a circle of caches.
pub const PEER_HOPS: u32 = MAX_HOPS + 1;

tokio::task_local! {
    static HOPS: u32;
}

/// Returns the number in a header of a request: 0 without the header, more than [`MAX_HOPS`] if it is malformed.
#[must_use]
pub fn hops_of(header: Option<&[u8]>) -> u32 {
    let Some(header) = header else { return 0 };
    let text = str::from_utf8(header).unwrap_or_default();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().unwrap_or(u32::MAX) } else { u32::MAX }
}

/// Carries out a future on behalf of a request that has passed this many caches.
pub fn with_hops<F: Future>(hops: u32, future: F) -> TaskLocalFuture<u32, F> {
    HOPS.scope(hops, future)
}

/// Returns the number of caches that the request of this task has passed.
#[must_use]
pub fn current() -> u32 {
    HOPS.try_with(|hops| *hops).unwrap_or(0)
}

/// Returns the number to send to an upstream; `None` if the request has passed too many caches.
#[must_use]
pub fn next(hops: u32) -> Option<u32> {
    (hops < MAX_HOPS).then(|| hops + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_header_is_never_taken_for_less() {
        assert_eq!(hops_of(None), 0);
        assert_eq!(hops_of(Some(b"3")), 3);
        for header in ["", "-1", "+1", "x", " 1", "99999999999", "1, 2"] {
            assert_eq!(next(hops_of(Some(header.as_bytes()))), None, "{header:?}");
        }
        assert_eq!(hops_of(Some(b"\xff")), u32::MAX);
    }

    #[tokio::test]
    async fn a_task_has_the_number_of_its_request() {
        assert_eq!(current(), 0);
        assert_eq!(with_hops(3, async { current() }).await, 3);
        assert_eq!((next(0), next(7), next(8), next(u32::MAX)), (Some(1), Some(8), None, None));
    }
}
