//! Every state that a transfer can reach with a source that does what it likes, and the usual ways one by one.

use std::collections::HashSet;

use super::*;

const BLOB: &[u8] = b"abc";

fn transfer(length: Option<u64>) -> Transfer {
    Transfer::new(Digest::sha256(BLOB), length)
}

fn validator(etag: &str) -> Option<Validator> {
    Validator::new("target", &format!("\"{etag}\""))
}

fn answer(from: u64, length: Option<u64>, etag: &str) -> Answer {
    Answer { from, length, validator: validator(etag), ..Answer::default() }
}

/// A transfer with its bytes, before a step.
#[derive(Clone, Debug)]
struct State {
    transfer: Transfer,
    received: Vec<u8>,
    next: Action,
    /// Number of requests.
    asked: u32,
}

impl State {
    fn first(length: Option<u64>) -> Self {
        let transfer = transfer(length);
        Self { next: Transfer::first_step(), transfer, received: Vec::new(), asked: 1 }
    }

    fn after(&self, event: &Event<'_>) -> Self {
        let mut state = self.clone();
        state.next = state.transfer.on(event);
        state.asked += u32::from(matches!(state.next, Action::Ask { .. }));
        state
    }

    fn with(&self, bytes: &[u8]) -> Self {
        let mut state = self.clone();
        match state.transfer.receive(bytes.len() as u64) {
            Ok(known) => state.received.extend_from_slice(&bytes[usize::try_from(known).unwrap()..]),
            Err(fault) => state.next = Action::Fail(fault),
        }
        state
    }

    fn hashed(&self) -> Self {
        self.after(&Event::Hashed(self.received == BLOB))
    }

    fn position(&self) -> usize {
        match self.transfer.phase {
            Phase::Reading { at } => usize::try_from(at).unwrap(),
            phase => panic!("{phase:?}"),
        }
    }

    /// Returns the states after everything that a source can do.
    fn followers(&self) -> Vec<Self> {
        match &self.next {
            Action::Ask { from, .. } => {
                let mut followers = vec![self.after(&Event::Broken), self.after(&Event::GivenUp)];
                for from in [0, *from, 1] {
                    for length in [None, Some(3), Some(4)] {
                        for etag in ["one", "two"] {
                            followers.push(self.after(&Event::Answered(&answer(from, length, etag))));
                        }
                        let plain = Answer { from, length, ..Answer::default() };
                        followers.push(self.after(&Event::Answered(&plain)));
                    }
                }
                followers
            }
            Action::Read => {
                let at = self.position();
                let right: Vec<u8> = BLOB.iter().copied().skip(at).chain(*b"xx").collect();
                let pieces = [&right[..1], &right[..2], b"!", b"!!"];
                let more = pieces.into_iter().map(|piece| self.with(piece));
                more.chain([self.after(&Event::Ended), self.after(&Event::Broken)]).collect()
            }
            Action::Hash => vec![self.hashed()],
            Action::Release | Action::Fail(_) => Vec::new(),
        }
    }

    /// Returns the first state of another receiver, who has the bytes that clients may have.
    fn handed_over(&self) -> Self {
        let visible = self.transfer.unverified();
        let (transfer, next) = self.transfer.continued_from(visible);
        let received = self.received[..usize::try_from(visible).unwrap()].to_vec();
        Self { transfer, received, next, asked: 1 }
    }

    /// Goes on with a source that is honest and breaks no more.
    fn honest_end(mut self) -> Action {
        loop {
            self = match &self.next {
                Action::Ask { from, validator: wanted, .. } => {
                    let is_part = *wanted == validator("one");
                    self.after(&Event::Answered(&answer(if is_part { *from } else { 0 }, Some(3), "one")))
                }
                Action::Read if self.position() < BLOB.len() => self.with(&BLOB[self.position()..]),
                Action::Read => self.after(&Event::Ended),
                Action::Hash => self.hashed(),
                end => return end.clone(),
            };
        }
    }
}

#[test]
fn no_state_shows_a_whole_wrong_blob_refuses_a_right_one_or_has_no_end() {
    let mut seen = HashSet::new();
    let mut open = vec![State::first(None), State::first(Some(3))];
    let (mut released, mut failed) = (0, 0);
    while let Some(state) = open.pop() {
        if !seen.insert(format!("{state:?}")) {
            continue;
        }
        let transfer = &state.transfer;
        assert_eq!(transfer.received, state.received.len() as u64, "{state:?}");
        // Each request moves on in its answer at least, and requests are bounded, so that every way ends.
        assert!(state.asked <= 1 + u32::from(MAX_RESUMES + MAX_RESTARTS), "{state:?}");
        if let Some(length) = transfer.length {
            assert!(
                transfer.unverified() < length && transfer.unverified() <= transfer.received,
                "{state:?}"
            );
        }
        match &state.next {
            Action::Release => {
                assert_eq!(state.received, BLOB, "{state:?}");
                released += 1;
            }
            Action::Fail(_) => failed += 1,
            _ => {
                let is_right =
                    BLOB.starts_with(&state.received) && transfer.length.is_none_or(|length| length == 3);
                if is_right {
                    assert_eq!(state.clone().honest_end(), Action::Release, "{state:?}");
                    if transfer.length.is_some() {
                        assert_eq!(state.handed_over().honest_end(), Action::Release, "{state:?}");
                    }
                }
            }
        }
        open.extend(state.followers());
    }
    assert!(seen.len() > 1000 && released > 10 && failed > 100, "{} {released} {failed}", seen.len());
}

#[test]
fn a_break_is_resumed_behind_the_received_bytes_three_times_and_then_from_the_start() {
    let mut state = State::first(Some(3)).after(&Event::Answered(&answer(0, Some(3), "one"))).with(b"a");
    for _ in 0..3 {
        state = state.after(&Event::Broken);
        assert_eq!(state.next, Action::Ask { from: 1, validator: validator("one"), is_first: false });
        state = state.after(&Event::Answered(&answer(1, Some(3), "one")));
        assert_eq!(state.next, Action::Read);
    }
    state = state.after(&Event::Broken);
    assert_eq!(state.next, Action::Ask { from: 0, validator: None, is_first: false });
    state = state.after(&Event::Answered(&answer(0, Some(3), "one")));
    // The first byte is there already.
    state = state.with(b"ab");
    assert_eq!(state.received, b"ab");
    assert_eq!(state.after(&Event::Broken).next, Action::Fail(Fault::Broken));
    assert_eq!(state.with(b"c").after(&Event::Ended).hashed().next, Action::Release);
}

#[test]
fn any_number_of_breaks_is_resumed_while_enough_new_bytes_come() {
    let (length, step) = (Some(100 * PROGRESS_BYTES), PROGRESS_BYTES);
    let mut transfer = transfer(length);
    for at in (0..50 * step).step_by(usize::try_from(step).unwrap()) {
        assert_eq!(transfer.on(&Event::Answered(&answer(at, length, "one"))), Action::Read);
        assert_eq!(transfer.receive(step), Ok(0));
        assert!(matches!(transfer.on(&Event::Broken), Action::Ask { from, .. } if from == at + step));
    }
    // A byte for each request is no progress.
    let at = 50 * step;
    for more in 0..3 {
        transfer.on(&Event::Answered(&answer(at + more, length, "one")));
        transfer.receive(1).unwrap();
        let next = transfer.on(&Event::Broken);
        assert_eq!(matches!(next, Action::Ask { from, .. } if from > 0), more < 2, "{next:?}");
    }
}

#[test]
fn a_source_that_stays_away_ends_the_transfer() {
    let begun = State::first(None).after(&Event::Answered(&answer(0, Some(3), "one"))).with(b"a");
    let asking = begun.after(&Event::Broken);
    assert_eq!(asking.after(&Event::GivenUp).next, Action::Fail(Fault::Broken));
    assert_eq!(State::first(None).after(&Event::GivenUp).next, Action::Fail(Fault::Unanswered));
}

#[test]
fn without_a_validator_or_with_another_one_the_transfer_starts_again() {
    let begun = State::first(None).after(&Event::Answered(&answer(0, Some(3), "one"))).with(b"a");
    let resumed = begun.after(&Event::Broken).after(&Event::Answered(&answer(1, Some(3), "two")));
    assert_eq!(resumed.next, Action::Ask { from: 0, validator: None, is_first: false });
    let plain = Answer { length: Some(3), ..Answer::default() };
    let begun = State::first(None).after(&Event::Answered(&plain)).with(b"a");
    assert_eq!(begun.after(&Event::Broken).next, Action::Ask { from: 0, validator: None, is_first: false });
}

#[test]
fn lies_are_told_apart() {
    let asked = State::first(Some(3));
    let headers = |answer: Answer| asked.after(&Event::Answered(&answer)).next;
    let lie = |lie| Action::Fail(Fault::Lie(lie));
    let honest = answer(0, Some(3), "one");
    assert_eq!(headers(answer(0, Some(4), "one")), lie(Lie::LengthHeader));
    assert_eq!(headers(Answer { is_encoded: true, ..honest.clone() }), lie(Lie::Encoded));
    let other = Some(Digest::sha256(b"other"));
    assert_eq!(headers(Answer { digest: other, ..honest.clone() }), lie(Lie::DigestHeader));
    // A digest of another algorithm says nothing that can be compared.
    let sha512 = Some(Digest::of(quinistry_oci::Algorithm::Sha512, b"other"));
    assert_eq!(headers(Answer { digest: sha512, ..honest.clone() }), Action::Read);
    let begun = asked.after(&Event::Answered(&honest));
    assert_eq!(begun.with(b"ab").after(&Event::Ended).next, lie(Lie::Short));
    assert_eq!(begun.with(b"abc").with(b"d").next, lie(Lie::Long));
    assert_eq!(begun.with(b"abd").after(&Event::Ended).hashed().next, lie(Lie::Digest));
}

#[test]
fn an_end_that_does_not_come_refuses_no_blob() {
    let begun = State::first(None).after(&Event::Answered(&answer(0, Some(3), "one"))).with(b"abc");
    assert_eq!(begun.after(&Event::Broken).next, Action::Hash);
}

#[test]
fn a_length_that_is_not_known_and_a_source_that_does_not_answer_are_failures_without_a_lie() {
    let asked = State::first(None);
    assert_eq!(asked.after(&Event::Answered(&Answer::default())).next, Action::Fail(Fault::LengthUnknown));
    assert_eq!(asked.after(&Event::Broken).next, Action::Fail(Fault::Unanswered));
}

#[test]
fn another_receiver_goes_on_behind_its_own_bytes() {
    let begun = State::first(Some(3)).after(&Event::Answered(&answer(0, Some(3), "one"))).with(b"abc");
    let (other, first) = begun.transfer.continued_from(2);
    assert_eq!((other.received, other.unverified()), (2, 2));
    assert_eq!(first, Action::Ask { from: 2, validator: validator("one"), is_first: false });
}
