//! Failures of port-forwards to a store: their meaning, and the pauses between attempts. Pure.

use std::time::Duration;

use crate::api::errors::is_passing;
use crate::install::error::InstallError;
use crate::install::port_forward::ForwardError;

/// Pause before the second port-forward to a pod that failed; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Number of times that the pause doubles.
const PAUSE_DOUBLINGS: u32 = 5;

/// Reason why a pod does not take a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// No port-forward was opened.
    #[error("{0}")]
    Open(InstallError),
    /// The port-forward ended before the store answered.
    #[error("{0}")]
    Ended(ForwardError),
}

// === impl DialError ===

impl From<DialError> for InstallError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Open(error) => error,
            DialError::Ended(failure) => Self::Refused(format!("{failure}; look at the log of the pod")),
        }
    }
}

/// Meaning of a refused port-forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another attempt cannot help.
    Final,
    /// The API server cannot be reached, or cannot serve now.
    Passing,
    /// The pod or its node may have failed.
    OfPod,
    /// The pod does not exist any more.
    Gone,
}

// === impl Refusal ===

impl Refusal {
    pub(super) fn of(error: &InstallError) -> Self {
        match error {
            InstallError::Api { code: None, .. } => Self::Passing,
            InstallError::Api { code: Some(404), .. } => Self::Gone,
            // So answers an API server that does not reach the kubelet.
            InstallError::Api { code: Some(502 | 504), .. } | InstallError::Timeout { .. } => Self::OfPod,
            InstallError::Api { code: Some(code), .. } if is_passing(*code) => Self::Passing,
            InstallError::Api { code: Some(500..), .. } => Self::OfPod,
            _ => Self::Final,
        }
    }
}

/// Returns the pause before a port-forward after some failures.
pub(super) fn pause_after(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        failures => FIRST_PAUSE * 2_u32.pow((failures - 1).min(PAUSE_DOUBLINGS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let of = |code| Refusal::of(&InstallError::Api { what: String::new(), why: String::new(), code });
        assert_eq!(of(None), Refusal::Passing);
        for (codes, refusal) in [
            (&[429, 503][..], Refusal::Passing),
            (&[404], Refusal::Gone),
            (&[500, 501, 502, 504], Refusal::OfPod),
            (&[200, 302, 400, 401, 403, 405, 426], Refusal::Final),
        ] {
            for code in codes {
                assert_eq!(of(Some(*code)), refusal, "{code}");
            }
        }
        assert_eq!(Refusal::of(&InstallError::Refused(String::new())), Refusal::Final);
        let silent = InstallError::Timeout { what: String::new(), after: FIRST_PAUSE, why: String::new() };
        assert_eq!(Refusal::of(&silent), Refusal::OfPod);
    }

    #[test]
    fn pauses_grow_and_have_a_limit() {
        let pauses: Vec<_> = (0..9).map(pause_after).collect();
        assert!(pauses.is_sorted() && pauses[0].is_zero());
        assert_eq!(pauses.last(), Some(&Duration::from_secs(8)));
    }
}
