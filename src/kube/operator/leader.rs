//! Leader election: of several operators, at most one writes.
//!
//! They agree through a Lease, as Kubernetes' own components do. The holder renews it every two seconds, and
//! may write for a few seconds after the last successful renewal, by its own clock; the others take the Lease
//! when they have seen no renewal for longer than that, by theirs. An operator that is killed, cut off or
//! stopped is therefore replaced within 16 seconds, and one that wakes up finds its time to have passed
//! before it writes anything.
//!
//! Kubernetes cannot refuse a write for coming from a former leader. Two mechanisms protect against a late
//! write:
//!
//! - The time to write ends before another leader's begins. [`guard`] reads the clock whenever a write is
//!   about to continue, [`fence`] right before its bytes go to the kernel, and
//!   [`connection`](super::connection) makes the kernel drop bytes that could not be delivered. This keeps
//!   two leaders from writing at once as long as (1) the rate of two machines' `CLOCK_BOOTTIME` differs by
//!   less than a tenth while a Lease lasts, (2) between the fence's reading of the clock and the kernel's
//!   taking the bytes the process is not stopped for longer than the second that is left over, and (3) a
//!   request that the API server's machine has acknowledged is executed at once.
//! - (3) does not hold: a proxy, a queue of priority and fairness, a webhook or a slow etcd may hold a
//!   request for longer than any Lease. So every write names the state that it was planned upon, and is
//!   refused if that has changed: an apply has the version of the present object, or, to create one, a
//!   version that no object has; a deletion has UID and version; the status has UID and version. See
//!   [`apply`](super::apply). Events have neither, as they change nothing.
//!
//! Reads need no Lease: operators that do not lead keep their caches warm.
//!
//! `kube-lease-manager` is not used: it renews without a resource version, so that a former leader overwrites
//! the next one's Lease, and it compares the clocks of different machines.

mod candidate;
mod clock;
mod election;
mod fence;
mod guard;

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;

use super::error::NotLeading;

pub(super) use candidate::{LeaseAction, LeaseCandidate};
pub(super) use clock::BootInstant;
pub(super) use election::Election;
pub(super) use fence::WriteFence;
pub(super) use guard::WriteGuard;

/// Time without a renewal after which other candidates take the Lease.
const LEASE_DURATION: Duration = Duration::from_secs(12);

/// Time from the start of a renewal in which writes are allowed.
const WRITE_WINDOW: Duration = Duration::from_secs(6);

/// Time for which sent bytes may stay unacknowledged. After that the kernel drops them, so that they cannot
/// arrive late.
pub(super) const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(5);

/// Interval at which the Lease is renewed, and read by other candidates.
const RENEW_PERIOD: Duration = Duration::from_secs(2);

/// Time limit of one renewal.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

const _: () = assert!(
    WRITE_WINDOW.as_secs() + UNACKNOWLEDGED_LIMIT.as_secs() < LEASE_DURATION.as_secs(),
    "what the last leader sent has arrived or is lost before the next one begins"
);
const _: () = assert!(
    RENEW_PERIOD.as_secs() + ATTEMPT_TIMEOUT.as_secs() < WRITE_WINDOW.as_secs(),
    "one renewal may fail without any harm"
);

/// Permission of this operator to write.
#[derive(Debug)]
pub(super) struct Leadership(watch::Sender<Term>);

#[derive(Clone, Copy, Debug)]
enum Term {
    /// No election takes place: this operator is the only one.
    Sole,
    /// Another operator leads, or none.
    Follows,
    /// This operator leads until the moment, unless it renews.
    Until(BootInstant),
}

// === impl Leadership ===

impl Leadership {
    /// Creates the leadership of an operator that is the only one.
    pub(super) fn sole() -> Self {
        Self(watch::Sender::new(Term::Sole))
    }

    /// Creates the leadership of an operator that stands for election.
    pub(super) fn elected() -> Self {
        Self(watch::Sender::new(Term::Follows))
    }

    /// Returns true if this operator may write at this moment.
    pub(super) fn holds(&self) -> bool {
        match *self.0.borrow() {
            Term::Sole => true,
            Term::Follows => false,
            Term::Until(end) => BootInstant::now() < end,
        }
    }

    /// Extends the permission to write, and returns true if there was none for a while before, however short:
    /// writes that were due then were not made.
    fn extend_until(&self, end: BootInstant) -> bool {
        match self.0.send_replace(Term::Until(end)) {
            Term::Sole => false,
            Term::Follows => true,
            // Read after the extension: a write that was refused was refused before this moment.
            Term::Until(before) => before <= BootInstant::now(),
        }
    }

    fn give_up(&self) {
        self.0.send_replace(Term::Follows);
    }

    /// Runs `work` while this operator may write, and drops it unfinished when the permission ends.
    async fn during<T>(&self, work: impl Future<Output = T>) -> Result<T, NotLeading> {
        let mut work = pin!(work);
        let mut end = pin!(self.permission_end());
        std::future::poll_fn(|context| {
            // Checked before the work continues: after a pause of the process, both the work and the end of
            // the permission are due.
            if !self.holds() {
                return Poll::Ready(Err(NotLeading));
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            end.as_mut().poll(context).map(|()| Err(NotLeading))
        })
        .await
    }

    /// Resolves when the permission to write ends.
    async fn permission_end(&self) {
        let mut terms = self.0.subscribe();
        loop {
            let term = *terms.borrow_and_update();
            match term {
                Term::Follows => return,
                Term::Sole => std::future::pending().await,
                Term::Until(end) => {
                    // A renewal extends the permission, and giving up ends it. The timer stands still in
                    // suspend, the clock does not.
                    let left = end.since(BootInstant::now());
                    if left.is_zero() {
                        return;
                    }
                    let _ = tokio::time::timeout(left, terms.changed()).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
