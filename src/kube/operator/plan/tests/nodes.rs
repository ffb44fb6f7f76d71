//! Nodes that come and go, and a restarted operator.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::failures::proven_cluster;
use super::*;

#[test]
fn a_node_that_is_not_ready_is_reported_and_not_waited_for() {
    let quinistry = pinned();
    let mut cluster = SimulatedCluster::new(3);
    cluster.change_node("node-2", |node| node.ready = false);
    let plan = cluster.run_until_idle(&quinistry);
    assert_eq!(plan.conditions.ready.status, "True", "{:#?}", plan.conditions);
    assert_degraded(&plan, Reason::NodesNotReady);
    assert_eq!(plan.deviations[0].node, "node-2");
    let rolling = &cluster.observed.daemon_set(1).unwrap().spec["updateStrategy"]["rollingUpdate"];
    assert_eq!(rolling["maxUnavailable"], json!(2));
    assert!(rolling.get("maxSurge").is_none());
}

#[test]
fn a_node_that_comes_and_goes_writes_nothing_while_nothing_is_to_be_replaced() {
    let mut quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    cluster.change_node("node-2", |node| node.ready = false);
    let plan = cluster.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert_eq!(plan.conditions.ready.status, "True", "{:#?}", plan.conditions);
    assert_degraded(&plan, Reason::NodesNotReady);

    // During the rollout the limit matters, and the dead node, from which the controller takes its pods, must
    // not use it up.
    quinistry.spec.image = Some("registry.example.com/larder:2".into());
    cluster.change_pod_on(1, "node-2", |pod| (pod.deleting, pod.ready) = (true, None));
    let limit = |cluster: &SimulatedCluster, generation| {
        let rolling =
            &cluster.observed.daemon_set(generation).unwrap().spec["updateStrategy"]["rollingUpdate"];
        rolling["maxUnavailable"].clone()
    };
    cluster.apply(&cluster.plan(&quinistry));
    assert_eq!(limit(&cluster, 1), json!(2));
    // When the node is back during the rollout, it counts again; after the rollout its coming and going does
    // not.
    cluster.change_node("node-2", |node| node.ready = true);
    cluster.apply(&cluster.plan(&quinistry));
    assert_eq!(limit(&cluster, 1), json!(1));
    cluster.run_until_idle(&quinistry);
    for ready in [false, true] {
        cluster.change_node("node-2", |node| node.ready = ready);
        let plan = cluster.plan(&quinistry);
        assert_eq!(
            (applied(&plan), plan.conditions.ready.status),
            (vec![], "True"),
            "{:#?}",
            plan.conditions
        );
    }
}

/// Returns the limit of generation 1 after a new image and then a change of the nodes.
fn limit_after(change: impl Fn(&mut SimulatedCluster)) -> i64 {
    let mut quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    change(&mut cluster);
    quinistry.spec.image = Some("registry.example.com/larder:2".into());
    cluster.apply(&cluster.plan(&quinistry));
    cluster.observed.daemon_set(1).unwrap().spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"]
        .as_i64()
        .unwrap()
}

#[test]
fn a_rollout_goes_on_without_a_node_only_when_that_is_gone_for_a_while_and_with_its_pod() {
    let lost = |since: i64, seen: i64| {
        move |cluster: &mut SimulatedCluster| {
            cluster.change_node("node-2", |node| {
                (node.ready, node.since, node.seen) = (false, at(since), at(seen));
            });
        }
    };
    let deleted = |pod: &mut ObservedPod| (pod.ready, pod.deleting) = (None, true);
    let now = SimulatedCluster::new(0).now.as_second() - NOW;
    assert_eq!(limit_after(lost(now - 3600, now - 3600)), 1, "its pod would be well again at once");
    let gone = |since, seen| {
        limit_after(|cluster| {
            lost(since, seen)(cluster);
            cluster.change_pod_on(1, "node-2", deleted);
        })
    };
    assert_eq!(gone(now - 3600, now - 3600), 2);
    assert_eq!(gone(now - 30, now - 30), 1, "it may be back in a moment");
    assert_eq!(gone(now - 3600, now - 5), 1, "a clock that is wrong, or an operator that has just begun");
    // After the deadline the operator gives the node up, with any pod that is left on it.
    let unready = |seen| {
        limit_after(|cluster| {
            lost(seen, seen)(cluster);
            cluster.change_pod_on(1, "node-2", |pod| pod.ready = None);
        })
    };
    assert_eq!((unready(now - 120), unready(now - 3600)), (1, 2));
}

#[test]
fn the_limit_is_lowered_although_the_generation_below_wavers() {
    let mut quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    quinistry.spec.resources.limits.insert("memory".into(), IntOrString::String("64Mi".into()));
    cluster.change_node("node-2", |node| node.ready = false);
    for generation in [1, 2, 3] {
        cluster.change_pod_on(generation, "node-2", |pod| (pod.ready, pod.deleting) = (None, true));
    }
    cluster.apply(&cluster.plan(&quinistry));
    cluster.run();
    cluster.verify(&cluster.plan(&quinistry));
    assert_eq!(applied(&cluster.plan(&quinistry)), ["+larder-gen2"]);
    cluster.apply(&cluster.plan(&quinistry));
    let limit = |cluster: &SimulatedCluster| {
        cluster.observed.daemon_set(2).unwrap().spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"]
            .clone()
    };
    assert_eq!(limit(&cluster), json!(2));
    // The node is back without its pods, in the middle of generation 2.
    cluster.change_node("node-2", |node| node.ready = true);
    let plan = cluster.plan(&quinistry);
    assert_eq!(plan.generations[0].state, GenerationState::Rolling);
    cluster.apply(&plan);
    assert_eq!(limit(&cluster), json!(1));
}

#[test]
fn nodes_that_may_be_behind_hold_up_nothing_and_are_named() {
    let mut quinistry = pinned();
    for (tolerated, goes_on) in [("0", false), ("1", true), ("34%", true), ("33%", false)] {
        let tolerated =
            tolerated.parse().map_or_else(|_| IntOrString::String(tolerated.into()), IntOrString::Int);
        quinistry.spec.rollout.tolerate_nodes = tolerated;
        let mut cluster = SimulatedCluster::new(3);
        for _ in 0..6 {
            cluster.apply(&cluster.plan(&quinistry));
            cluster.run();
            for generation in 1..=3 {
                cluster.change_pod_on(generation, "node-2", |pod| {
                    (pod.ready, pod.running) = (None, None);
                    pod.unschedulable = Some("0/3 nodes are available: 1 Too many pods".into());
                });
            }
            cluster.verify(&cluster.plan(&quinistry));
        }
        let plan = cluster.plan(&quinistry);
        let (sets, ready) = (cluster.observed.daemon_sets.len(), plan.conditions.ready.status);
        assert_eq!((sets, ready), if goes_on { (3, "True") } else { (1, "False") }, "{:#?}", plan.conditions);
        if goes_on {
            assert!(
                plan.conditions.ready.message.contains("behind: node-2"),
                "{}",
                plan.conditions.ready.message
            );
            assert!(plan.deviations.iter().any(|one| one.node == "node-2"), "{:?}", plan.deviations);
        }
    }
}

#[test]
fn a_node_that_serves_something_else_is_never_left_behind() {
    let mut quinistry = pinned();
    quinistry.spec.rollout.tolerate_nodes = IntOrString::Int(2);
    let mut cluster = SimulatedCluster::new(3);
    cluster.apply(&cluster.plan(&quinistry));
    cluster.run();
    cluster.change_pod_on(1, "node-2", |pod| {
        (pod.ready, pod.running) = (None, None);
        pod.ended = Some((3, "expected sha256:a, computed sha256:b".into()));
    });
    cluster.verify(&cluster.plan(&quinistry));
    let plan = cluster.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert_eq!(plan.conditions.fixed_point.reason, Reason::DigestMismatch);
}

#[test]
fn never_are_all_nodes_left_behind() {
    let mut quinistry = pinned();
    quinistry.spec.rollout.tolerate_nodes = IntOrString::String("100%".into());
    let mut cluster = SimulatedCluster::new(2);
    cluster.starts_nothing = true;
    cluster.apply(&cluster.plan(&quinistry));
    cluster.run();
    assert_eq!(applied(&cluster.plan(&quinistry)), [""; 0]);
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
        let mut cluster = SimulatedCluster::new(3);
        cluster.change_node("node-3", |node| drop(node.labels.insert(key.into(), value.into())));
        cluster.run_rounds(&quinistry);
        cluster.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-3"));
        let plan = cluster.plan(&quinistry);
        assert_eq!((plan.conditions.ready.status, plan.generations[0].desired), ("True", 2), "{key}");
        assert_eq!(plan.deviations, []);
        cluster.change_node("node-3", |node| drop(node.labels.insert(key.into(), "other".into())));
        assert_eq!(cluster.plan(&quinistry).generations[0].desired, 3);
    }
}

#[test]
fn condition_and_headline_use_the_same_counts() {
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    cluster.now = at(100);
    cluster.observed.nodes.push(Arc::new(ObservedNode { since: at(99), ..node("node-4") }));
    let plan = cluster.plan(&quinistry);
    let headline = crate::crd::QuinistryStatus::headline(&plan.generations, 3);
    assert_eq!((plan.conditions.ready.status, headline.as_str()), ("True", "3/3"), "a node has just joined");

    let mut cluster = proven_cluster(&quinistry);
    cluster.change_pods(2, |pod| pod.pull_policy = "Always".into());
    let plan = cluster.plan(&quinistry);
    let headline = crate::crd::QuinistryStatus::headline(&plan.generations, 3);
    assert_eq!(
        (plan.conditions.ready.status, headline.as_str()),
        ("True", "3/3"),
        "what is told and stops nothing"
    );
}

#[test]
fn a_node_that_joins_does_not_unmake_ready() {
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    cluster.now = at(100);
    let late = ObservedNode { since: at(99), ..node("node-4") };
    cluster.observed.nodes.push(Arc::new(late));
    let plan = cluster.plan(&quinistry);
    let conditions = &plan.conditions;
    assert_eq!(
        (conditions.ready.status, conditions.progressing.status, conditions.fixed_point.status),
        ("True", "True", "True"),
        "{conditions:#?}"
    );
    assert!(conditions.ready.message.contains("node-4"));
    assert_eq!(applied(&plan), [""; 0]);

    // Its pods are Ready, and the operator has not verified them yet: the node is still joining.
    cluster.run();
    let plan = cluster.plan(&quinistry);
    assert!(plan.is_unverified);
    assert_eq!(
        (plan.conditions.ready.status, plan.conditions.fixed_point.status),
        ("True", "True"),
        "{:#?}",
        plan.conditions
    );
    assert!(plan.conditions.ready.message.contains("node-4"));
    cluster.verify(&plan);
    let plan = cluster.plan(&quinistry);
    assert_eq!((plan.conditions.ready.status, plan.conditions.progressing.status), ("True", "False"));
    assert!(!plan.conditions.ready.message.contains("node-4"));
}

#[test]
fn a_node_that_joins_and_serves_something_else_unmakes_ready() {
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    cluster.now = at(100);
    cluster.observed.nodes.push(Arc::new(ObservedNode { since: at(99), ..node("node-4") }));
    cluster.run();
    let plan = cluster.plan(&quinistry);
    cluster.serves = Digest::sha256(b"another");
    cluster.verify(&plan);
    let plan = cluster.plan(&quinistry);
    assert_eq!(
        (plan.conditions.ready.status, plan.conditions.ready.reason),
        ("False", Reason::DigestMismatch)
    );
}

#[test]
fn a_cordoned_node_changes_nothing_and_a_removed_one_is_forgotten() {
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    let taint = ("node.kubernetes.io/unschedulable".into(), String::new(), "NoSchedule".into());
    cluster.change_node("node-1", |node| node.taints = vec![taint.clone()]);
    assert_eq!(applied(&cluster.plan(&quinistry)), [""; 0]);
    cluster.observed.nodes.retain(|node| node.name != "node-3");
    cluster.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-3"));
    let plan = cluster.plan(&quinistry);
    assert_eq!((plan.conditions.ready.status, plan.generations[0].desired), ("True", 2));
}

#[test]
fn a_pod_that_backs_off_is_replaced_once_there_is_something_to_pull() {
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    let back_off = |pod: &mut ObservedPod| {
        (pod.ready, pod.running) = (None, None);
        pod.waiting = Some(("ImagePullBackOff".into(), "connection refused".into()));
        pod.created = at(0);
    };
    cluster.change_pods(3, back_off);
    let plan = cluster.plan(&quinistry);
    assert_eq!(plan.actions.len(), 3);
    assert_degraded(&plan, Reason::ImagePullFailed);
    // A pod that was created after its predecessor was Ready had its chance.
    cluster.change_pods(3, |pod| pod.created = at(500));
    assert_eq!(applied(&cluster.plan(&quinistry)), [""; 0]);
    // A pod that ran before its node lost its images counts like one that never started.
    cluster.change_pods(3, |pod| {
        back_off(pod);
        pod.start.restarts = 1;
        pod.ended = Some((137, "The container could not be located".into()));
    });
    assert_eq!(cluster.plan(&quinistry).actions.len(), 3);
    // Back-off starts with the failure, before the kubelet reports it as such.
    cluster.change_pods(3, |pod| {
        back_off(pod);
        pod.waiting = Some(("ErrImagePull".into(), "connection refused".into()));
    });
    assert_eq!(cluster.plan(&quinistry).actions.len(), 3);
    // Without a predecessor there is nothing to pull, and the child has no problem of its own.
    cluster.change_pods(3, back_off);
    cluster.change_pods(2, |pod| pod.ready = None);
    let plan = cluster.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert!(plan.deviations.iter().all(|deviation| deviation.reason != Reason::ImagePullFailed));
}

#[test]
fn unverified_and_unreachable_pods_are_distinguished() {
    let quinistry = learning();
    let mut cluster = proven_cluster(&quinistry);
    assert!(!cluster.plan(&quinistry).is_unverified);
    // As after a restart.
    let fetched = std::mem::take(&mut cluster.observed.fetched);
    let plan = cluster.plan(&quinistry);
    assert!(plan.is_unverified && plan.conditions.ready.status == "False", "{:#?}", plan.conditions);
    cluster.observed.fetched =
        fetched.into_keys().map(|start| (start, FetchResult::Failed("no answer".into()))).collect();
    assert!(!cluster.plan(&quinistry).is_unverified);
}
