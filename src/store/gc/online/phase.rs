//! Phase of the cycle that this process is in, for its metrics.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::Store;

/// Phase of collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum GcPhase {
    /// No cycle runs in this process.
    #[default]
    Idle,
    /// The cycle finds what is live.
    Mark,
    /// The cycle removes what was condemned before.
    Sweep,
    /// The cycle condemns what nothing live needs.
    Condemn,
}

/// Phase that other threads read.
#[derive(Debug, Default)]
pub(super) struct PhaseCell(AtomicU8);

/// Cycle in progress: its end is the end of its phases.
pub(super) struct PhasesOf<'a>(&'a PhaseCell);

// === impl GcPhase ===

impl GcPhase {
    /// All phases.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Mark, Self::Sweep, Self::Condemn];

    /// Returns the name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Mark => "mark",
            Self::Sweep => "sweep",
            Self::Condemn => "condemn",
        }
    }
}

// === impl PhasesOf ===

impl PhasesOf<'_> {
    pub(super) fn enter(&self, phase: GcPhase) {
        self.0.0.store(phase as u8, Ordering::Relaxed);
    }
}

impl Drop for PhasesOf<'_> {
    fn drop(&mut self) {
        self.enter(GcPhase::Idle);
    }
}

impl Store {
    /// Returns the phase of collection that this process is in.
    #[must_use]
    pub fn gc_phase(&self) -> GcPhase {
        let phase = self.0.collector.phase.0.load(Ordering::Relaxed);
        GcPhase::ALL.into_iter().find(|one| *one as u8 == phase).unwrap_or_default()
    }

    /// Begins the phases of a cycle.
    pub(super) fn phases(&self) -> PhasesOf<'_> {
        PhasesOf(&self.0.collector.phase)
    }
}
