//! Failures: the plan's actions and conditions for each kind.

use super::super::super::observed::{Refusal, Rejection};
use super::*;

pub(super) fn proven_cluster(quinistry: &Quinistry) -> SimulatedCluster {
    let mut cluster = SimulatedCluster::new(3);
    let plan = cluster.run_until_idle(quinistry);
    assert_eq!(plan.conditions.ready.status, "True", "{:#?}", plan.conditions);
    cluster
}

#[test]
fn a_chain_rises_in_order() {
    for quinistry in [pinned(), learning()] {
        let mut cluster = SimulatedCluster::new(3);
        assert_eq!(cluster.run_rounds(&quinistry), ["+larder", "+larder-gen2", "+larder-gen3"]);
        let plan = cluster.plan(&quinistry);
        assert_eq!(plan.digest, Some(digest().to_string()));
        for (kind, status) in [
            ("Ready", "True"),
            ("Progressing", "False"),
            ("PortsAvailable", "True"),
            ("FixedPoint", "True"),
            ("Degraded", "False"),
        ] {
            let said = plan.conditions.all().into_iter().find(|(other, _)| *other == kind).unwrap().1.clone();
            assert_eq!(said.status, status, "{kind}: {said:?}");
        }
        assert!(plan.generations.iter().all(|one| one.state == GenerationState::Ready && one.verified == 3));
    }
}

#[test]
fn learning_does_not_change_the_first_generation() {
    let quinistry = learning();
    let mut cluster = SimulatedCluster::new(2);
    cluster.apply(&cluster.plan(&quinistry));
    let before = cluster.observed.daemon_set(1).unwrap().applied.clone();
    let plan = cluster.run_until_idle(&quinistry);
    assert!(plan.digest.is_some());
    assert_eq!(cluster.observed.daemon_set(1).unwrap().applied, before);
}

#[test]
fn a_new_image_re_rolls_in_order() {
    let mut quinistry = learning();
    let mut cluster = proven_cluster(&quinistry);
    quinistry.spec.image = Some("registry.example.com/larder:2".into());
    cluster.serves = Digest::sha256(b"the next image");
    assert_eq!(cluster.run_rounds(&quinistry), ["+larder", "+larder-gen2", "+larder-gen3"]);
    assert_eq!(cluster.plan(&quinistry).digest, Some(cluster.serves.to_string()));
}

#[test]
fn shrinking_and_growing() {
    let mut quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    quinistry.spec.generations = 1;
    let plan = cluster.plan(&quinistry);
    assert_eq!(applied(&plan), ["-larder-gen3"]);
    assert_eq!(plan.conditions.ready.status, "False");
    cluster.observed.daemon_sets.retain(|set| set.generation != 3);
    assert_eq!(applied(&cluster.plan(&quinistry)), [""; 0], "its pods are still there");
    cluster.observed.pods.retain(|pod| pod.generation != 3);
    assert_eq!(applied(&cluster.plan(&quinistry)), ["-larder-gen2"]);
    cluster.run_until_idle(&quinistry);
    quinistry.spec.generations = 3;
    let plan = cluster.run_until_idle(&quinistry);
    assert_eq!((plan.conditions.ready.status, plan.generations.len()), ("True", 3));
}

#[test]
fn bootstrap_image_cannot_be_pulled() {
    let quinistry = pinned();
    for reason in ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"] {
        let mut cluster = SimulatedCluster::new(2);
        cluster.apply(&cluster.plan(&quinistry));
        cluster.run();
        cluster.change_pods(1, |pod| {
            (pod.ready, pod.running) = (None, None);
            pod.waiting = Some((reason.into(), "no such host".into()));
        });
        let plan = cluster.plan(&quinistry);
        assert_eq!(applied(&plan), [""; 0]);
        let said = &plan.conditions.progressing;
        assert_eq!((said.status, said.reason), ("False", Reason::BootstrapImagePullFailed));
        assert!(said.message.contains(reason) && said.message.contains("no such host"), "{said:?}");
        assert_degraded(&plan, Reason::BootstrapImagePullFailed);
    }
}

#[test]
fn pod_security_forbids_host_ports() {
    let quinistry = pinned();
    let mut cluster = SimulatedCluster::new(2);
    cluster.apply(&cluster.plan(&quinistry));
    cluster.now = at(5);
    assert_eq!(cluster.plan(&quinistry).missing.generations.into_iter().collect::<Vec<_>>(), [1]);
    let message = "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\": hostPort".to_owned();
    cluster.observed.refusals = vec![Refusal { generation: 1, pod: None, message }];
    let plan = cluster.plan(&quinistry);
    assert_degraded(&plan, Reason::PodSecurityForbidden);
    assert!(plan.conditions.degraded.message.contains("label namespace pantry"));
}

#[test]
fn another_pod_has_the_port() {
    let quinistry = pinned();
    let mut cluster = SimulatedCluster::new(2);
    cluster.apply(&cluster.plan(&quinistry));
    cluster.run();
    cluster.change_pods(1, |pod| {
        (pod.ready, pod.running) = (None, None);
        pod.unschedulable = Some("0/2 nodes are available: 1 node(s) didn't have free ports".into());
    });
    let plan = cluster.plan(&quinistry);
    let said = &plan.conditions.ports_available;
    assert_eq!((said.status, said.reason), ("False", Reason::HostPortConflict));
    assert!(said.message.contains("node-1, node-2"), "{said:?}");
}

#[test]
fn a_process_has_the_port_or_localhost_leads_elsewhere() {
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    cluster.change_pods(2, |pod| {
        pod.ready = None;
        pod.ended = Some((1, "quinistry: failed to listen on 127.0.0.1:5001: in use".into()));
    });
    assert_eq!(cluster.plan(&quinistry).conditions.ports_available.reason, Reason::PortTaken);

    let mut cluster = proven_cluster(&quinistry);
    cluster.change_pods(2, |pod| pod.ready = None);
    cluster.now = at(600);
    let plan = cluster.plan(&quinistry);
    assert_eq!(plan.conditions.ports_available.reason, Reason::HostPortUnreachable);
    cluster.observed.fetched.clear();
    assert_eq!(cluster.plan(&quinistry).verify.len(), 9, "unready pods that run are asked too");

    // The API server takes Ready from all pods of a lost node, and their kubelet restores it when the node is
    // back.
    let mut cluster = proven_cluster(&quinistry);
    cluster.now = at(600);
    cluster.change_pods(2, |pod| pod.ready = None);
    for name in ["node-1", "node-2", "node-3"] {
        cluster.change_node(name, |node| node.seen = at(598));
    }
    assert_eq!(cluster.plan(&quinistry).conditions.ports_available.status, "True");
    cluster.now = at(606);
    assert_eq!(cluster.plan(&quinistry).conditions.ports_available.reason, Reason::HostPortUnreachable);
}

#[test]
fn a_crash_loop_stops_the_chain_and_keeps_proven_generations() {
    let mut quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    quinistry.spec.generations = 4;
    cluster.change_pods(3, |pod| {
        (pod.ready, pod.running) = (None, None);
        pod.start.restarts = 5;
        pod.waiting = Some(("CrashLoopBackOff".into(), String::new()));
        pod.ended = Some((1, "out of luck".into()));
    });
    let plan = cluster.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert_degraded(&plan, Reason::CrashLoop);
    assert!(
        plan.conditions.degraded.message.contains("5 restarts")
            && plan.conditions.degraded.message.contains("out of luck")
    );
    assert_eq!(plan.generations[3].state, GenerationState::Waiting);
}

#[test]
fn another_digest_stops_the_chain() {
    let quinistry = pinned();
    let mut cluster = SimulatedCluster::new(2);
    cluster.serves = Digest::sha256(b"another");
    let plan = cluster.run_until_idle(&quinistry);
    assert_eq!(cluster.observed.daemon_sets.len(), 1);
    assert_eq!(
        (plan.conditions.fixed_point.status, plan.conditions.fixed_point.reason),
        ("False", Reason::DigestMismatch)
    );
    assert_degraded(&plan, Reason::DigestMismatch);

    let mut cluster = SimulatedCluster::new(2);
    cluster.apply(&cluster.plan(&quinistry));
    cluster.run();
    cluster.change_pods(1, |pod| {
        (pod.ready, pod.running) = (None, None);
        pod.ended = Some((3, "expected sha256:a, computed sha256:b".into()));
    });
    assert_eq!(cluster.plan(&quinistry).conditions.fixed_point.reason, Reason::DigestMismatch);
}

#[test]
fn a_moving_tag_gives_two_digests() {
    let quinistry = learning();
    let mut cluster = SimulatedCluster::new(2);
    cluster.apply(&cluster.plan(&quinistry));
    cluster.run();
    cluster.verify(&cluster.plan(&quinistry));
    let first = cluster.observed.fetched.keys().next().unwrap().clone();
    cluster.observed.fetched.insert(first, FetchResult::Whole(Digest::sha256(b"another")));
    let plan = cluster.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert_eq!(plan.conditions.fixed_point.reason, Reason::BootstrapDigestDiffers);
    let message = &plan.conditions.fixed_point.message;
    for (digest, node) in [(Digest::sha256(b"another"), "node-1"), (digest(), "node-2")] {
        assert!(message.contains(&format!("{digest} on {node}")), "{message}");
    }
}

#[test]
fn a_pod_that_is_not_asked_may_have_another_image_of_a_moving_tag() {
    let quinistry = learning();
    let mut cluster = SimulatedCluster::new(3);
    cluster.apply(&cluster.plan(&quinistry));
    cluster.run();
    cluster.verify(&cluster.plan(&quinistry));
    let start = cluster.observed.fetched.keys().next().unwrap().clone();
    cluster.observed.fetched.insert(start.clone(), FetchResult::Failed("no answer".into()));
    let plans = ["", "one", "other"].map(|image_id| {
        for pod in &mut cluster.observed.pods {
            let id = if pod.start == start { image_id } else { "one" };
            Arc::make_mut(pod).image_id = id.into();
        }
        cluster.plan(&quinistry)
    });
    for unknown in [&plans[0], &plans[2]] {
        assert_eq!(applied(unknown), [""; 0], "its digest is not known");
        assert_degraded(unknown, Reason::PodsUnreachable);
    }
    assert_eq!(applied(&plans[1]), ["+larder-gen2"], "its image is that of the others");
}

#[test]
fn one_problem_is_reported_once() {
    let mut quinistry = pinned();
    quinistry.spec.generations = 1;
    let mut cluster = SimulatedCluster::new(2);
    cluster.change_node("node-2", |node| {
        drop(node.labels.insert("kubernetes.io/arch".into(), "riscv64".into()));
    });
    let mut messages = Vec::new();
    let mut hear =
        |plan: ReconcilePlan| messages.extend(plan.conditions.all().map(|(_, said)| said.message.clone()));
    cluster.apply(&cluster.plan(&quinistry));
    hear(cluster.plan(&quinistry));
    hear(cluster.run_until_idle(&quinistry));
    cluster.change_pods(1, |pod| {
        (pod.ready, pod.start.restarts) = (None, 1);
        pod.waiting = Some(("CrashLoopBackOff".into(), String::new()));
    });
    hear(cluster.plan(&quinistry));
    for word in ["node", "generation", "restart"] {
        let many = format!("1 {word}s");
        assert!(messages.iter().all(|message| !message.contains(&many)), "{messages:#?}");
        assert!(messages.iter().any(|message| message.contains(&format!("1 {word}"))), "{messages:#?}");
    }
    assert!(messages.contains(&"the only generation is proven".into()), "{messages:#?}");
}

#[test]
fn refusals_of_the_api_server_are_reported_and_not_retried() {
    let quinistry = pinned();
    let mut cluster = SimulatedCluster::new(1);
    let plan = cluster.plan(&quinistry);
    let Action::Apply(set) = &plan.actions[0] else { panic!() };
    for reason in [Reason::ApplyRejected, Reason::NamespaceTerminating] {
        let applied = build::applied(set).to_owned();
        cluster.observed.rejection = Some(Rejection { applied, reason, message: "no".into() });
        let plan = cluster.plan(&quinistry);
        assert_eq!(plan.actions, Vec::new());
        assert_degraded(&plan, reason);
        assert_eq!(
            (plan.conditions.progressing.status, plan.conditions.progressing.reason),
            ("False", reason)
        );
    }
}

#[test]
fn progress_has_a_deadline() {
    let quinistry = pinned();
    let mut cluster = SimulatedCluster::new(1);
    cluster.apply(&cluster.plan(&quinistry));
    cluster.now = at(500);
    assert_eq!(cluster.plan(&quinistry).conditions.progressing.reason, Reason::RollingOut);
    cluster.now = at(700);
    assert_eq!(cluster.plan(&quinistry).conditions.progressing.reason, Reason::ProgressDeadlineExceeded);
    // A late change of the specification gets the whole deadline.
    let mut cluster = proven_cluster(&quinistry);
    cluster.now = at(9000);
    let mut grown = quinistry;
    grown.spec.generations = 4;
    assert_eq!(cluster.plan(&grown).conditions.progressing.reason, Reason::RollingOut);
    grown.spec.image = Some("registry.example.com/larder:2".into());
    cluster.apply(&cluster.plan(&grown));
    assert_eq!(cluster.plan(&grown).conditions.progressing.reason, Reason::RollingOut);
}

#[test]
fn no_nodes_and_other_architectures() {
    assert_degraded(&SimulatedCluster::new(0).plan(&pinned()), Reason::NoNodes);
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    cluster.change_node("node-3", |node| {
        drop(node.labels.insert("kubernetes.io/arch".into(), "riscv64".into()));
    });
    cluster.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-3"));
    let plan = cluster.plan(&quinistry);
    assert_degraded(&plan, Reason::MixedArchitectures);
    assert_eq!(plan.conditions.ready.status, "True");
}

#[test]
fn specifications_that_slipped_through() {
    let image = "registry.example.com/larder:1";
    for spec in [
        json!({"image": "two words"}),
        json!({"image": image, "generations": 17}),
        json!({"image": image, "basePort": 65535}),
        json!({"image": image, "digest": "sha256:short"}),
        json!({"image": image, "rollout": {"maxUnavailable": "0%"}}),
        json!({"image": image, "network": {"mode": "HostNetwork"}}),
    ] {
        let plan = SimulatedCluster::new(1).plan(&quinistry(&spec));
        assert_eq!(plan.actions, Vec::new(), "{spec}");
        assert_degraded(&plan, Reason::InvalidSpec);
    }
}

#[test]
fn always_pull_images_is_reported() {
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    cluster.change_pods(2, |pod| pod.pull_policy = "Always".into());
    let plan = cluster.plan(&quinistry);
    assert_degraded(&plan, Reason::AlwaysPullImages);
    assert_eq!(plan.conditions.ready.status, "True");
}

#[test]
fn disjoint_selectors_may_share_ports_and_the_oldest_owner_wins() {
    let mut ours = pinned();
    let mut rival = pinned();
    rival.metadata.uid = Some("uid-rival".into());
    rival.metadata.creation_timestamp = Some(Time(at(-7200)));
    ours.spec.node_selector.insert("zone".into(), "a".into());
    rival.spec.node_selector.insert("zone".into(), "b".into());
    let mut cluster = SimulatedCluster::new(1);
    cluster.change_node("node-1", |node| drop(node.labels.insert("zone".into(), "a".into())));
    cluster.observed.rivals = vec![super::rival(&rival), super::rival(&ours)];
    assert_eq!(applied(&cluster.plan(&ours)), ["+larder"]);
    rival.spec.node_selector.clear();
    cluster.observed.rivals = vec![super::rival(&rival)];
    assert_eq!(cluster.plan(&ours).conditions.ready.reason, Reason::PortConflict);
    rival.metadata.creation_timestamp = Some(Time(at(10)));
    cluster.observed.rivals = vec![super::rival(&rival)];
    assert_eq!(applied(&cluster.plan(&ours)), ["+larder"]);
}

#[test]
fn edits_of_other_writers_are_undone_and_admission_is_left_alone() {
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    let edit = |cluster: &mut SimulatedCluster| {
        for set in &mut cluster.observed.daemon_sets {
            let set = Arc::make_mut(set);
            set.spec["template"]["spec"]["containers"][0]["image"] = json!("elsewhere");
            // Defaults that the server fills in are not an edit.
            set.spec["template"]["spec"]["dnsPolicy"] = json!("ClusterFirst");
        }
    };
    edit(&mut cluster);
    assert_eq!(applied(&cluster.plan(&quinistry)), ["+larder"], "the children wait for it");
    for set in &mut cluster.observed.daemon_sets {
        Arc::make_mut(set).accepted = true;
    }
    assert_eq!(applied(&cluster.plan(&quinistry)), [""; 0]);
}

#[test]
fn label_edits_of_other_writers_are_undone() {
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    let relabel = |cluster: &mut SimulatedCluster, accepted: bool| {
        let set = cluster.observed.daemon_sets.iter_mut().find(|set| set.generation == 2).unwrap();
        let set = Arc::make_mut(set);
        set.labels.insert("k8s-app".into(), "meddler".into());
        set.labels.insert("team".into(), "shelves".into());
        set.accepted = accepted;
    };
    relabel(&mut cluster, false);
    assert_eq!(applied(&cluster.plan(&quinistry)), ["+larder-gen2"]);
    // Labels that admission changes at each apply are left alone, or the applies would never end.
    relabel(&mut cluster, true);
    assert_eq!(applied(&cluster.plan(&quinistry)), [""; 0]);
}

#[test]
fn a_digest_that_cannot_be_learned_is_reported() {
    let quinistry = learning();
    let mut cluster = SimulatedCluster::new(3);
    cluster.apply(&cluster.plan(&quinistry));
    cluster.run();
    for request in cluster.plan(&quinistry).verify {
        cluster.observed.fetched.insert(request.start, FetchResult::Failed("no answer".into()));
    }
    let plan = cluster.plan(&quinistry);
    assert_degraded(&plan, Reason::PodsUnreachable);
    assert!(plan.conditions.degraded.message.contains("spec.digest"), "{}", plan.conditions.degraded.message);
    assert!(plan.actions.is_empty(), "no child without a digest");
    assert_eq!(plan.verify.len(), 3, "they are asked again");
}

#[test]
fn pods_out_of_reach_are_vouched_for_by_others_and_named() {
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    for fetched in cluster.observed.fetched.values_mut() {
        *fetched = FetchResult::Failed("no answer".into());
    }
    let plan = cluster.plan(&quinistry);
    assert_eq!((plan.conditions.ready.status, plan.conditions.degraded.status), ("True", "False"));
    assert!(
        plan.conditions.ready.message.contains("node-1, node-2, node-3"),
        "{}",
        plan.conditions.ready.message
    );
    assert!(plan.generations.iter().all(|one| one.verified == 0 && !one.proofs.contains(&Proof::Fetched)));
}
