//! Replacement of pods: what is restarted, and when.

use super::*;

#[test]
fn a_store_that_stays_is_not_restarted_when_another_node_is_chosen() {
    let mut scene = Scene::new(&json!({"copies": 3}), &["a", "b", "c", "d"]);
    scene.apply();
    scene.run();
    let before = scene.uids();
    scene.set_down("a", 86_400);
    assert_eq!(actions(&scene.plan()), ["~DaemonSet"]);
    assert_eq!(scene.set()["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
    scene.apply();
    scene.run();
    assert_eq!(scene.plan().choice.nodes, ["b", "c", "d"]);
    assert_eq!(actions(&scene.plan()), Vec::<String>::new(), "no pod is replaced");
    let after = scene.uids();
    assert_eq!((&after["b"], &after["c"]), (&before["b"], &before["c"]));
}

#[test]
fn stores_are_replaced_one_after_the_other_when_their_settings_change() {
    let mut scene = Scene::new(&json!({}), &["a", "b", "c"]);
    scene.apply();
    scene.run();
    let mut spec = (*scene.quinistry.spec).clone();
    spec.priority_class_name = "higher".into();
    scene.quinistry.spec = spec.into();
    assert_eq!(actions(&scene.plan()), ["~DaemonSet"], "the pods follow their template");
    scene.apply();
    for node in ["a", "b", "c"] {
        assert_eq!(actions(&scene.plan()), [format!("replace {node}")]);
        scene.pod(node).ready = None;
        scene.pod(node).is_leaving = true;
        assert_eq!(actions(&scene.plan()), Vec::<String>::new(), "one at a time");
        scene.pods.retain(|pod| pod.node.as_deref() != Some(node));
        assert_eq!(actions(&scene.plan()), Vec::<String>::new(), "its successor is waited for");
        scene.run();
        scene.pod(node).ready = None;
        assert_eq!(actions(&scene.plan()), Vec::<String>::new(), "… until it is complete");
        scene.pod(node).ready = Some(Timestamp::from_second(NOW).unwrap());
    }
    assert_eq!(actions(&scene.plan()), Vec::<String>::new());
}

#[test]
fn an_outdated_store_that_is_not_ready_is_replaced_at_once() {
    let mut scene = Scene::new(&json!({}), &["a", "b", "c"]);
    scene.apply();
    scene.run();
    for node in ["b", "c"] {
        // A pod of an operator of an earlier version has no hash.
        scene.pod(node).template = None;
    }
    scene.pod("c").ready = None;
    assert_eq!(actions(&scene.plan()), ["replace c"]);
    scene.pod("b").controller = Some("another".into());
    assert_eq!(actions(&scene.plan()), ["replace c"], "pods of another controller are left alone");
}

#[test]
fn an_upgrade_goes_on_while_a_chosen_node_is_down() {
    let mut scene = Scene::new(&json!({}), &["a", "b", "c"]);
    scene.apply();
    scene.run();
    for node in ["a", "b", "c"] {
        scene.pod(node).template = Some("earlier".into());
    }
    scene.set_down("a", 5);
    scene.pod("a").ready = None;
    assert_eq!(actions(&scene.plan()), ["replace b"]);
}

#[test]
fn pods_that_come_without_their_hash_again_are_reported_and_hold_up_no_other() {
    let mut scene = Scene::new(&json!({}), &["a", "b", "c"]);
    scene.apply();
    scene.run();
    for node in ["a", "b"] {
        scene.pod(node).template = None;
    }
    scene.contested = ["a".to_owned(), "c".to_owned()].into();
    assert_eq!(actions(&scene.plan()), ["replace b"]);
    let condition = scene.report().condition;
    assert_eq!((condition.status, condition.reason), ("False", Reason::Contested));
    let message = condition.message;
    assert!(message.contains("on a:") && message.contains("admission webhook"), "{message}");
    scene.run();
    scene.pod("a").template = scene.pod("c").template.clone();
    assert_eq!(scene.verdict(), ("True", Reason::StoresReady), "the annotation is there again");
}
