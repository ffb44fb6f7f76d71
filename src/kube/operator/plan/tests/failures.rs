//! Each way in which things go wrong, and what is done and said then.

use super::super::super::observed::{Refusal, Rejection};
use super::*;

pub(super) fn standing(quinistry: &Quinistry) -> World {
    let mut world = World::new(3);
    let plan = world.settle(quinistry);
    assert_eq!(plan.words.ready.status, "True", "{:#?}", plan.words);
    world
}

#[test]
fn a_chain_rises_in_order() {
    for quinistry in [pinned(), learning()] {
        let mut world = World::new(3);
        assert_eq!(world.play(&quinistry), ["+larder", "+larder-gen2", "+larder-gen3"]);
        let plan = world.plan(&quinistry);
        assert_eq!(plan.digest, Some(digest().to_string()));
        for (kind, status) in [
            ("Ready", "True"),
            ("Progressing", "False"),
            ("PortsAvailable", "True"),
            ("FixedPoint", "True"),
            ("Degraded", "False"),
        ] {
            let said = plan.words.all().into_iter().find(|(other, _)| *other == kind).unwrap().1.clone();
            assert_eq!(said.status, status, "{kind}: {said:?}");
        }
        assert!(plan.generations.iter().all(|one| one.state == GenerationState::Ready && one.verified == 3));
    }
}

#[test]
fn learning_does_not_change_the_first_generation() {
    let quinistry = learning();
    let mut world = World::new(2);
    world.obey(&world.plan(&quinistry));
    let before = world.observed.daemon_set(1).unwrap().applied.clone();
    let plan = world.settle(&quinistry);
    assert!(plan.digest.is_some());
    assert_eq!(world.observed.daemon_set(1).unwrap().applied, before);
}

#[test]
fn a_new_image_re_rolls_in_order() {
    let mut quinistry = learning();
    let mut world = standing(&quinistry);
    quinistry.spec.image = Some("registry.example.com/larder:2".into());
    world.serves = Digest::sha256(b"the next image");
    assert_eq!(world.play(&quinistry), ["+larder", "+larder-gen2", "+larder-gen3"]);
    assert_eq!(world.plan(&quinistry).digest, Some(world.serves.to_string()));
}

#[test]
fn shrinking_and_growing() {
    let mut quinistry = pinned();
    let mut world = standing(&quinistry);
    quinistry.spec.generations = 1;
    let plan = world.plan(&quinistry);
    assert_eq!(applied(&plan), ["-larder-gen3"]);
    assert_eq!(plan.words.ready.status, "False");
    world.observed.daemon_sets.retain(|set| set.generation != 3);
    assert_eq!(applied(&world.plan(&quinistry)), [""; 0], "its pods are still there");
    world.observed.pods.retain(|pod| pod.generation != 3);
    assert_eq!(applied(&world.plan(&quinistry)), ["-larder-gen2"]);
    world.settle(&quinistry);
    quinistry.spec.generations = 3;
    let plan = world.settle(&quinistry);
    assert_eq!((plan.words.ready.status, plan.generations.len()), ("True", 3));
}

#[test]
fn bootstrap_image_cannot_be_pulled() {
    let quinistry = pinned();
    for reason in ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"] {
        let mut world = World::new(2);
        world.obey(&world.plan(&quinistry));
        world.run();
        world.change_pods(1, |pod| {
            (pod.ready, pod.running) = (None, None);
            pod.waiting = Some((reason.into(), "no such host".into()));
        });
        let plan = world.plan(&quinistry);
        assert_eq!(applied(&plan), [""; 0]);
        let said = &plan.words.progressing;
        assert_eq!((said.status, said.reason), ("False", Reason::BootstrapImagePullFailed));
        assert!(said.message.contains(reason) && said.message.contains("no such host"), "{said:?}");
        assert_degraded(&plan, Reason::BootstrapImagePullFailed);
    }
}

#[test]
fn pod_security_forbids_host_ports() {
    let quinistry = pinned();
    let mut world = World::new(2);
    world.obey(&world.plan(&quinistry));
    world.now = at(5);
    assert_eq!(world.plan(&quinistry).missing.generations.into_iter().collect::<Vec<_>>(), [1]);
    let message = "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\": hostPort".to_owned();
    world.observed.refusals = vec![Refusal { generation: 1, pod: None, message }];
    let plan = world.plan(&quinistry);
    assert_degraded(&plan, Reason::PodSecurityForbidden);
    assert!(plan.words.degraded.message.contains("label namespace pantry"));
}

#[test]
fn another_pod_has_the_port() {
    let quinistry = pinned();
    let mut world = World::new(2);
    world.obey(&world.plan(&quinistry));
    world.run();
    world.change_pods(1, |pod| {
        (pod.ready, pod.running) = (None, None);
        pod.unschedulable = Some("0/2 nodes are available: 1 node(s) didn't have free ports".into());
    });
    let plan = world.plan(&quinistry);
    let said = &plan.words.ports_available;
    assert_eq!((said.status, said.reason), ("False", Reason::HostPortConflict));
    assert!(said.message.contains("node-1, node-2"), "{said:?}");
}

#[test]
fn a_process_has_the_port_or_localhost_leads_elsewhere() {
    let quinistry = pinned();
    let mut world = standing(&quinistry);
    world.change_pods(2, |pod| {
        pod.ready = None;
        pod.ended = Some((1, "quinistry: failed to listen on 127.0.0.1:5001: in use".into()));
    });
    assert_eq!(world.plan(&quinistry).words.ports_available.reason, Reason::PortTaken);

    let mut world = standing(&quinistry);
    world.change_pods(2, |pod| pod.ready = None);
    world.now = at(600);
    let plan = world.plan(&quinistry);
    assert_eq!(plan.words.ports_available.reason, Reason::HostPortUnreachable);
    world.observed.fetched.clear();
    assert_eq!(world.plan(&quinistry).verify.len(), 9, "unready pods that run are asked too");

    // The API takes Ready from all pods of a node that is lost, and their kubelet gives it back when it is there again.
    let mut world = standing(&quinistry);
    world.now = at(600);
    world.change_pods(2, |pod| pod.ready = None);
    for name in ["node-1", "node-2", "node-3"] {
        world.change_node(name, |node| node.seen = at(598));
    }
    assert_eq!(world.plan(&quinistry).words.ports_available.status, "True");
    world.now = at(606);
    assert_eq!(world.plan(&quinistry).words.ports_available.reason, Reason::HostPortUnreachable);
}

#[test]
fn a_crash_loop_stops_the_chain_and_keeps_what_stands() {
    let mut quinistry = pinned();
    let mut world = standing(&quinistry);
    quinistry.spec.generations = 4;
    world.change_pods(3, |pod| {
        (pod.ready, pod.running) = (None, None);
        pod.start.restarts = 5;
        pod.waiting = Some(("CrashLoopBackOff".into(), String::new()));
        pod.ended = Some((1, "out of luck".into()));
    });
    let plan = world.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert_degraded(&plan, Reason::CrashLoop);
    assert!(
        plan.words.degraded.message.contains("5 restarts")
            && plan.words.degraded.message.contains("out of luck")
    );
    assert_eq!(plan.generations[3].state, GenerationState::Waiting);
}

#[test]
fn another_digest_stops_the_chain() {
    let quinistry = pinned();
    let mut world = World::new(2);
    world.serves = Digest::sha256(b"another");
    let plan = world.settle(&quinistry);
    assert_eq!(world.observed.daemon_sets.len(), 1);
    assert_eq!(
        (plan.words.fixed_point.status, plan.words.fixed_point.reason),
        ("False", Reason::DigestMismatch)
    );
    assert_degraded(&plan, Reason::DigestMismatch);

    let mut world = World::new(2);
    world.obey(&world.plan(&quinistry));
    world.run();
    world.change_pods(1, |pod| {
        (pod.ready, pod.running) = (None, None);
        pod.ended = Some((3, "expected sha256:a, computed sha256:b".into()));
    });
    assert_eq!(world.plan(&quinistry).words.fixed_point.reason, Reason::DigestMismatch);
}

#[test]
fn a_moving_tag_gives_two_digests() {
    let quinistry = learning();
    let mut world = World::new(2);
    world.obey(&world.plan(&quinistry));
    world.run();
    world.look(&world.plan(&quinistry));
    let first = world.observed.fetched.keys().next().unwrap().clone();
    world.observed.fetched.insert(first, Fetched::Whole(Digest::sha256(b"another")));
    let plan = world.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert_eq!(plan.words.fixed_point.reason, Reason::BootstrapDigestDiffers);
    let message = &plan.words.fixed_point.message;
    for (digest, node) in [(Digest::sha256(b"another"), "node-1"), (digest(), "node-2")] {
        assert!(message.contains(&format!("{digest} on {node}")), "{message}");
    }
}

#[test]
fn one_thing_is_told_as_one() {
    let mut quinistry = pinned();
    quinistry.spec.generations = 1;
    let mut world = World::new(2);
    world.change_node("node-2", |node| {
        drop(node.labels.insert("kubernetes.io/arch".into(), "riscv64".into()));
    });
    let mut messages = Vec::new();
    let mut hear = |plan: Plan| messages.extend(plan.words.all().map(|(_, said)| said.message.clone()));
    world.obey(&world.plan(&quinistry));
    hear(world.plan(&quinistry));
    hear(world.settle(&quinistry));
    world.change_pods(1, |pod| {
        (pod.ready, pod.start.restarts) = (None, 1);
        pod.waiting = Some(("CrashLoopBackOff".into(), String::new()));
    });
    hear(world.plan(&quinistry));
    for word in ["node", "generation", "restart"] {
        let many = format!("1 {word}s");
        assert!(messages.iter().all(|message| !message.contains(&many)), "{messages:#?}");
        assert!(messages.iter().any(|message| message.contains(&format!("1 {word}"))), "{messages:#?}");
    }
    assert!(messages.contains(&"the only generation is proven".into()), "{messages:#?}");
}

#[test]
fn refusals_of_the_api_server_are_told_and_not_repeated() {
    let quinistry = pinned();
    let mut world = World::new(1);
    let plan = world.plan(&quinistry);
    let Action::Apply(set) = &plan.actions[0] else { panic!() };
    for reason in [Reason::ApplyRejected, Reason::NamespaceTerminating] {
        let applied = build::applied(set).to_owned();
        world.observed.rejection = Some(Rejection { applied, reason, message: "no".into() });
        let plan = world.plan(&quinistry);
        assert_eq!(plan.actions, Vec::new());
        assert_degraded(&plan, reason);
        assert_eq!((plan.words.progressing.status, plan.words.progressing.reason), ("False", reason));
    }
}

#[test]
fn progress_has_a_deadline() {
    let quinistry = pinned();
    let mut world = World::new(1);
    world.obey(&world.plan(&quinistry));
    world.now = at(500);
    assert_eq!(world.plan(&quinistry).words.progressing.reason, Reason::RollingOut);
    world.now = at(700);
    assert_eq!(world.plan(&quinistry).words.progressing.reason, Reason::ProgressDeadlineExceeded);
    // A wish that comes late has all its time.
    let mut world = standing(&quinistry);
    world.now = at(9000);
    let mut grown = quinistry;
    grown.spec.generations = 4;
    assert_eq!(world.plan(&grown).words.progressing.reason, Reason::RollingOut);
    grown.spec.image = Some("registry.example.com/larder:2".into());
    world.obey(&world.plan(&grown));
    assert_eq!(world.plan(&grown).words.progressing.reason, Reason::RollingOut);
}

#[test]
fn no_nodes_and_other_architectures() {
    assert_degraded(&World::new(0).plan(&pinned()), Reason::NoNodes);
    let quinistry = pinned();
    let mut world = standing(&quinistry);
    world.change_node("node-3", |node| {
        drop(node.labels.insert("kubernetes.io/arch".into(), "riscv64".into()));
    });
    world.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-3"));
    let plan = world.plan(&quinistry);
    assert_degraded(&plan, Reason::MixedArchitectures);
    assert_eq!(plan.words.ready.status, "True");
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
        let plan = World::new(1).plan(&quinistry(&spec));
        assert_eq!(plan.actions, Vec::new(), "{spec}");
        assert_degraded(&plan, Reason::InvalidSpec);
    }
}

#[test]
fn always_pull_images_is_told() {
    let quinistry = pinned();
    let mut world = standing(&quinistry);
    world.change_pods(2, |pod| pod.pull_policy = "Always".into());
    let plan = world.plan(&quinistry);
    assert_degraded(&plan, Reason::AlwaysPullImages);
    assert_eq!(plan.words.ready.status, "True");
}

#[test]
fn disjoint_selectors_may_share_ports_and_the_oldest_owner_wins() {
    let mut ours = pinned();
    let mut rival = pinned();
    rival.metadata.uid = Some("uid-rival".into());
    rival.metadata.creation_timestamp = Some(Time(at(-7200)));
    ours.spec.node_selector.insert("zone".into(), "a".into());
    rival.spec.node_selector.insert("zone".into(), "b".into());
    let mut world = World::new(1);
    world.change_node("node-1", |node| drop(node.labels.insert("zone".into(), "a".into())));
    world.observed.rivals = vec![super::rival(&rival), super::rival(&ours)];
    assert_eq!(applied(&world.plan(&ours)), ["+larder"]);
    rival.spec.node_selector.clear();
    world.observed.rivals = vec![super::rival(&rival)];
    assert_eq!(world.plan(&ours).words.ready.reason, Reason::PortConflict);
    rival.metadata.creation_timestamp = Some(Time(at(10)));
    world.observed.rivals = vec![super::rival(&rival)];
    assert_eq!(applied(&world.plan(&ours)), ["+larder"]);
}

#[test]
fn somebody_elses_edit_is_undone_and_admission_is_left_alone() {
    let quinistry = pinned();
    let mut world = standing(&quinistry);
    let edit = |world: &mut World| {
        for set in &mut world.observed.daemon_sets {
            let set = Arc::make_mut(set);
            set.spec["template"]["spec"]["containers"][0]["image"] = json!("elsewhere");
            // What the server fills in is nobody's edit.
            set.spec["template"]["spec"]["dnsPolicy"] = json!("ClusterFirst");
        }
    };
    edit(&mut world);
    assert_eq!(applied(&world.plan(&quinistry)), ["+larder"], "the children wait for it");
    for set in &mut world.observed.daemon_sets {
        Arc::make_mut(set).accepted = true;
    }
    assert_eq!(applied(&world.plan(&quinistry)), [""; 0]);
}

#[test]
fn somebody_elses_labels_are_undone_too() {
    let quinistry = pinned();
    let mut world = standing(&quinistry);
    let relabel = |world: &mut World, accepted: bool| {
        let set = world.observed.daemon_sets.iter_mut().find(|set| set.generation == 2).unwrap();
        let set = Arc::make_mut(set);
        set.labels.insert("k8s-app".into(), "meddler".into());
        set.labels.insert("team".into(), "shelves".into());
        set.accepted = accepted;
    };
    relabel(&mut world, false);
    assert_eq!(applied(&world.plan(&quinistry)), ["+larder-gen2"]);
    // What admission makes of them at each apply is left alone, or there would be no end.
    relabel(&mut world, true);
    assert_eq!(applied(&world.plan(&quinistry)), [""; 0]);
}

#[test]
fn a_digest_that_cannot_be_learned_is_told() {
    let quinistry = learning();
    let mut world = World::new(3);
    world.obey(&world.plan(&quinistry));
    world.run();
    for request in world.plan(&quinistry).verify {
        world.observed.fetched.insert(request.start, Fetched::Failed("no answer".into()));
    }
    let plan = world.plan(&quinistry);
    assert_degraded(&plan, Reason::PodsUnreachable);
    assert!(plan.words.degraded.message.contains("spec.digest"), "{}", plan.words.degraded.message);
    assert!(plan.actions.is_empty(), "no child without a digest");
    assert_eq!(plan.verify.len(), 3, "they are asked again");
}

#[test]
fn pods_out_of_reach_are_vouched_for_by_others_and_named() {
    let quinistry = pinned();
    let mut world = standing(&quinistry);
    for fetched in world.observed.fetched.values_mut() {
        *fetched = Fetched::Failed("no answer".into());
    }
    let plan = world.plan(&quinistry);
    assert_eq!((plan.words.ready.status, plan.words.degraded.status), ("True", "False"));
    assert!(plan.words.ready.message.contains("node-1, node-2, node-3"), "{}", plan.words.ready.message);
    assert!(plan.generations.iter().all(|one| one.verified == 0 && !one.proofs.contains(&Proof::Fetched)));
}
