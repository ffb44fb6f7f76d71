//! When a resource is planned again although no watch shows a change. Pure.

use std::time::Duration;

/// Reason to plan a resource again, and with it the pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::operator) enum Requeue {
    /// The resource is being deleted: nothing is done and nothing is reported.
    Never,
    /// Nothing is awaited. A rare plan repairs what a watch may have lost.
    #[default]
    Idle,
    /// A change is awaited that no watch may show.
    Soon {
        /// Time until the progress deadline passes, if one is running.
        deadline: Option<Duration>,
    },
}

// === impl Requeue ===

impl Requeue {
    /// Returns the time until the progress deadline passes, if one is running.
    #[must_use]
    pub(in crate::operator) const fn deadline(self) -> Option<Duration> {
        match self {
            Self::Soon { deadline } => deadline,
            Self::Never | Self::Idle => None,
        }
    }
}
