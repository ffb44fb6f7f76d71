//! Nodes that come and go, and an operator that has just come.

use super::failures::standing;
use super::*;

#[test]
fn a_node_that_is_not_ready_is_told_and_does_not_hold_up() {
    let quinistry = pinned();
    let mut world = World::new(3);
    world.change_node("node-2", |node| node.ready = false);
    let plan = world.settle(&quinistry);
    assert_eq!(plan.words.ready.status, "True", "{:#?}", plan.words);
    assert_degraded(&plan, Reason::NodesNotReady);
    assert_eq!(plan.deviations[0].node, "node-2");
    let rolling = &world.observed.daemon_set(1).unwrap().spec["updateStrategy"]["rollingUpdate"];
    assert_eq!(rolling["maxUnavailable"], json!(2));
    assert!(rolling.get("maxSurge").is_none());
}

#[test]
fn a_node_that_comes_and_goes_writes_nothing_while_nothing_is_to_be_replaced() {
    let mut quinistry = pinned();
    let mut world = standing(&quinistry);
    world.change_node("node-2", |node| node.ready = false);
    let plan = world.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert_eq!(plan.words.ready.status, "True", "{:#?}", plan.words);
    assert_degraded(&plan, Reason::NodesNotReady);

    // Now the limit matters, and the dead node must not use it up.
    quinistry.spec.image = Some("registry.example.com/larder:2".into());
    let limit = |world: &World, generation| {
        let rolling = &world.observed.daemon_set(generation).unwrap().spec["updateStrategy"]["rollingUpdate"];
        rolling["maxUnavailable"].clone()
    };
    world.obey(&world.plan(&quinistry));
    assert_eq!(limit(&world, 1), json!(2));
    // Back in the middle of it, the node counts again; once all is done, its coming and going does not.
    world.change_node("node-2", |node| node.ready = true);
    world.obey(&world.plan(&quinistry));
    assert_eq!(limit(&world, 1), json!(1));
    world.settle(&quinistry);
    for ready in [false, true] {
        world.change_node("node-2", |node| node.ready = ready);
        let plan = world.plan(&quinistry);
        assert_eq!((applied(&plan), plan.words.ready.status), (vec![], "True"), "{:#?}", plan.words);
    }
}

#[test]
fn a_node_that_joins_does_not_unmake_ready() {
    let quinistry = pinned();
    let mut world = standing(&quinistry);
    world.now = at(100);
    let late = Node { since: at(99), ..node("node-4") };
    world.observed.nodes.push(Arc::new(late));
    let plan = world.plan(&quinistry);
    let words = &plan.words;
    assert_eq!(
        (words.ready.status, words.progressing.status, words.fixed_point.status),
        ("True", "True", "True"),
        "{words:#?}"
    );
    assert!(words.ready.message.contains("node-4"));
    assert_eq!(applied(&plan), [""; 0]);

    // Its pods are Ready, and the operator's look at them takes a while: that is still joining.
    world.run();
    let plan = world.plan(&quinistry);
    assert!(plan.looking);
    assert_eq!(
        (plan.words.ready.status, plan.words.fixed_point.status),
        ("True", "True"),
        "{:#?}",
        plan.words
    );
    assert!(plan.words.ready.message.contains("node-4"));
    world.look(&plan);
    let plan = world.plan(&quinistry);
    assert_eq!((plan.words.ready.status, plan.words.progressing.status), ("True", "False"));
    assert!(!plan.words.ready.message.contains("node-4"));
}

#[test]
fn a_node_that_joins_and_serves_something_else_unmakes_ready() {
    let quinistry = pinned();
    let mut world = standing(&quinistry);
    world.now = at(100);
    world.observed.nodes.push(Arc::new(Node { since: at(99), ..node("node-4") }));
    world.run();
    let plan = world.plan(&quinistry);
    world.serves = Digest::sha256(b"another");
    world.look(&plan);
    let plan = world.plan(&quinistry);
    assert_eq!((plan.words.ready.status, plan.words.ready.reason), ("False", Reason::DigestMismatch));
}

#[test]
fn a_cordoned_node_changes_nothing_and_a_removed_one_is_forgotten() {
    let quinistry = pinned();
    let mut world = standing(&quinistry);
    let taint = ("node.kubernetes.io/unschedulable".into(), String::new(), "NoSchedule".into());
    world.change_node("node-1", |node| node.taints = vec![taint.clone()]);
    assert_eq!(applied(&world.plan(&quinistry)), [""; 0]);
    world.observed.nodes.retain(|node| node.name != "node-3");
    world.observed.pods.retain(|pod| pod.node != "node-3");
    let plan = world.plan(&quinistry);
    assert_eq!((plan.words.ready.status, plan.generations[0].desired), ("True", 2));
}

#[test]
fn a_pod_that_backs_off_is_replaced_once_there_is_something_to_pull() {
    let quinistry = pinned();
    let mut world = standing(&quinistry);
    let back_off = |pod: &mut Pod| {
        (pod.ready, pod.running) = (None, None);
        pod.waiting = Some(("ImagePullBackOff".into(), "connection refused".into()));
        pod.created = at(0);
    };
    world.change_pods(3, back_off);
    let plan = world.plan(&quinistry);
    assert_eq!(plan.actions.len(), 3);
    assert_degraded(&plan, Reason::ImagePullFailed);
    // One that was made after its predecessor was Ready had its chance.
    world.change_pods(3, |pod| pod.created = at(500));
    assert_eq!(applied(&world.plan(&quinistry)), [""; 0]);
    // One that ran before its node lost its images is no better off than one that never started.
    world.change_pods(3, |pod| {
        back_off(pod);
        pod.start.restarts = 1;
        pod.ended = Some((137, "The container could not be located".into()));
    });
    assert_eq!(world.plan(&quinistry).actions.len(), 3);
    // Back-off begins with the failure, before the kubelet calls it so.
    world.change_pods(3, |pod| {
        back_off(pod);
        pod.waiting = Some(("ErrImagePull".into(), "connection refused".into()));
    });
    assert_eq!(world.plan(&quinistry).actions.len(), 3);
    // Without a predecessor there is nothing to pull, and nothing to blame the child for.
    world.change_pods(3, back_off);
    world.change_pods(2, |pod| pod.ready = None);
    let plan = world.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert!(plan.deviations.iter().all(|deviation| deviation.reason != Reason::ImagePullFailed));
}

#[test]
fn what_was_never_asked_is_told_from_what_does_not_answer() {
    let quinistry = learning();
    let mut world = standing(&quinistry);
    assert!(!world.plan(&quinistry).looking);
    // As after a restart.
    let fetched = std::mem::take(&mut world.observed.fetched);
    let plan = world.plan(&quinistry);
    assert!(plan.looking && plan.words.ready.status == "False", "{:#?}", plan.words);
    world.observed.fetched =
        fetched.into_keys().map(|start| (start, Fetched::Failed("no answer".into()))).collect();
    assert!(!world.plan(&quinistry).looking);
}
