//! Memory of the chosen nodes, beside the `DaemonSet`.

use super::*;

#[test]
fn the_choice_outlasts_the_daemonset_by_the_service() {
    let mut scene = Scene::new(&json!({"copies": 2}), &["b", "c"]);
    scene.apply();
    scene.run();
    assert!(matches!(service(&scene.quinistry, &scene.live), Step::Apply(_, Some(_))), "it is written down");
    scene.apply();
    assert_eq!(scene.live[&StoreKind::Service].nodes.as_deref(), Some("b,c"));
    assert_eq!(service(&scene.quinistry, &scene.live), Step::Keep);
    scene.live.remove(&StoreKind::DaemonSet);
    scene.pods.clear();
    scene.nodes.push(Arc::new(node("a")));
    assert_eq!(service(&scene.quinistry, &scene.live), Step::Keep, "it goes on remembering");
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
    let Step::Apply(wanted, _) = service(&scene.quinistry, &scene.live) else { panic!("it is corrected") };
    assert_eq!(wanted.nodes(), Some("a,b"));
}
