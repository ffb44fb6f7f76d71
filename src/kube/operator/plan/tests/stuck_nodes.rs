//! Nodes on which a pod cannot run: each is named with the cluster's message, and Degraded from the deadline.

use super::failures::proven_cluster;
use super::*;
use crate::operator::observed::Refusal;

/// Returns a cluster in which generation 1 is Ready on two nodes, and its pod on the third has a problem.
fn stuck(change: impl Fn(&mut ObservedPod)) -> (Quinistry, SimulatedCluster) {
    let quinistry = pinned();
    let mut cluster = SimulatedCluster::new(3);
    cluster.apply(&cluster.plan(&quinistry));
    cluster.run();
    cluster.change_pod_on(1, "node-3", |pod| {
        (pod.ready, pod.running, pod.start.started) = (None, None, None);
        change(pod);
    });
    cluster.remember(&cluster.plan(&quinistry));
    cluster.verify(&cluster.plan(&quinistry));
    (quinistry, cluster)
}

#[track_caller]
fn assert_named(plan: &ReconcilePlan, reason: Reason, words: &str) {
    let found: Vec<_> = plan.deviations.iter().filter(|one| one.node == "node-3").collect();
    let [one] = found[..] else { panic!("{:?}", plan.deviations) };
    assert_eq!((one.generation, one.reason), (1, reason), "{one:?}");
    assert!(one.message.contains(words), "{one:?}");
}

#[test]
fn the_clusters_message_about_a_pod_is_reported_and_degrades_from_the_deadline() {
    type Change = fn(&mut ObservedPod);
    let cases: [(Change, Reason, &str); 7] = [
        (
            |pod| pod.unschedulable = Some("0/3 nodes are available: 1 Too many pods".into()),
            Reason::Unschedulable,
            "Too many pods",
        ),
        (
            |pod| pod.failed = Some("Evicted: The node was low on resource: memory".into()),
            Reason::PodFailed,
            "low on resource",
        ),
        (
            |pod| pod.waiting = Some(("ContainerCreating".into(), String::new())),
            Reason::PodNotStarted,
            "ContainerCreating",
        ),
        (
            |pod| pod.waiting = Some(("CreateContainerConfigError".into(), "no such secret".into())),
            Reason::PodNotStarted,
            "no such secret",
        ),
        (|pod| pod.waiting = None, Reason::PodNotStarted, "said nothing"),
        (
            |pod| {
                pod.running = Some(pod.created);
                pod.unready = Some("containers with unready status: [sidecar]".into());
            },
            Reason::PodNotReady,
            "[sidecar]",
        ),
        (|pod| (pod.deleting, pod.ends) = (true, Some(pod.created)), Reason::PodTerminating, "finalizer"),
    ];
    for (change, reason, words) in cases {
        let (quinistry, mut cluster) = stuck(change);
        let told = cluster.plan(&quinistry).deviations.len();
        assert_eq!(told, usize::from(reason == Reason::PodFailed), "the others may pass: {reason}");
        cluster.now = at(60);
        let plan = cluster.plan(&quinistry);
        assert_named(&plan, reason, words);
        assert_eq!(plan.conditions.degraded.status, "False", "{:#?}", plan.conditions);
        let deadline = plan.requeue.deadline();
        assert!(deadline.is_some_and(|due| (500..600).contains(&due.as_secs())), "{deadline:?}");
        assert_eq!(applied(&plan), [""; 0]);
        let later = cluster.plan(&quinistry);
        assert_eq!(plan.deviations, later.deviations, "the same state gives the same words");
        cluster.now = at(700);
        let plan = cluster.plan(&quinistry);
        assert_named(&plan, reason, words);
        assert_degraded(&plan, reason);
        assert!(plan.conditions.degraded.message.contains("node-3"), "{:?}", plan.conditions.degraded);
        assert_eq!(plan.conditions.progressing.reason, Reason::ProgressDeadlineExceeded);
        assert_eq!(plan.conditions.ready.status, "False");
    }
}

#[test]
fn a_node_without_any_pod_is_reported_with_the_api_servers_message() {
    let (quinistry, mut cluster) = stuck(|_| {});
    cluster.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-3"));
    cluster.remember(&cluster.plan(&quinistry));
    cluster.now = at(60);
    assert_named(&cluster.plan(&quinistry), Reason::PodMissing, "none");
    let message = "admission webhook \"gate\" denied the request: no".to_owned();
    cluster.observed.refusals = vec![Refusal { generation: 1, pod: None, message }];
    let plan = cluster.plan(&quinistry);
    assert_named(&plan, Reason::ApplyRejected, "denied the request");
    assert_degraded(&plan, Reason::ApplyRejected);
}

#[test]
fn events_of_a_pod_that_waits_without_a_reason_are_queried_and_reported() {
    let (quinistry, mut cluster) =
        stuck(|pod| pod.waiting = Some(("ContainerCreating".into(), String::new())));
    cluster.now = at(20);
    let asked = cluster.plan(&quinistry).missing.pods;
    let [(1, _, uid)] = &asked.iter().cloned().collect::<Vec<_>>()[..] else { panic!("{asked:?}") };
    let message = "FailedMount: configmap \"x\" not found".to_owned();
    cluster.observed.refusals = vec![Refusal { generation: 1, pod: Some(uid.clone()), message }];
    let plan = cluster.plan(&quinistry);
    assert_named(&plan, Reason::PodNotStarted, "FailedMount");
    assert_eq!(plan.conditions.degraded.status, "False", "one pod's trouble is not the API server's refusal");
}

#[test]
fn a_pod_of_an_earlier_template_is_named_when_it_was_waited_for_too_long() {
    let mut quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    quinistry.spec.image = Some("registry.example.com/larder:2".into());
    cluster.apply(&cluster.plan(&quinistry));
    let stale =
        cluster.observed.pods_of(1).find(|pod| pod.node.as_deref() == Some("node-3")).unwrap().clone();
    cluster.run();
    cluster.observed.pods.retain(|pod| pod.generation != 1 || pod.node.as_deref() != Some("node-3"));
    cluster.observed.pods.push(Arc::new(stale));
    cluster.remember(&cluster.plan(&quinistry));
    assert_eq!(cluster.plan(&quinistry).deviations, []);
    cluster.now = at(2000);
    assert_named(&cluster.plan(&quinistry), Reason::PodOutdated, "earlier template");
}

#[test]
fn pods_that_are_made_again_and_again_do_not_move_the_deadline() {
    let (quinistry, mut cluster) = stuck(|_| {});
    for round in 1..=70 {
        cluster.now = at(10 * round);
        cluster.change_pod_on(1, "node-3", |pod| {
            pod.start.uid = format!("uid-again-{round}");
            pod.created = at(10 * round);
            // The pod becomes Ready now and then, for a moment.
            pod.ready = (round % 7 == 0).then_some(at(10 * round));
        });
        let plan = cluster.plan(&quinistry);
        cluster.verify(&plan);
        cluster.remember(&plan);
    }
    let plan = cluster.plan(&quinistry);
    assert_eq!(plan.conditions.degraded.status, "False", "it is Ready at the moment");
    cluster.now = at(705);
    cluster.change_pod_on(1, "node-3", |pod| (pod.ready, pod.running) = (None, None));
    let plan = cluster.plan(&quinistry);
    assert_eq!(
        plan.conditions.progressing.reason,
        Reason::ProgressDeadlineExceeded,
        "{:#?}",
        plan.conditions
    );
    assert_eq!(plan.conditions.degraded.status, "True");
}

#[test]
fn a_pod_that_is_replaced_on_a_chain_that_stands_for_long_has_all_its_time() {
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    cluster.now = at(900_000);
    cluster.remember(&cluster.plan(&quinistry));
    cluster.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-3") || pod.generation != 2);
    let plan = cluster.plan(&quinistry);
    assert_eq!(
        (plan.conditions.degraded.status, plan.conditions.progressing.status),
        ("False", "True"),
        "{plan:#?}"
    );
    cluster.run();
    // The operator has started after that.
    cluster.observed.missing_since = None;
    cluster.change_pod_on(2, "node-3", |pod| pod.ready = None);
    let plan = cluster.plan(&quinistry);
    assert_eq!(
        (plan.conditions.degraded.status, plan.conditions.progressing.status),
        ("False", "True"),
        "{plan:#?}"
    );
}

#[test]
fn a_digest_that_admission_adds_changes_nothing_and_another_image_is_named() {
    let quinistry = pinned();
    let mut cluster = SimulatedCluster::new(2);
    cluster.apply(&cluster.plan(&quinistry));
    cluster.run();
    let pin = |pod: &mut ObservedPod| pod.image = format!("{}@sha256:{}", pod.image, "a".repeat(64));
    cluster.change_pods(1, pin);
    cluster.verify(&cluster.plan(&quinistry));
    assert_eq!(applied(&cluster.plan(&quinistry)), ["+larder-gen2"]);

    let mut cluster = proven_cluster(&quinistry);
    cluster.change_pod_on(2, "node-3", |pod| {
        pod.image = pod.image.replace("localhost:5000", "mirror.example.com");
    });
    let plan = cluster.plan(&quinistry);
    assert_degraded(&plan, Reason::ImageRewritten);
    let message = &plan.conditions.degraded.message;
    assert!(message.contains("node-3") && message.contains("mirror.example.com/quinistry@"), "{message}");
    assert_eq!(plan.conditions.ready.status, "False");
}

#[test]
fn a_nodes_wrong_clock_raises_no_alarm() {
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    cluster.now = at(1000);
    // The kubelet's clock is an hour behind; the operator has just seen the pod.
    cluster.change_pod_on(2, "node-3", |pod| {
        (pod.ready, pod.running, pod.seen) = (None, Some(at(-2600)), at(999));
    });
    assert_eq!(cluster.plan(&quinistry).conditions.ports_available.status, "True");
    cluster.now = at(1010);
    assert_eq!(cluster.plan(&quinistry).conditions.ports_available.reason, Reason::HostPortUnreachable);

    // With a clock that is ahead, a pod is not replaced that was created after its predecessor was Ready.
    let mut cluster = proven_cluster(&quinistry);
    cluster.change_pods(2, |pod| pod.ready = Some(at(3600)));
    cluster.change_pods(3, |pod| {
        (pod.ready, pod.running) = (None, None);
        pod.waiting = Some(("ErrImagePull".into(), "connection refused".into()));
        pod.created = at(500);
    });
    cluster.now = at(501);
    assert_eq!(applied(&cluster.plan(&quinistry)), [""; 0]);
}
