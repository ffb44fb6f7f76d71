//! Leader election: of several operators, at most one writes.
//!
//! They agree by a Lease, as Kubernetes' own components do. Whoever holds it renews it every two seconds, and may write
//! for a few seconds after the last renewal that succeeded, by its own clock; the others take the Lease when they have
//! seen no renewal for longer than that, by theirs. So one that is killed, cut off or stopped is followed by another
//! within 16 seconds, and one that wakes up finds its time to have passed before it writes anything.
//!
//! Kubernetes cannot refuse a write for coming from a former leader. Two things stand against one that comes
//! late:
//!
//! - The time to write ends before another leader's begins. [`guard`] looks at the clock whenever a write is
//!   about to go on, [`fence`] right before its bytes go to the kernel, and
//!   [`connection`](super::connection) has the kernel drop bytes that could not be delivered. This keeps two
//!   leaders from writing at once as long as
//!   (1) the rate of two machines' `CLOCK_BOOTTIME` differs by less than a tenth while a Lease lasts,
//!   (2) between the fence's look at the clock and the kernel's taking the bytes the process is not stopped
//!   for longer than the second that is left over, and
//!   (3) a request that the API server's machine has acknowledged is executed at once.
//! - (3) does not hold: a proxy, a queue of priority and fairness, a webhook or a slow etcd may hold a
//!   request for longer than any Lease. So every write names the state that it was planned upon, and is
//!   refused if that has changed: an apply has the version of the present object, or, to create one, a
//!   version that no object has; a deletion has UID and version; the status has UID and version. See
//!   [`apply`](super::apply). Events have neither, as they change nothing.
//!
//! The reading side needs no Lease: operators that stand by keep their picture of the cluster warm.
//!
//! `kube-lease-manager` was looked at and left: it renews without saying which version it means, so that a former leader
//! overwrites the next one's Lease, and it compares the clocks of different machines.

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

/// How long the others wait for a renewal.
const LEASE_DURATION: Duration = Duration::from_secs(12);

/// How long after it began a renewal allows to write.
const WRITE_WINDOW: Duration = Duration::from_secs(6);

/// How long sent bytes may stay without acknowledgement. After that the kernel drops them, and they cannot arrive late.
pub(super) const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(5);

/// How often it is renewed, and looked at by the others.
const RENEW_PERIOD: Duration = Duration::from_secs(2);

/// How long one try may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

const _: () = assert!(
    WRITE_WINDOW.as_secs() + UNACKNOWLEDGED_LIMIT.as_secs() < LEASE_DURATION.as_secs(),
    "what the last leader sent has arrived or is lost before the next one begins"
);
const _: () = assert!(
    RENEW_PERIOD.as_secs() + ATTEMPT_TIMEOUT.as_secs() < WRITE_WINDOW.as_secs(),
    "one renewal may fail without any harm"
);

/// Whether this operator may write.
#[derive(Debug)]
pub(super) struct Leadership(watch::Sender<Term>);

#[derive(Clone, Copy, Debug)]
enum Term {
    /// There is no election.
    Sole,
    /// Somebody else leads, or nobody.
    Follows,
    /// It leads, as long as no more is known.
    Until(BootInstant),
}

// === impl Leadership ===

impl Leadership {
    /// Of an operator that is the only one.
    pub(super) fn sole() -> Self {
        Self(watch::Sender::new(Term::Sole))
    }

    /// Of one that has yet to be elected.
    pub(super) fn elected() -> Self {
        Self(watch::Sender::new(Term::Follows))
    }

    /// Whether it may write at this moment.
    pub(super) fn holds(&self) -> bool {
        match *self.0.borrow() {
            Term::Sole => true,
            Term::Follows => false,
            Term::Until(end) => BootInstant::now() < end,
        }
    }

    /// Whether it might not write for a while before, however short: what came to be done then was left undone.
    fn hold_until(&self, end: BootInstant) -> bool {
        match self.0.send_replace(Term::Until(end)) {
            Term::Sole => false,
            Term::Follows => true,
            // Asked now and not before: whoever was refused was refused before this.
            Term::Until(before) => before <= BootInstant::now(),
        }
    }

    fn give_up(&self) {
        self.0.send_replace(Term::Follows);
    }

    /// Does some work as long as it may write, and drops it half done when it may no more.
    async fn during<T>(&self, work: impl Future<Output = T>) -> Result<T, NotLeading> {
        let mut work = pin!(work);
        let mut lapse = pin!(self.lapse());
        std::future::poll_fn(|context| {
            // Before the work goes on: after a pause, both the work and the end of its time are due.
            if !self.holds() {
                return Poll::Ready(Err(NotLeading));
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            lapse.as_mut().poll(context).map(|()| Err(NotLeading))
        })
        .await
    }

    /// Resolves when it may no more write.
    async fn lapse(&self) {
        let mut terms = self.0.subscribe();
        loop {
            let term = *terms.borrow_and_update();
            match term {
                Term::Follows => return,
                Term::Sole => std::future::pending().await,
                Term::Until(end) => {
                    // A renewal extends it, and giving up ends it. The timer stands still in suspend, the
                    // clock does not.
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
