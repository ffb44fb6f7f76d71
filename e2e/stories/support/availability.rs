//! Judgement of what nodes answered for images during a story. Pure, so that the tests show that it finds faults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Answer of a node's localhost to the question for the root of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The root, byte for byte.
    Right,
    /// Status 200 with bytes of another digest.
    Wrong(String),
    /// Another status, or none.
    Denied(String),
}

/// A question for the root of an image, and its answer.
#[derive(Clone, Debug)]
pub struct Question {
    pub node: String,
    pub image: String,
    pub asked: Duration,
    pub answered: Duration,
    pub answer: Answer,
}

/// Time in which a story allows that a node does not answer: the node is stopped, for example.
#[derive(Clone, Debug)]
pub struct SilentWindow {
    pub node: String,
    pub from: Duration,
    /// End of the window; none while it is open.
    pub to: Option<Duration>,
}

// === impl SilentWindow ===

impl SilentWindow {
    fn covers(&self, question: &Question) -> bool {
        self.node == question.node
            && self.from <= question.answered
            && self.to.is_none_or(|to| question.asked <= to)
    }
}

/// Returns a line for each fault: a wrong answer at any time, a denial outside of the windows, and an image that a node
/// was never asked for or never answered.
pub fn faults(
    questions: &[Question],
    windows: &[SilentWindow],
    expected: &BTreeSet<(String, String)>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut right = BTreeSet::new();
    for question in questions {
        let Question { node, image, asked, answered, answer } = question;
        let (what, why) = match answer {
            Answer::Right => {
                right.insert((node.clone(), image.clone()));
                continue;
            }
            Answer::Wrong(why) => ("a wrong answer", why),
            Answer::Denied(_) if windows.iter().any(|window| window.covers(question)) => continue,
            Answer::Denied(why) => ("no answer", why),
        };
        let (from, to) = (asked.as_secs_f32(), answered.as_secs_f32());
        faults.push(format!("{from:.1} s to {to:.1} s: {what} of {node} for {image}: {why}"));
    }
    let never = expected.difference(&right);
    faults.extend(never.map(|(node, image)| format!("{node} never answered for {image}")));
    faults
}

/// Returns the longest time between two right answers of a node for one image.
pub fn longest_silence(questions: &[Question], node: &str) -> Duration {
    let mut last = BTreeMap::new();
    let right = questions.iter().filter(|one| one.node == node && one.answer == Answer::Right);
    let silences = right.filter_map(|one| {
        let before = last.insert(&one.image, one.answered)?;
        Some(one.answered.saturating_sub(before))
    });
    silences.max().unwrap_or_default()
}
