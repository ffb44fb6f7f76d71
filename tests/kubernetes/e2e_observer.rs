//! The observer of the stories on a real cluster must be able to find fault: each part of the chain rule,
//! broken by hand.

#[path = "../../e2e/stories/support/chain_rule.rs"]
#[allow(unreachable_pub, reason = "the same file is a module of another program")]
mod chain_rule;

use std::time::Duration;

use chain_rule::{Event, Key, Pod, STALE, Set, What, violations};

/// A history of one resource on two nodes, told event by event.
#[derive(Clone, Default)]
struct History {
    events: Vec<Event>,
    at: Duration,
}

impl History {
    /// Two nodes are ready, and the resource is there.
    fn begin() -> Self {
        let mut history = Self::default();
        for name in ["a", "b"] {
            history.node(name, true);
        }
        history.push(What::Resource("r".into()))
    }

    /// And generations are whole, each after the one before.
    fn with(generations: i32) -> Self {
        let mut history = Self::begin();
        for number in 1..=generations {
            history.set(number, "old").pods(number, "old", true);
        }
        history
    }

    fn push(&mut self, what: What) -> Self {
        let version = self.events.last().map_or(1, |last| last.version + 1);
        self.events.push(Event { version, at: self.at, what });
        self.clone()
    }

    fn later(&mut self, by: Duration) -> &mut Self {
        self.at += by;
        self
    }

    fn node(&mut self, name: &str, ready: bool) -> &mut Self {
        self.push(What::Node { name: name.into(), ready });
        self
    }

    fn set_by(&mut self, generation: i32, template: &str, by_operator: bool) -> &mut Self {
        let uid = format!("set-{generation}");
        let set = Set { key: key(generation), uid, template: template.into(), by_operator, deleting: false };
        self.push(What::Set(set));
        self
    }

    fn set(&mut self, generation: i32, template: &str) -> &mut Self {
        self.set_by(generation, template, true)
    }

    fn pod(&mut self, generation: i32, node: &str, template: &str, ready: bool) -> &mut Self {
        let pod = pod(generation, node, template, ready);
        self.push(What::Pod(pod));
        self
    }

    fn pods(&mut self, generation: i32, template: &str, ready: bool) -> &mut Self {
        self.pod(generation, "a", template, ready).pod(generation, "b", template, ready)
    }

    fn gone(&mut self, generation: i32) -> &mut Self {
        self.push(What::SetGone(key(generation)));
        self
    }

    fn pods_gone(&mut self, generation: i32, template: &str) -> &mut Self {
        for node in ["a", "b"] {
            let pod = Pod { deleting: true, ..pod(generation, node, template, true) };
            let uid = pod.uid.clone();
            self.push(What::Pod(pod));
            self.push(What::PodGone(uid));
        }
        self
    }

    #[track_caller]
    fn assert_allowed(&self) {
        assert_eq!(violations(self.events.clone()), [""; 0]);
    }

    #[track_caller]
    fn assert_violation(&self, words: &str) {
        let found = violations(self.events.clone());
        assert!(found.len() == 1 && found[0].contains(words), "not one that says {words:?}: {found:#?}");
    }
}

fn key(generation: i32) -> Key {
    ("r".into(), generation)
}

fn pod(generation: i32, node: &str, template: &str, ready: bool) -> Pod {
    Pod {
        key: key(generation),
        uid: format!("pod-{generation}-{node}-{template}"),
        node: node.into(),
        template: template.into(),
        ready,
        deleting: false,
    }
}

#[test]
fn a_chain_that_rises_re_rolls_and_shrinks_in_order() {
    let mut history = History::with(3);
    for number in 1..=3 {
        history.later(STALE * 2).set(number, "new");
        history.pods_gone(number, "old").pods(number, "new", true);
    }
    for number in [3, 2] {
        history.gone(number).pods_gone(number, "new");
    }
    history.assert_allowed();
}

#[test]
fn a_generation_that_is_made_too_early() {
    History::begin().set(2, "old").assert_violation("generation 2 was created, but there is no generation 1");
    History::begin().set(1, "old").set(2, "old").assert_violation("generation 1 was never whole");
    let mut half = History::begin();
    half.set(1, "old").pod(1, "a", "old", true).pod(1, "b", "old", false);
    half.clone().set(2, "old").assert_violation("generation 1 was never whole");
    // A node that is not ready delays no generation; without any node no generation is whole.
    half.clone().node("b", false).set(2, "old").assert_allowed();
    let mut alone = half.clone();
    alone.push(What::NodeGone("b".into()));
    alone.set(2, "old").assert_allowed();
    half.node("a", false).node("b", false).set(2, "old").assert_violation("never whole");
}

#[test]
fn a_generation_that_is_changed_too_early() {
    let mut history = History::with(2);
    history
        .set(1, "new")
        .set(2, "new")
        .assert_violation("generation 2 was changed, but generation 1 was not whole since");
    // The pods that are Ready are still the old ones.
    let mut history = History::with(2);
    history
        .set(1, "new")
        .pods(1, "old", true)
        .set(2, "new")
        .assert_violation("not whole since its own change");
    // What does not touch the template is free.
    History::with(2).set(1, "new").set(2, "old").assert_allowed();
}

#[test]
fn a_picture_may_be_a_little_old_and_no_older() {
    let mut history = History::with(1);
    history.later(STALE).pod(1, "a", "old", false);
    history.clone().later(STALE / 2).set(2, "old").assert_allowed();
    history.later(STALE * 2).set(2, "old").assert_violation("generation 1 was last whole");
}

#[test]
fn what_somebody_else_does_is_not_the_operators_doing() {
    // It may not have seen the edit yet, and it is not asked for what the other one changes.
    History::with(1).set_by(1, "meddled", false).set(2, "old").assert_allowed();
    History::with(2).set(1, "new").set_by(2, "meddled", false).assert_allowed();
    // But its own change binds it.
    let mut history = History::with(2);
    history.set_by(1, "meddled", false).pods_gone(1, "old").set(1, "old").pod(1, "a", "old", true);
    history.set(2, "new").assert_violation("generation 1 was not whole since its own change");
}

#[test]
fn a_set_of_the_same_name_is_another_one() {
    let mut history = History::with(2);
    history.gone(2).pods_gone(2, "old").gone(1).pods_gone(1, "old").set(1, "old").set(2, "old");
    history.assert_violation("generation 2 was created, but generation 1 was never whole");
}

#[test]
fn generations_that_go_in_another_order() {
    History::with(3).gone(2).assert_violation("generation 2 went, and {3} were still there");
    History::with(2).gone(2).gone(1).assert_violation("generation 1 went, and {2} were still there");
    // With the resource all of it goes, in any order.
    let mut history = History::with(3);
    history.push(What::ResourceGone("r".into()));
    history.gone(1).gone(3).gone(2).assert_allowed();
}

#[test]
fn a_running_pod_that_is_taken_away() {
    let taken = |history: &mut History| {
        history.push(What::Pod(Pod { deleting: true, ..pod(1, "b", "old", true) }));
        history.clone()
    };
    taken(&mut History::with(2)).assert_violation("a pod of generation 1 on b was taken away");
    let mut gone = History::with(2);
    gone.push(What::PodGone(pod(1, "b", "old", true).uid)).assert_violation("on b was taken away");
    // One that is of an older template, never ran, or lies on a node that is away, may go.
    taken(History::with(2).set(1, "new")).assert_allowed();
    taken(History::with(1).node("b", false)).assert_allowed();
    let mut never = History::with(1);
    never.set(2, "old").pod(2, "a", "old", false);
    never.push(What::PodGone(pod(2, "a", "old", false).uid)).assert_allowed();
}

#[test]
fn events_are_ordered_by_version_however_they_come() {
    let mut history = History::with(1);
    history.set(2, "old");
    history.events.reverse();
    history.assert_allowed();
}

#[test]
fn what_nobody_saw_is_judged_by_what_came_of_it() {
    let mut history = History::begin();
    history.push(What::Blind("pods"));
    history.set(1, "old").set(2, "old");
    history.clone().push(What::Sighted("pods")).assert_violation("never whole");
    history.pods(1, "old", true).push(What::Sighted("pods")).assert_allowed();
}
