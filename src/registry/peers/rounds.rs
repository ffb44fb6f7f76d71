//! Order in which peers are asked. Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// Patience with a peer that others may replace. A peer that exceeds it may just be busy.
pub(super) const SHORT_PATIENCE: Duration = Duration::from_millis(500);

/// Patience with peers that have not answered in the first round: a store hashes a long blob before it first serves it after
/// a start, and a busy one waits for 10 s before it says so.
const LONG_PATIENCE: Duration = Duration::from_secs(12);

/// Number of times that an address is asked again after denials and failed connections, each time by a new connection:
/// behind the address of a service are several stores, of which some may lack the content or be gone. Of three stores,
/// all six connections reach such a one once in 700 times.
pub(super) const MAX_REPEATS: u8 = 5;

/// Pause before busy peers are asked again.
pub(super) const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// Number of times that busy peers are asked again, together 4 s: a transfer that ends elsewhere makes room.
const MAX_BUSY_ROUNDS: u8 = 8;

/// Reasons for which a peer has given nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// The peer says that it does not have the content. Another store behind its address may have it.
    Denied,
    /// The peer has no valid content, or refuses the question.
    Absent,
    /// The peer has not answered in time.
    Unanswered,
    /// No connection came, or it broke. Behind the address of a service, the next one may reach another store.
    Unreachable,
    /// The peer was not asked, since it could not be reached a moment ago.
    LeftOut,
    /// The peer has too many requests at the moment (429).
    Busy,
}

/// Peers that may have the content are busy. The client comes again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registries that may have this content are busy; try again in a few seconds")]
pub(crate) struct Busy;

/// One question to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Index of the peer.
    pub(super) peer: usize,
    pub(super) patience: Duration,
    /// Time to wait before the question.
    pub(super) pause: Duration,
    /// True if the question needs a new connection, which may reach another store.
    pub(super) is_repeat: bool,
    /// True if the peer is asked although it is left out now: no other one has the content.
    pub(super) is_last_resort: bool,
}

/// Peers that are still to be asked.
///
/// First each peer is asked once. If none has the content, those that have denied it are asked again, and
/// then, after a pause, those that are busy. At last those that have not answered or were left out get more
/// time, once, and their denials and failed connections are asked again as well.
#[derive(Debug)]
pub(super) struct Rounds {
    left: VecDeque<usize>,
    denied: VecDeque<usize>,
    unanswered: VecDeque<usize>,
    busy: VecDeque<usize>,
    pauses_taken: u8,
    /// Number of denials and failed connections of each peer that were asked again.
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
            busy: VecDeque::new(),
            pauses_taken: 0,
            repeats: vec![0; peers],
            is_first: true,
            is_last: false,
            asked: 0,
        }
    }

    /// Puts peers behind the others.
    pub(super) fn with_last(mut self, is_last: impl Fn(usize) -> bool) -> Self {
        let (last, first): (Vec<usize>, Vec<usize>) = self.left.into_iter().partition(|peer| is_last(*peer));
        self.left = first.into_iter().chain(last).collect();
        self
    }

    /// Returns the next question.
    pub(super) fn next_turn(&mut self) -> Option<Turn> {
        let mut pause = Duration::ZERO;
        if self.left.is_empty() {
            self.is_first = false;
            self.left = std::mem::take(&mut self.denied);
        }
        if self.left.is_empty()
            && !self.is_last
            && !self.busy.is_empty()
            && self.pauses_taken < MAX_BUSY_ROUNDS
        {
            self.pauses_taken += 1;
            pause = BUSY_PAUSE;
            self.left = std::mem::take(&mut self.busy);
        }
        if self.left.is_empty() {
            self.is_last = true;
            self.left = std::mem::take(&mut self.unanswered);
        }
        self.asked = self.left.pop_front()?;
        let patience = if self.is_last { LONG_PATIENCE } else { SHORT_PATIENCE };
        let (is_repeat, is_last_resort) = (!self.is_first, self.is_last);
        Some(Turn { peer: self.asked, patience, pause, is_repeat, is_last_resort })
    }

    /// Notes that the peer of the last turn has given nothing.
    pub(super) fn note(&mut self, miss: Miss) {
        match miss {
            Miss::Denied if self.may_repeat() => self.denied.push_back(self.asked),
            Miss::Unreachable if self.may_repeat() => self.unanswered.push_back(self.asked),
            Miss::Unanswered | Miss::LeftOut if !self.is_last => self.unanswered.push_back(self.asked),
            Miss::Busy => self.busy.push_back(self.asked),
            Miss::Denied | Miss::Unreachable | Miss::Unanswered | Miss::LeftOut | Miss::Absent => {}
        }
    }

    /// Takes one of the repeats of the peer of the last turn, if any is left.
    fn may_repeat(&mut self) -> bool {
        let Some(repeats) = self.repeats.get_mut(self.asked).filter(|repeats| **repeats < MAX_REPEATS) else {
            return false;
        };
        *repeats += 1;
        true
    }

    /// Returns the result of rounds that have ended without content.
    pub(super) fn end<T>(&self) -> Result<Option<T>, Busy> {
        if self.busy.is_empty() { Ok(None) } else { Err(Busy) }
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
        assert_eq!(asked(3, one_answers), [(0, 500), (1, 500), (2, 500), (0, 12_000), (2, 12_000)]);
        assert_eq!(asked(0, |_, _| Miss::Absent), []);
    }

    #[test]
    fn a_denial_is_asked_again_once_all_have_denied() {
        assert_eq!(asked(1, |_, _| Miss::Denied), [(0, 500); 6]);
        let mixed = |peer, earlier| if peer == 0 && earlier < 2 { Miss::Denied } else { Miss::Absent };
        assert_eq!(asked(2, mixed), [(0, 500), (1, 500), (0, 500), (0, 500)]);
    }

    #[test]
    fn a_busy_peer_is_asked_eight_times_more_with_pauses_and_is_not_taken_for_a_denial() {
        let mut rounds = Rounds::new(2);
        let mut pauses = Vec::new();
        while let Some(turn) = rounds.next_turn() {
            pauses.push((turn.peer, turn.pause.as_millis()));
            rounds.note(if turn.peer == 0 { Miss::Busy } else { Miss::Absent });
        }
        assert_eq!(pauses[..3], [(0, 0), (1, 0), (0, 500)]);
        assert_eq!((pauses.len(), rounds.end::<()>()), (10, Err(Busy)));
        let mut rounds = Rounds::new(1);
        rounds.next_turn();
        rounds.note(Miss::Denied);
        assert_eq!(rounds.end::<()>(), Ok(None));
    }

    #[test]
    fn peers_that_may_have_lied_are_asked_last() {
        let mut rounds = Rounds::new(3).with_last(|peer| peer == 0);
        let order: Vec<_> = std::iter::from_fn(|| rounds.next_turn()).map(|turn| turn.peer).collect();
        assert_eq!(order, [1, 2, 0]);
    }

    #[test]
    fn connections_that_fail_are_tried_again_once_no_other_peer_has_the_content() {
        let gone = |peer, _| if peer == 0 { Miss::Unreachable } else { Miss::Absent };
        let tried_again = [(0, 12_000); MAX_REPEATS as usize];
        assert_eq!(asked(2, gone), [&[(0, 500), (1, 500)], &tried_again[..]].concat());
        let comes_back = |_, earlier| if earlier < 3 { Miss::Unreachable } else { Miss::Absent };
        assert_eq!(asked(1, comes_back), [(0, 500), (0, 12_000), (0, 12_000), (0, 12_000)]);
    }

    #[test]
    fn a_peer_that_is_left_out_is_the_last_resort() {
        let mut rounds = Rounds::new(2);
        let mut turns = Vec::new();
        while let Some(turn) = rounds.next_turn() {
            turns.push((turn.peer, turn.is_last_resort));
            rounds.note(if turn.peer == 0 && !turn.is_last_resort { Miss::LeftOut } else { Miss::Absent });
        }
        assert_eq!(turns, [(0, false), (1, false), (0, true)]);
    }

    #[test]
    fn silence_between_denials_is_waited_for_once() {
        let dead_in_between = |_, earlier| if earlier == 1 { Miss::Unanswered } else { Miss::Denied };
        assert_eq!(
            asked(1, dead_in_between),
            [(0, 500), (0, 500), (0, 12_000), (0, 12_000), (0, 12_000), (0, 12_000), (0, 12_000)]
        );
        assert_eq!(asked(1, |_, _| Miss::Unanswered), [(0, 500), (0, 12_000)]);
    }
}
