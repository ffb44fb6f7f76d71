//! The observer of application images must be able to find fault, and allow what a story allows.

#[path = "../../e2e/stories/support/availability.rs"]
#[allow(unreachable_pub, reason = "the same file is a module of another program")]
mod availability;

use std::collections::BTreeSet;
use std::time::Duration;

use availability::{Answer, Question, SilentWindow, faults, longest_silence};

fn question(node: &str, asked: u64, answered: u64, answer: Answer) -> Question {
    let (asked, answered) = (Duration::from_secs(asked), Duration::from_secs(answered));
    Question { node: node.into(), image: "shop".into(), asked, answered, answer }
}

fn window(node: &str, from: u64, to: Option<u64>) -> SilentWindow {
    SilentWindow { node: node.into(), from: Duration::from_secs(from), to: to.map(Duration::from_secs) }
}

fn denied() -> Answer {
    Answer::Denied("404".into())
}

#[test]
fn a_denial_is_a_fault_outside_of_the_windows_of_its_node() {
    let asked = [question("a", 10, 11, denied())];
    let found = |windows: &[SilentWindow]| faults(&asked, windows, &BTreeSet::new()).len();
    assert_eq!(found(&[]), 1);
    assert_eq!(found(&[window("b", 0, None)]), 1);
    assert_eq!(found(&[window("a", 12, None), window("a", 0, Some(9))]), 1);
    for allowed in [window("a", 0, None), window("a", 11, None), window("a", 0, Some(10))] {
        assert_eq!(found(std::slice::from_ref(&allowed)), 0, "{allowed:?}");
    }
}

#[test]
fn a_wrong_answer_is_a_fault_at_any_time() {
    let asked = [question("a", 10, 11, Answer::Wrong("other bytes".into()))];
    let found = faults(&asked, &[window("a", 0, None)], &BTreeSet::new());
    assert_eq!(found, ["10.0 s to 11.0 s: a wrong answer of a for shop: other bytes"]);
}

#[test]
fn a_node_that_was_never_asked_is_a_fault() {
    let expected = BTreeSet::from([("a".to_owned(), "shop".to_owned()), ("b".to_owned(), "shop".to_owned())]);
    let asked = [question("a", 1, 1, Answer::Right)];
    assert_eq!(faults(&asked, &[], &expected), ["b never answered for shop"]);
}

#[test]
fn the_longest_silence_is_between_right_answers_of_one_node() {
    let asked = [
        question("a", 0, 1, Answer::Right),
        question("b", 0, 2, Answer::Right),
        question("a", 3, 4, denied()),
        question("a", 8, 9, Answer::Right),
        question("a", 9, 10, Answer::Right),
    ];
    assert_eq!(longest_silence(&asked, "a"), Duration::from_secs(8));
    assert_eq!(longest_silence(&asked, "b"), Duration::ZERO);
}
