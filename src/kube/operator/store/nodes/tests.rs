//! Choice of nodes: one test for each rule.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::outages;
use super::*;

const NOW: i64 = 1_800_000_000;

fn at(offset: i64) -> Timestamp {
    Timestamp::from_second(NOW + offset).unwrap()
}

fn spec(more: &Value) -> QuinistrySpec {
    let mut spec = json!({"image": "registry.example.com/larder:1"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

fn store(copies: i32) -> StoreSpec {
    StoreSpec { copies, path: "/srv".into(), node_selector: BTreeMap::new() }
}

fn node(name: &str) -> ObservedNode {
    ObservedNode::ready_since(name, at(-3600))
}

fn control_plane(name: &str) -> ObservedNode {
    let mut node = node(name);
    node.labels.insert(labels::NODE_CONTROL_PLANE.into(), String::new());
    node
}

/// Returns a node that has not been Ready for this number of seconds.
fn unready(name: &str, seconds: i64) -> ObservedNode {
    ObservedNode { ready: false, since: at(-seconds), seen: at(-seconds), ..node(name) }
}

/// Returns nodes whose stores have been Ready for two days, as far as the nodes are.
fn complete(nodes: &[ObservedNode], names: &[&str]) -> EarlierStores {
    let is_ready = |name: &str| nodes.iter().any(|node| node.name == name && node.ready);
    let since = |name: &&str| ((*name).to_owned(), is_ready(name).then_some(at(-172_800)));
    names.iter().map(since).collect()
}

fn choice(nodes: &[ObservedNode], copies: i32, earlier: &[&str]) -> Choice {
    chosen_of(nodes, copies, &complete(nodes, earlier))
}

fn chosen_of(nodes: &[ObservedNode], copies: i32, earlier: &EarlierStores) -> Choice {
    let nodes: Vec<_> = nodes.iter().cloned().map(Arc::new).collect();
    choose(&spec(&json!({})), &store(copies), &nodes, earlier, &outages(&nodes, earlier), at(0))
}

/// Returns the outages as an operator sees them that knows of no earlier ones.
fn outages(nodes: &[Arc<ObservedNode>], earlier: &EarlierStores) -> Outages {
    outages::follow(&Outages::new(), nodes, earlier, at(0))
}

/// Returns the choice of nodes whose stores are Ready since then; `None`: not.
fn names_since(nodes: &[ObservedNode], copies: i32, earlier: &[(&str, Option<i64>)]) -> Vec<String> {
    let earlier = earlier.iter().map(|(name, since)| ((*name).to_owned(), since.map(at))).collect();
    chosen_of(nodes, copies, &earlier).nodes
}

fn names(nodes: &[ObservedNode], copies: i32, earlier: &[&str]) -> Vec<String> {
    choice(nodes, copies, earlier).nodes
}

#[test]
fn control_planes_are_chosen_first_and_then_by_name() {
    let nodes = [node("c"), node("a"), node("b"), control_plane("z")];
    assert_eq!(names(&nodes, 3, &[]), ["a", "b", "z"]);
    let reversed: Vec<_> = nodes.iter().rev().cloned().collect();
    assert_eq!(names(&reversed, 3, &[]), ["a", "b", "z"], "the order of the watch does not matter");
}

#[test]
fn chosen_nodes_are_kept_when_others_would_come_first() {
    let nodes = [node("a"), node("b"), control_plane("z")];
    assert_eq!(names(&nodes, 2, &["a", "b"]), ["a", "b"]);
    assert_eq!(names(&nodes, 3, &["b"]), ["a", "b", "z"]);
}

#[test]
fn never_more_nodes_than_copies_are_chosen_and_ready_ones_stay() {
    let nodes = [node("a"), unready("b", 5), node("c")];
    assert_eq!(names(&nodes, 2, &["a", "b", "c"]), ["a", "c"]);
    assert_eq!(names(&nodes, 1, &["a", "b", "c"]), ["a"]);
}

#[test]
fn more_copies_than_nodes_are_all_nodes() {
    let choice = choice(&[node("a"), node("b")], 3, &[]);
    assert_eq!((choice.nodes.len(), choice.candidates), (2, 2));
}

#[test]
fn a_node_that_is_gone_is_replaced() {
    assert_eq!(names(&[node("a"), node("c")], 2, &["a", "b"]), ["a", "c"]);
}

#[test]
fn a_node_that_is_not_ready_keeps_its_place_for_ten_minutes() {
    let nodes = |seconds| [node("a"), unready("b", seconds), node("c")];
    assert_eq!(names(&nodes(599), 2, &["a", "b"]), ["a", "b"]);
    assert_eq!(choice(&nodes(599), 2, &["a", "b"]).due, Some(Duration::from_secs(1)));
    assert_eq!(names(&nodes(600), 2, &["a", "b"]), ["a", "c"]);
    assert_eq!(choice(&nodes(600), 2, &["a", "b"]).due, None);
}

#[test]
fn a_node_whose_clock_is_late_keeps_its_place_as_long() {
    let late = ObservedNode { since: at(-7200), seen: at(-10), ..unready("b", 0) };
    assert_eq!(names(&[node("a"), late, node("c")], 2, &["a", "b"]), ["a", "b"]);
}

#[test]
fn a_place_that_no_other_node_can_have_is_not_taken_away() {
    let nodes = [node("a"), unready("b", 86400)];
    assert_eq!(names(&nodes, 2, &["a", "b"]), ["a", "b"]);
    assert_eq!(choice(&nodes, 2, &["a", "b"]).due, None, "nothing is waited for");
}

#[test]
fn a_node_that_comes_back_after_its_place_was_given_away_is_no_store() {
    let nodes = [node("a"), unready("b", 700), node("c")];
    let second = names(&nodes, 2, &["a", "b"]);
    let back = [node("a"), node("b"), node("c")];
    let earlier: Vec<&str> = second.iter().map(String::as_str).collect();
    assert_eq!(names(&back, 2, &earlier), ["a", "c"]);
}

#[test]
fn the_only_store_keeps_its_place_since_no_other_could_copy_from_it() {
    for seconds in [5, 600, 86400] {
        let choice = choice(&[unready("a", seconds), node("b")], 1, &["a"]);
        assert_eq!((choice.nodes, choice.due), (vec!["a".to_owned()], None));
    }
    assert_eq!(names(&[node("b")], 1, &["a"]), ["b"], "a node that is deleted does not come back");
}

#[test]
fn a_store_that_still_copies_takes_no_place_from_the_one_it_copies_from() {
    let nodes = [unready("a", 86400), node("b"), node("c")];
    assert_eq!(names_since(&nodes, 2, &[("a", None), ("b", None)]), ["a", "b"]);
    // It became Ready with what it had, since the other one was silent.
    for since in [-86400, -86400 - 100, -60] {
        assert_eq!(names_since(&nodes, 2, &[("a", None), ("b", Some(since))]), ["a", "b"], "{since}");
    }
    assert_eq!(names_since(&nodes, 2, &[("a", None), ("b", Some(-90_000))]), ["b", "c"]);
    assert_eq!(
        names_since(&nodes[1..], 2, &[("a", None), ("b", None)]),
        ["b", "c"],
        "a deleted node is gone"
    );
}

#[test]
fn an_outage_begins_when_the_node_is_unknown_and_not_when_it_is_said_to_be_down() {
    // Unknown for an hour, and False for a minute: the status of the condition has changed, its node has not.
    let down = ObservedNode { since: at(-60), ..unready("a", 3600) };
    let nodes = [down, node("b"), node("c")];
    let earlier = |b| names_since(&nodes, 1, &[("a", None), ("b", Some(b))]);
    assert_eq!(earlier(-3600 + 30), ["a", "b"], "b became Ready alone, with what it had");
    assert_eq!(earlier(-3600 - 100), ["a", "b"]);
    assert_eq!(earlier(-3600 - 120), ["b"], "b was complete before the outage");
}

#[test]
fn fewer_copies_wanted_give_up_no_store_that_may_be_the_only_complete_one() {
    let nodes = [node("a"), node("b"), unready("c", 5)];
    let earlier = |a, b| names_since(&nodes, 1, &[("a", a), ("b", b), ("c", None)]);
    assert_eq!(earlier(None, None), ["a", "b", "c"]);
    assert_eq!(earlier(None, Some(-1)), ["b", "c"]);
    assert_eq!(earlier(None, Some(-172_800)), ["b"], "a complete store stays, not the first by name");
}

#[test]
fn while_stores_copy_free_places_are_taken() {
    let nodes = [node("a"), node("b"), node("c")];
    assert_eq!(names_since(&nodes, 3, &[("a", None)]), ["a", "b", "c"]);
}

#[test]
fn nodes_that_are_all_down_keep_their_places_until_one_is_back() {
    let down = ["a", "b", "c"].map(|name| unready(name, 86400));
    let nodes: Vec<_> = down.into_iter().chain(["d", "e"].map(node)).collect();
    let earlier = ["a", "b", "c"];
    assert_eq!(names(&nodes, 3, &earlier), earlier);
    assert_eq!(names(&nodes, 4, &earlier), earlier, "a new store would count as one to copy from");
    let back: Vec<_> = [node("a")].into_iter().chain(nodes[1..].iter().cloned()).collect();
    let since = |a| names_since(&back, 3, &[("a", a), ("b", None), ("c", None)]);
    assert_eq!(since(None), earlier);
    assert_eq!(since(Some(-60)), earlier, "the others may have more than the one that is back");
    assert_eq!(since(Some(-100_000)), ["a", "d", "e"]);
}

#[test]
fn a_taint_moves_a_store_only_if_it_evicts_pods() {
    let tainted = |effect: &str| {
        let mut node = node("b");
        node.taints.push(("dedicated".into(), "gpu".into(), effect.into()));
        [self::node("a"), node, self::node("c")]
    };
    for effect in ["NoSchedule", "PreferNoSchedule"] {
        assert_eq!(names(&tainted(effect), 2, &["a", "b"]), ["a", "b"], "{effect}");
    }
    assert_eq!(names(&tainted("NoExecute"), 2, &["a", "b"]), ["a", "c"]);
    assert_eq!(names(&tainted("NoSchedule"), 3, &["a"]), ["a", "c"], "it gets no new store");
}

#[test]
fn a_node_that_is_not_ready_is_never_chosen() {
    assert_eq!(names(&[unready("a", 1), node("b")], 2, &[]), ["b"]);
}

#[test]
fn a_cordoned_node_is_chosen_last_and_keeps_its_store() {
    let mut cordoned = control_plane("a");
    cordoned.taints.push((taints::UNSCHEDULABLE.into(), String::new(), "NoSchedule".into()));
    let nodes = [cordoned, node("b"), node("c")];
    assert_eq!(names(&nodes, 2, &[]), ["b", "c"]);
    assert_eq!(names(&nodes, 3, &[]), ["a", "b", "c"]);
    assert_eq!(names(&nodes, 2, &["a", "b"]), ["a", "b"]);
}

#[test]
fn only_nodes_that_both_selectors_and_the_tolerations_allow_are_chosen() {
    let mut disk = node("disk");
    disk.labels.insert("disk".into(), "large".into());
    let mut excluded = disk.clone();
    excluded.name = "excluded".into();
    excluded.labels.insert(labels::EXCLUDE.into(), "true".into());
    let mut tainted = disk.clone();
    tainted.name = "tainted".into();
    tainted.taints.push(("dedicated".into(), "gpu".into(), "NoExecute".into()));
    let nodes: Vec<_> = [disk, excluded, tainted, node("plain")].map(Arc::new).into();
    let mut store = store(9);
    store.node_selector.insert("disk".into(), "large".into());
    let choose = |spec: &Value, store: &StoreSpec, earlier: &[&str]| {
        let plain: Vec<ObservedNode> = nodes.iter().map(|node| (**node).clone()).collect();
        let earlier = complete(&plain, earlier);
        choose(&self::spec(spec), store, &nodes, &earlier, &outages(&nodes, &earlier), at(0)).nodes
    };
    let earlier = ["excluded", "tainted", "plain"];
    assert_eq!(choose(&json!({}), &store, &earlier), ["disk"], "a choice ends with the selection");
    let tolerant = json!({"tolerations": [{"operator": "Exists"}]});
    assert_eq!(choose(&tolerant, &store, &[]), ["disk", "tainted"]);
    let mut none = store.clone();
    none.node_selector.insert("disk".into(), "small".into());
    assert!(choose(&json!({}), &none, &[]).is_empty());
    assert_eq!(choose(&json!({"nodeSelector": {"disk": "large"}}), &self::store(9), &[]), ["disk"]);
}
