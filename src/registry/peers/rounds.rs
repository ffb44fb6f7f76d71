//! Order in which peers are asked. Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// Patience with a peer that others may replace. A peer that exceeds it may just be busy.
pub(super) const SHORT_PATIENCE: Duration = Duration::from_millis(500);

/// Patience with peers that have not answered in the first round: a store hashes a long blob before it first serves it after
/// a start.
const LONG_PATIENCE: Duration = Duration::from_secs(10);

/// Number of times that a denial is asked again at its address, each time by a new connection: behind the address of a
/// service are several stores, of which some may lack the content. Of three stores, of which one lacks it, all six
/// connections reach that one once in 700 times.
pub(super) const MAX_REPEATS: u8 = 5;

/// Reasons for which a peer has given nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// The peer says that it does not have the content. Another store behind its address may have it.
    Denied,
    /// The peer has no valid content, or is left out now.
    Absent,
    /// The peer has not answered, or not in time.
    Unanswered,
}

/// One question to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Index of the peer.
    pub(super) peer: usize,
    pub(super) patience: Duration,
    /// True if the question needs a new connection, which may reach another store.
    pub(super) is_repeat: bool,
}

/// Peers that are still to be asked.
///
/// First each peer is asked once. If none has the content, those that have denied it are asked again. At last those that
/// have not answered get more time, once, and their denials are asked again as well.
#[derive(Debug)]
pub(super) struct Rounds {
    left: VecDeque<usize>,
    denied: VecDeque<usize>,
    unanswered: VecDeque<usize>,
    /// Number of denials of each peer that were asked again.
    repeats: Vec<u8>,
    is_first: bool,
    is_last: bool,
    asked: usize,
}

impl Rounds {
    /// Creates the rounds of this many peers.
    pub(super) fn new(peers: usize) -> Self {
        Self {
            left: (0..peers).collect(),
            denied: VecDeque::new(),
            unanswered: VecDeque::new(),
            repeats: vec![0; peers],
            is_first: true,
            is_last: false,
            asked: 0,
        }
    }

    /// Returns the next question.
    pub(super) fn next_turn(&mut self) -> Option<Turn> {
        if self.left.is_empty() {
            self.is_first = false;
            self.left = std::mem::take(&mut self.denied);
        }
        if self.left.is_empty() && !self.is_last {
            self.is_last = true;
            self.left = std::mem::take(&mut self.unanswered);
        }
        self.asked = self.left.pop_front()?;
        let patience = if self.is_last { LONG_PATIENCE } else { SHORT_PATIENCE };
        Some(Turn { peer: self.asked, patience, is_repeat: !self.is_first })
    }

    /// Notes that the peer of the last turn has given nothing.
    pub(super) fn note(&mut self, miss: Miss) {
        match miss {
            Miss::Denied => {
                if let Some(repeats) = self.repeats.get_mut(self.asked)
                    && *repeats < MAX_REPEATS
                {
                    *repeats += 1;
                    self.denied.push_back(self.asked);
                }
            }
            Miss::Unanswered => self.unanswered.push_back(self.asked),
            Miss::Absent => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the peers that are asked, with the patience in milliseconds, if each question has a result.
    fn asked(peers: usize, result: impl Fn(usize, usize) -> Miss) -> Vec<(usize, u128)> {
        let (mut rounds, mut asked) = (Rounds::new(peers), Vec::<(usize, u128)>::new());
        while let Some(turn) = rounds.next_turn() {
            let earlier = asked.iter().filter(|(peer, _)| *peer == turn.peer).count();
            assert_eq!(turn.is_repeat, earlier > 0);
            asked.push((turn.peer, turn.patience.as_millis()));
            rounds.note(result(turn.peer, earlier));
        }
        asked
    }

    #[test]
    fn each_peer_is_asked_in_order_and_those_that_do_not_answer_once_more() {
        assert_eq!(asked(3, |_, _| Miss::Absent), [(0, 500), (1, 500), (2, 500)]);
        let one_answers = |peer, _| if peer == 1 { Miss::Absent } else { Miss::Unanswered };
        assert_eq!(asked(3, one_answers), [(0, 500), (1, 500), (2, 500), (0, 10_000), (2, 10_000)]);
        assert_eq!(asked(0, |_, _| Miss::Absent), []);
    }

    #[test]
    fn a_denial_is_asked_again_once_all_have_denied() {
        assert_eq!(asked(1, |_, _| Miss::Denied), [(0, 500); 6]);
        let mixed = |peer, earlier| if peer == 0 && earlier < 2 { Miss::Denied } else { Miss::Absent };
        assert_eq!(asked(2, mixed), [(0, 500), (1, 500), (0, 500), (0, 500)]);
    }

    #[test]
    fn silence_between_denials_is_waited_for_once() {
        let dead_in_between = |_, earlier| if earlier == 1 { Miss::Unanswered } else { Miss::Denied };
        assert_eq!(
            asked(1, dead_in_between),
            [(0, 500), (0, 500), (0, 10_000), (0, 10_000), (0, 10_000), (0, 10_000), (0, 10_000)]
        );
        assert_eq!(asked(1, |_, _| Miss::Unanswered), [(0, 500), (0, 10_000)]);
    }
}
