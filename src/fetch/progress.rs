//! Progress of a fetch as its clients see it, and what a client does next. Pure.

use std::fmt;
use std::sync::Arc;

use quinistry_oci::{Content, RepositoryName};

use crate::error::FetchError;
use crate::transfer::Transfer;

/// Progress of a fetch.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    /// The length is not known yet.
    Opening,
    /// The repository has the blob already.
    Stored(RepositoryName),
    /// The blob is not staged: each client fetches it alone.
    Unstaged,
    /// There is no content.
    Failed(FetchError),
    /// Bytes are staged, and read by the clients.
    Streaming(Streaming),
}

/// Progress of a fetch whose bytes are staged.
#[derive(Clone)]
pub(crate) struct Streaming {
    pub(crate) staged: Content,
    /// Number of bytes that clients may have.
    pub(crate) visible: u64,
    /// End of the fetch, once it is known.
    pub(crate) end: Option<End>,
}

/// End of a fetch.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// All bytes are staged, and have the digest.
    Verified,
    /// The rest cannot be staged: each client goes on alone, behind the visible bytes.
    HandedOver(Arc<Transfer>),
    /// Clients are cut off.
    Cut(FetchError),
}

/// Next step of a client.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Read at most this number of bytes, one at least.
    Read(u64),
    Wait,
    Done,
    Cut(FetchError),
    /// Fetch the rest alone.
    GoOnAlone(Arc<Transfer>),
}

impl Streaming {
    /// Returns the next step of a client who has all wanted bytes before `position`, and wants those before `end`.
    pub(crate) fn step(&self, position: u64, end: u64) -> Step {
        if position >= end {
            return Step::Done;
        }
        // The bytes of a source that lied are of no use.
        if let Some(End::Cut(error)) = &self.end {
            return Step::Cut(error.clone());
        }
        if position < self.visible {
            return Step::Read(self.visible.min(end) - position);
        }
        match &self.end {
            None => Step::Wait,
            Some(End::HandedOver(transfer)) => Step::GoOnAlone(transfer.clone()),
            // All bytes of a verified blob are visible.
            Some(End::Verified | End::Cut(_)) => Step::Cut(FetchError::Interrupted),
        }
    }
}

impl fmt::Debug for Streaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming")
            .field("visible", &self.visible)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Progress {
    /// Returns true if a client can be answered: with the length, or with a failure. The answer to an empty blob is
    /// complete with its headers, so that it waits for the hash.
    pub(crate) fn is_opened(&self) -> bool {
        match self {
            Self::Opening => false,
            Self::Streaming(streaming) => !streaming.staged.is_empty() || streaming.end.is_some(),
            Self::Stored(_) | Self::Unstaged | Self::Failed(_) => true,
        }
    }

    /// Returns true if nothing will change.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Opening => false,
            Self::Streaming(streaming) => streaming.end.is_some(),
            Self::Stored(_) | Self::Unstaged | Self::Failed(_) => true,
        }
    }

    /// Ends a fetch with an error.
    pub(crate) fn fail(&mut self, error: FetchError) {
        match self {
            Self::Streaming(streaming) => streaming.end = Some(End::Cut(error)),
            other => *other = Self::Failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use quinistry_oci::Digest;

    use super::*;

    #[test]
    fn no_client_waits_once_a_fetch_has_ended_and_none_reads_beyond_the_visible_bytes() {
        let transfer = Arc::new(Transfer::new(Digest::sha256(b"abcd"), Some(4)));
        let ends = [
            None,
            Some(End::Verified),
            Some(End::HandedOver(transfer)),
            Some(End::Cut(FetchError::Interrupted)),
        ];
        for end in &ends {
            for visible in 0..=4 {
                let staged = Content::from([bytes::Bytes::from_static(b"abcd")]);
                let streaming = Streaming { staged, visible, end: end.clone() };
                for (position, wanted) in (0..=4).flat_map(|to| (0..=to).map(move |from| (from, to))) {
                    let step = streaming.step(position, wanted);
                    let case = format!("{streaming:?} {position}..{wanted}: {step:?}");
                    match step {
                        Step::Read(bytes) => {
                            assert!(bytes > 0 && position + bytes <= visible.min(wanted), "{case}");
                        }
                        Step::Wait => assert!(end.is_none(), "{case}"),
                        Step::Done => assert_eq!(position, wanted, "{case}"),
                        Step::Cut(_) => assert!(position < wanted && end.is_some(), "{case}"),
                        Step::GoOnAlone(_) => assert!(position >= visible, "{case}"),
                    }
                }
            }
        }
    }
}
