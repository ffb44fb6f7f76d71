//! Memory of the chosen nodes and their outages, beside the `DaemonSet`.

use super::*;

#[test]
fn the_choice_outlasts_the_daemonset_by_the_service() {
    let mut scene = Scene::new(&json!({"copies": 2}), &["b", "c"]);
    scene.apply();
    scene.run();
    assert!(matches!(scene.service(), Step::Apply(_, Some(_))), "it is written down");
    scene.apply();
    assert_eq!(scene.live[&StoreKind::Service].nodes.as_deref(), Some("b,c"));
    assert_eq!(scene.service(), Step::Keep);
    scene.live.remove(&StoreKind::DaemonSet);
    scene.pods.clear();
    scene.nodes.push(Arc::new(node("a")));
    assert_eq!(scene.service(), Step::Keep, "it goes on remembering");
    assert_eq!(actions(&scene.plan()), ["+DaemonSet"]);
    assert_eq!(nodes::chosen(&scene.set()["spec"]), ["b", "c"].map(String::from).into());
    // The address stays, since the Service is only annotated.
    scene.apply();
    assert_eq!(scene.plan().choice.nodes, ["b", "c"]);
}

#[test]
fn the_daemonset_counts_before_the_memory_of_the_service() {
    let mut scene = Scene::new(&json!({"copies": 2}), &["a", "b", "c"]);
    scene.apply();
    scene.live.get_mut(&StoreKind::Service).unwrap().nodes = Some("b,c".into());
    assert_eq!(scene.plan().choice.nodes, ["a", "b"]);
    let Step::Apply(wanted, _) = scene.service() else { panic!("it is corrected") };
    assert_eq!(wanted.nodes(), Some("a,b"));
}

/// Returns a resource whose node `a` is down for a day, while the store on `b` became Ready alone, and another node.
fn outage() -> Scene {
    let mut scene = Scene::new(&json!({"copies": 2}), &["a", "b", "c"]);
    scene.apply();
    scene.run();
    scene.set_down("a", 86_400);
    scene.pod("a").ready = None;
    scene.pod("b").ready = Some(Timestamp::from_second(NOW - 86_390).unwrap());
    assert_eq!(scene.plan().choice.nodes, ["a", "b"], "b may lack what a has");
    scene.apply();
    scene
}

#[test]
fn a_new_operator_knows_when_an_outage_began() {
    let mut scene = outage();
    // The condition is False for an hour, after it was Unknown, and this operator has just started.
    scene.set_down("a", 3_600);
    assert_eq!(scene.plan().choice.nodes, ["a", "b"]);
    assert_eq!(scene.service(), Step::Keep, "what is remembered does not change");
    scene.live.get_mut(&StoreKind::Service).unwrap().outages = None;
    assert_eq!(scene.plan().choice.nodes, ["b", "c"], "without memory b counts as complete");
}

#[test]
fn a_node_that_was_ready_for_a_moment_keeps_its_outage() {
    let mut scene = outage();
    *scene.node("a") = node("a");
    scene.node("a").seen = Timestamp::from_second(NOW - 5).unwrap();
    assert_eq!(scene.plan().choice.nodes, ["a", "b"]);
    scene.apply();
    scene.set_down("a", 3_600);
    assert_eq!(scene.plan().choice.nodes, ["a", "b"]);
}

#[test]
fn a_node_that_is_down_again_and_again_is_replaced() {
    let mut scene = Scene::new(&json!({"copies": 2}), &["a", "b", "c"]);
    scene.apply();
    scene.run();
    let (ready, mut nodes) = (scene.pod("a").ready, Vec::new());
    // Down for five minutes, Ready for ten seconds, and so on.
    for minute in 0..3 {
        scene.now = NOW + 310 * minute;
        scene.set_down("a", 0);
        scene.pod("a").ready = None;
        scene.apply();
        nodes.push(scene.plan().choice.nodes.join(""));
        scene.now += 300;
        let seen = Timestamp::from_second(scene.now).unwrap();
        *scene.node("a") = ObservedNode { since: seen, seen, ..node("a") };
        scene.pod("a").ready = ready.and(Some(seen));
        scene.apply();
        scene.run();
    }
    assert_eq!(nodes, ["ab", "ab", "bc"]);
}

#[test]
fn outages_that_were_edited_are_written_again() {
    let mut scene = outage();
    scene.live.get_mut(&StoreKind::Service).unwrap().outages = Some("{}".into());
    assert!(matches!(scene.service(), Step::Apply(_, Some(_))));
}
