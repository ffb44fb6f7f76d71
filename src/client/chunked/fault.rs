//! Faults of an upload, and what an answer of the registry means. Pure.

use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use crate::tls::TlsFault;
use crate::{ClientError, retry};

/// Reason why a step did not succeed.
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) error: ClientError,
    /// Headers of the answer, if there was one: the registry may say when to come again.
    pub(super) headers: Option<HeaderMap>,
}

/// Way in which an upload goes on after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// Another attempt cannot help.
    Final,
    /// The connection broke, or the registry is overloaded: the session goes on.
    Broken,
    /// The registry does not know the session, or refuses to continue it.
    Lost,
    /// The registry has another number of bytes than was expected, or an earlier request still writes.
    OutOfOrder,
    /// The registry does not take blobs in chunks.
    Unsupported,
}

/// State of the session in which a request was refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionState {
    /// True if the blob is sent in one request.
    pub(super) is_whole: bool,
    /// True if the session has no bytes yet.
    pub(super) is_empty: bool,
    /// True if an earlier request of the session broke: what the registry has of it is not known for sure, so that a
    /// refusal says nothing about chunks.
    pub(super) has_broken: bool,
}

// === impl Fault ===

impl Fault {
    pub(super) fn new(kind: FaultKind, error: ClientError) -> Self {
        Self { kind, error, headers: None }
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        let kind = match error {
            ClientError::Connect { .. } | ClientError::Timeout { .. } | ClientError::Broken { .. } => {
                FaultKind::Broken
            }
            // A proxy whose registry restarts closes connections during the handshake.
            ClientError::Tls { fault: TlsFault::Closed, .. } => FaultKind::Broken,
            _ => FaultKind::Final,
        };
        Self::new(kind, error)
    }
}

// === impl FaultKind ===

impl FaultKind {
    /// Judges the status of a refused PATCH or PUT.
    pub(super) fn of_refusal(status: StatusCode, session: SessionState) -> Self {
        let SessionState { is_whole, is_empty, has_broken } = session;
        if retry::is_transient(status) {
            return Self::Broken;
        }
        match status.as_u16() {
            404 | 410 if is_whole || has_broken || !is_empty => Self::Lost,
            416 if is_whole => Self::Lost,
            416 if !is_empty => Self::OutOfOrder,
            _ if is_whole => Self::Final,
            // A proxy may answer so to a request that was cut before it.
            400 | 409 | 422 if has_broken => Self::Lost,
            400 | 404 | 405 | 409 | 410 | 411 | 415 | 416 | 422 | 501 => Self::Unsupported,
            _ => Self::Final,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, is_whole: bool, is_empty: bool, has_broken: bool) -> FaultKind {
        let session = SessionState { is_whole, is_empty, has_broken };
        FaultKind::of_refusal(StatusCode::from_u16(status).unwrap(), session)
    }

    #[test]
    fn a_refused_chunk_is_not_mistaken_for_a_broken_one() {
        use FaultKind::{Broken, Final, Lost, OutOfOrder, Unsupported};
        for (status, first, later, after_break) in [
            (400, Unsupported, Unsupported, Lost),
            (403, Final, Final, Final),
            (404, Unsupported, Lost, Lost),
            (405, Unsupported, Unsupported, Unsupported),
            (413, Final, Final, Final),
            (416, Unsupported, OutOfOrder, OutOfOrder),
            (429, Broken, Broken, Broken),
            (501, Unsupported, Unsupported, Unsupported),
            (503, Broken, Broken, Broken),
            (507, Final, Final, Final),
        ] {
            assert_eq!(kind(status, false, true, false), first, "{status}");
            assert_eq!(kind(status, false, false, false), later, "{status}");
            assert_eq!(kind(status, false, false, true), after_break, "{status}");
        }
    }

    #[test]
    fn a_blob_that_is_sent_whole_has_no_chunks_to_be_refused() {
        use FaultKind::{Broken, Final, Lost};
        for (status, whole) in
            [(400, Final), (404, Lost), (405, Final), (416, Lost), (501, Final), (503, Broken)]
        {
            assert_eq!(kind(status, true, true, false), whole, "{status}");
        }
    }

    #[test]
    fn a_handshake_that_the_server_closes_is_a_break() {
        let tls = |fault| Fault::from(ClientError::Tls { host: String::new(), fault }).kind;
        assert_eq!(tls(TlsFault::Closed), FaultKind::Broken);
        assert_eq!(tls(TlsFault::UnknownIssuer), FaultKind::Final);
    }
}
