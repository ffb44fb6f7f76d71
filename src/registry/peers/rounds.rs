//! Order in which peers are asked. Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// Patience of the rounds. In the first one each peer has half a second for its first byte. If none has the content,
/// those that did not answer are asked once more: a store hashes a long blob before it first serves it after a start, and
/// an address may lead to several stores.
const PATIENCE: [Duration; 2] = [SHORT_PATIENCE, Duration::from_secs(10)];

/// Patience with a peer that others may replace. A peer that exceeds it may just be busy.
pub(super) const SHORT_PATIENCE: Duration = Duration::from_millis(500);

/// Reasons for which a peer has given nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// The peer does not have the content, or is left out now.
    Absent,
    /// The peer has not answered, or not in time.
    Unanswered,
}

/// Peers that are still to be asked.
#[derive(Debug)]
pub(super) struct Rounds {
    round: usize,
    left: VecDeque<usize>,
    unanswered: VecDeque<usize>,
    asked: usize,
}

impl Rounds {
    /// Creates the rounds of this many peers.
    pub(super) fn new(peers: usize) -> Self {
        Self { round: 0, left: (0..peers).collect(), unanswered: VecDeque::new(), asked: 0 }
    }

    /// Returns the next peer to ask, with the patience for it.
    pub(super) fn next_peer(&mut self) -> Option<(usize, Duration)> {
        if self.left.is_empty() {
            self.round += 1;
            self.left = std::mem::take(&mut self.unanswered);
        }
        let patience = *PATIENCE.get(self.round)?;
        self.asked = self.left.pop_front()?;
        Some((self.asked, patience))
    }

    /// Notes that the peer which [`Self::next_peer`] has returned has given nothing.
    pub(super) fn note(&mut self, miss: Miss) {
        if miss == Miss::Unanswered {
            self.unanswered.push_back(self.asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(peers: usize, unanswered: &[usize]) -> Vec<(usize, u128)> {
        let (mut rounds, mut asked) = (Rounds::new(peers), Vec::new());
        while let Some((peer, patience)) = rounds.next_peer() {
            asked.push((peer, patience.as_millis()));
            rounds.note(if unanswered.contains(&peer) { Miss::Unanswered } else { Miss::Absent });
        }
        asked
    }

    #[test]
    fn each_peer_is_asked_in_order_and_those_that_do_not_answer_once_more() {
        assert_eq!(asked(3, &[]), [(0, 500), (1, 500), (2, 500)]);
        assert_eq!(asked(3, &[0, 2]), [(0, 500), (1, 500), (2, 500), (0, 10_000), (2, 10_000)]);
        assert_eq!(asked(0, &[]), []);
    }
}
