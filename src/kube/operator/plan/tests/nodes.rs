//! Nodes that come and go, and an operator that has just come.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

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

    // Now the limit matters, and the dead node, from which the controller takes its pods, must not use it up.
    quinistry.spec.image = Some("registry.example.com/larder:2".into());
    world.change_pod_on(1, "node-2", |pod| (pod.deleting, pod.ready) = (true, None));
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

/// Returns the limit of generation 1 that a new image and then a change of the nodes lead to.
fn limit_after(change: impl Fn(&mut World)) -> i64 {
    let mut quinistry = pinned();
    let mut world = standing(&quinistry);
    change(&mut world);
    quinistry.spec.image = Some("registry.example.com/larder:2".into());
    world.obey(&world.plan(&quinistry));
    world.observed.daemon_set(1).unwrap().spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"]
        .as_i64()
        .unwrap()
}

#[test]
fn a_rollout_goes_on_without_a_node_only_when_that_is_gone_for_a_while_and_with_its_pod() {
    let lost = |since: i64, seen: i64| {
        move |world: &mut World| {
            world.change_node("node-2", |node| {
                (node.ready, node.since, node.seen) = (false, at(since), at(seen));
            });
        }
    };
    let deleted = |pod: &mut Pod| (pod.ready, pod.deleting) = (None, true);
    let now = World::new(0).now.as_second() - NOW;
    assert_eq!(limit_after(lost(now - 3600, now - 3600)), 1, "its pod would be well again at once");
    let gone = |since, seen| {
        limit_after(|world| {
            lost(since, seen)(world);
            world.change_pod_on(1, "node-2", deleted);
        })
    };
    assert_eq!(gone(now - 3600, now - 3600), 2);
    assert_eq!(gone(now - 30, now - 30), 1, "it may be back in a moment");
    assert_eq!(gone(now - 3600, now - 5), 1, "a clock that is wrong, or an operator that has just begun");
    // After the deadline the operator gives the node up, with any pod that is left on it.
    let unready = |seen| {
        limit_after(|world| {
            lost(seen, seen)(world);
            world.change_pod_on(1, "node-2", |pod| pod.ready = None);
        })
    };
    assert_eq!((unready(now - 120), unready(now - 3600)), (1, 2));
}

#[test]
fn the_limit_is_lowered_although_the_generation_below_wavers() {
    let mut quinistry = pinned();
    let mut world = standing(&quinistry);
    quinistry.spec.resources.limits.insert("memory".into(), IntOrString::String("64Mi".into()));
    world.change_node("node-2", |node| node.ready = false);
    for generation in [1, 2, 3] {
        world.change_pod_on(generation, "node-2", |pod| (pod.ready, pod.deleting) = (None, true));
    }
    world.obey(&world.plan(&quinistry));
    world.run();
    world.look(&world.plan(&quinistry));
    assert_eq!(applied(&world.plan(&quinistry)), ["+larder-gen2"]);
    world.obey(&world.plan(&quinistry));
    let limit = |world: &World| {
        world.observed.daemon_set(2).unwrap().spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"]
            .clone()
    };
    assert_eq!(limit(&world), json!(2));
    // It is back without its pods, in the middle of generation 2.
    world.change_node("node-2", |node| node.ready = true);
    let plan = world.plan(&quinistry);
    assert_eq!(plan.generations[0].state, GenerationState::Rolling);
    world.obey(&plan);
    assert_eq!(limit(&world), json!(1));
}

#[test]
fn nodes_that_may_be_behind_hold_up_nothing_and_are_named() {
    let mut quinistry = pinned();
    for (tolerated, goes_on) in [("0", false), ("1", true), ("34%", true), ("33%", false)] {
        let tolerated =
            tolerated.parse().map_or_else(|_| IntOrString::String(tolerated.into()), IntOrString::Int);
        quinistry.spec.rollout.tolerate_nodes = tolerated;
        let mut world = World::new(3);
        for _ in 0..6 {
            world.obey(&world.plan(&quinistry));
            world.run();
            for generation in 1..=3 {
                world.change_pod_on(generation, "node-2", |pod| {
                    (pod.ready, pod.running) = (None, None);
                    pod.unschedulable = Some("0/3 nodes are available: 1 Too many pods".into());
                });
            }
            world.look(&world.plan(&quinistry));
        }
        let plan = world.plan(&quinistry);
        let (sets, ready) = (world.observed.daemon_sets.len(), plan.words.ready.status);
        assert_eq!((sets, ready), if goes_on { (3, "True") } else { (1, "False") }, "{:#?}", plan.words);
        if goes_on {
            assert!(plan.words.ready.message.contains("behind: node-2"), "{}", plan.words.ready.message);
            assert!(plan.deviations.iter().any(|one| one.node == "node-2"), "{:?}", plan.deviations);
        }
    }
}

#[test]
fn a_node_that_serves_something_else_is_never_left_behind() {
    let mut quinistry = pinned();
    quinistry.spec.rollout.tolerate_nodes = IntOrString::Int(2);
    let mut world = World::new(3);
    world.obey(&world.plan(&quinistry));
    world.run();
    world.change_pod_on(1, "node-2", |pod| {
        (pod.ready, pod.running) = (None, None);
        pod.ended = Some((3, "expected sha256:a, computed sha256:b".into()));
    });
    world.look(&world.plan(&quinistry));
    let plan = world.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert_eq!(plan.words.fixed_point.reason, Reason::DigestMismatch);
}

#[test]
fn never_are_all_nodes_left_behind() {
    let mut quinistry = pinned();
    quinistry.spec.rollout.tolerate_nodes = IntOrString::String("100%".into());
    let mut world = World::new(2);
    world.starts_nothing = true;
    world.obey(&world.plan(&quinistry));
    world.run();
    assert_eq!(applied(&world.plan(&quinistry)), [""; 0]);
}

#[test]
fn nodes_that_are_excluded_or_are_no_machines_are_not_waited_for() {
    for (key, value) in [
        ("quinistry.dev/exclude", "true"),
        ("type", "virtual-kubelet"),
        ("eks.amazonaws.com/compute-type", "fargate"),
        ("liqo.io/type", "virtual-node"),
    ] {
        let quinistry = pinned();
        let mut world = World::new(3);
        world.change_node("node-3", |node| drop(node.labels.insert(key.into(), value.into())));
        world.play(&quinistry);
        world.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-3"));
        let plan = world.plan(&quinistry);
        assert_eq!((plan.words.ready.status, plan.generations[0].desired), ("True", 2), "{key}");
        assert_eq!(plan.deviations, []);
        world.change_node("node-3", |node| drop(node.labels.insert(key.into(), "other".into())));
        assert_eq!(world.plan(&quinistry).generations[0].desired, 3);
    }
}

#[test]
fn one_arithmetic_tells_the_condition_and_the_headline() {
    let quinistry = pinned();
    let mut world = standing(&quinistry);
    world.now = at(100);
    world.observed.nodes.push(Arc::new(Node { since: at(99), ..node("node-4") }));
    let plan = world.plan(&quinistry);
    let headline = crate::crd::QuinistryStatus::headline(&plan.generations, 3);
    assert_eq!((plan.words.ready.status, headline.as_str()), ("True", "3/3"), "a node has just joined");

    let mut world = standing(&quinistry);
    world.change_pods(2, |pod| pod.pull_policy = "Always".into());
    let plan = world.plan(&quinistry);
    let headline = crate::crd::QuinistryStatus::headline(&plan.generations, 3);
    assert_eq!(
        (plan.words.ready.status, headline.as_str()),
        ("True", "3/3"),
        "what is told and stops nothing"
    );
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
    world.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-3"));
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
