//! The observer of the stories on a real cluster must be able to find fault: each part of the chain rule,
//! broken by hand.

#[path = "../../e2e/stories/support/chain_rule.rs"]
#[allow(unreachable_pub, reason = "the same file is a module of another program")]
mod chain_rule;

use std::time::Duration;

use chain_rule::{Event, Key, Pod, STALE, Set, What, violations};

/// A tale of one resource on two nodes, told event by event.
#[derive(Clone, Default)]
struct Tale {
    events: Vec<Event>,
    at: Duration,
}

impl Tale {
    /// Two nodes are ready, and the resource is there.
    fn begin() -> Self {
        let mut tale = Self::default();
        for name in ["a", "b"] {
            tale.node(name, true);
        }
        tale.push(What::Resource("r".into()))
    }

    /// And generations are whole, each after the one before.
    fn with(generations: i32) -> Self {
        let mut tale = Self::begin();
        for number in 1..=generations {
            tale.set(number, "old").pods(number, "old", true);
        }
        tale
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
    fn keeps_the_rule(&self) {
        assert_eq!(violations(self.events.clone()), [""; 0]);
    }

    #[track_caller]
    fn breaks_it(&self, words: &str) {
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
    let mut tale = Tale::with(3);
    for number in 1..=3 {
        tale.later(STALE * 2).set(number, "new");
        tale.pods_gone(number, "old").pods(number, "new", true);
    }
    for number in [3, 2] {
        tale.gone(number).pods_gone(number, "new");
    }
    tale.keeps_the_rule();
}

#[test]
fn a_generation_that_is_made_too_early() {
    Tale::begin().set(2, "old").breaks_it("generation 2 was created, but there is no generation 1");
    Tale::begin().set(1, "old").set(2, "old").breaks_it("generation 1 was never whole");
    let mut half = Tale::begin();
    half.set(1, "old").pod(1, "a", "old", true).pod(1, "b", "old", false);
    half.clone().set(2, "old").breaks_it("generation 1 was never whole");
    // A node that is not ready delays no generation; without any node no generation is whole.
    half.clone().node("b", false).set(2, "old").keeps_the_rule();
    let mut alone = half.clone();
    alone.push(What::NodeGone("b".into()));
    alone.set(2, "old").keeps_the_rule();
    half.node("a", false).node("b", false).set(2, "old").breaks_it("never whole");
}

#[test]
fn a_generation_that_is_changed_too_early() {
    let mut tale = Tale::with(2);
    tale.set(1, "new")
        .set(2, "new")
        .breaks_it("generation 2 was changed, but generation 1 was not whole since");
    // The pods that are Ready are still the old ones.
    let mut tale = Tale::with(2);
    tale.set(1, "new").pods(1, "old", true).set(2, "new").breaks_it("not whole since its own change");
    // What does not touch the template is free.
    Tale::with(2).set(1, "new").set(2, "old").keeps_the_rule();
}

#[test]
fn a_picture_may_be_a_little_old_and_no_older() {
    let mut tale = Tale::with(1);
    tale.later(STALE).pod(1, "a", "old", false);
    tale.clone().later(STALE / 2).set(2, "old").keeps_the_rule();
    tale.later(STALE * 2).set(2, "old").breaks_it("generation 1 was last whole");
}

#[test]
fn what_somebody_else_does_is_not_the_operators_doing() {
    // It may not have seen the edit yet, and it is not asked for what the other one changes.
    Tale::with(1).set_by(1, "meddled", false).set(2, "old").keeps_the_rule();
    Tale::with(2).set(1, "new").set_by(2, "meddled", false).keeps_the_rule();
    // But its own change binds it.
    let mut tale = Tale::with(2);
    tale.set_by(1, "meddled", false).pods_gone(1, "old").set(1, "old").pod(1, "a", "old", true);
    tale.set(2, "new").breaks_it("generation 1 was not whole since its own change");
}

#[test]
fn a_set_of_the_same_name_is_another_one() {
    let mut tale = Tale::with(2);
    tale.gone(2).pods_gone(2, "old").gone(1).pods_gone(1, "old").set(1, "old").set(2, "old");
    tale.breaks_it("generation 2 was created, but generation 1 was never whole");
}

#[test]
fn generations_that_go_in_another_order() {
    Tale::with(3).gone(2).breaks_it("generation 2 went, and {3} were still there");
    Tale::with(2).gone(2).gone(1).breaks_it("generation 1 went, and {2} were still there");
    // With the resource all of it goes, in any order.
    let mut tale = Tale::with(3);
    tale.push(What::ResourceGone("r".into()));
    tale.gone(1).gone(3).gone(2).keeps_the_rule();
}

#[test]
fn a_running_pod_that_is_taken_away() {
    let taken = |tale: &mut Tale| {
        tale.push(What::Pod(Pod { deleting: true, ..pod(1, "b", "old", true) }));
        tale.clone()
    };
    taken(&mut Tale::with(2)).breaks_it("a pod of generation 1 on b was taken away");
    let mut gone = Tale::with(2);
    gone.push(What::PodGone(pod(1, "b", "old", true).uid)).breaks_it("on b was taken away");
    // One that is of an older template, never ran, or lies on a node that is away, may go.
    taken(Tale::with(2).set(1, "new")).keeps_the_rule();
    taken(Tale::with(1).node("b", false)).keeps_the_rule();
    let mut never = Tale::with(1);
    never.set(2, "old").pod(2, "a", "old", false);
    never.push(What::PodGone(pod(2, "a", "old", false).uid)).keeps_the_rule();
}

#[test]
fn events_are_ordered_by_version_however_they_come() {
    let mut tale = Tale::with(1);
    tale.set(2, "old");
    tale.events.reverse();
    tale.keeps_the_rule();
}

#[test]
fn what_nobody_saw_is_judged_by_what_came_of_it() {
    let mut tale = Tale::begin();
    tale.push(What::Blind("pods"));
    tale.set(1, "old").set(2, "old");
    tale.clone().push(What::Sighted("pods")).breaks_it("never whole");
    tale.pods(1, "old", true).push(What::Sighted("pods")).keeps_the_rule();
}
