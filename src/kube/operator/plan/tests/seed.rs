//! Generation 0: its prerequisites, and the order in which it is raised and removed.

use super::*;
use crate::crd::QuinistrySpec;
use crate::operator::observed::{Holding, OwnExecutable, QueryStage};
use crate::seed::{SeedNames, SeedPart, carrier};

const PART_COUNT: usize = 2;

fn executable(content: &str) -> Digest {
    Digest::sha256(content.as_bytes())
}

fn seeded(executable: &Digest, digest: &Digest) -> Quinistry {
    quinistry(&json!({
        "seed": {"executable": executable.as_str()}, "digest": digest.as_str(), "generations": 2,
    }))
}

/// Returns a resource whose seed is the operator's own executable.
fn own() -> (Quinistry, SimulatedCluster) {
    let ours = executable("ours");
    let mut cluster = SimulatedCluster::new(3);
    cluster.observed.own = OwnExecutable { executable: Some((ours.clone(), PART_COUNT)), hands_over: false };
    (seeded(&ours, &digest()), cluster)
}

impl SimulatedCluster {
    pub(super) fn restore(&mut self, which: SeedPart, altered: Option<&str>) {
        self.observed.parts.retain(|part| altered != Some(part.uid.as_str()));
        let (executable, part_count) = self.observed.own.executable.clone().unwrap();
        self.add(&executable, part_count, which);
    }

    fn add(&mut self, executable: &Digest, part_count: usize, which: SeedPart) {
        let names = SeedNames::new("larder", executable);
        self.counter += 1;
        self.observed.parts.push(Arc::new(ObservedPart {
            name: names.of(which),
            namespace: "pantry".into(),
            uid: format!("uid-part-{}", self.counter),
            resource: "larder".into(),
            seed: names.seed().into(),
            part_count,
            owners: vec!["uid-larder".into()],
            created: self.now,
            deleting: false,
        }));
    }

    /// Adds all parts of an executable.
    fn bring(&mut self, executable: &Digest) {
        for which in SeedNames::parts(PART_COUNT) {
            self.add(executable, PART_COUNT, which);
        }
    }

    fn pods(&self) -> Vec<&str> {
        self.observed.pods.iter().map(|pod| pod.start.uid.as_str()).collect()
    }
}

#[test]
fn generation_0_comes_first_and_the_next_pulls_from_it() {
    let (quinistry, mut cluster) = own();
    let order = cluster.run_rounds(&quinistry);
    let parts = ["restore Stub", "restore Share(0)", "restore Share(1)"];
    let sets = ["+larder-gen0", "+larder", "+larder-gen2"];
    assert_eq!(order, [&parts[..], &sets[..]].concat());
    let plan = cluster.run_until_idle(&quinistry);
    assert_eq!(plan.conditions.ready.status, "True", "{:#?}", plan.conditions);
    let [zero, first, _] = &plan.generations[..] else { panic!("{:?}", plan.generations) };
    assert_eq!((zero.generation, zero.port, zero.image.as_str()), (0, 4999, PAUSE));
    assert_eq!(zero.daemon_set, "larder-gen0");
    assert_eq!(first.image, format!("localhost:4999/quinistry@{}", digest()));
    assert!(first.proofs.contains(&Proof::Fetched));
}

#[test]
fn parts_of_another_executable_are_not_restored() {
    let (quinistry, mut cluster) = own();
    cluster.observed.own = OwnExecutable::default();
    let plan = cluster.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert_degraded(&plan, Reason::SeedIncomplete);
    assert!(plan.conditions.degraded.message.contains("quinistry up"), "{:?}", plan.conditions.degraded);
    cluster.bring(&executable("ours"));
    assert_eq!(cluster.run_rounds(&quinistry), ["+larder-gen0", "+larder", "+larder-gen2"]);
    // Running pods keep running without the parts; the loss is reported.
    cluster.observed.parts.pop();
    let plan = cluster.run_until_idle(&quinistry);
    assert_eq!(plan.conditions.ready.status, "True", "{:#?}", plan.conditions);
    assert_degraded(&plan, Reason::SeedIncomplete);
}

#[test]
fn parts_that_existed_before_the_resource_are_adopted() {
    let (quinistry, mut cluster) = own();
    cluster.bring(&executable("ours"));
    for part in &mut cluster.observed.parts {
        Arc::make_mut(part).owners.clear();
    }
    let plan = cluster.plan(&quinistry);
    assert_eq!(applied(&plan).iter().filter(|action| action.starts_with("adopt")).count(), PART_COUNT + 1);
    cluster.run_until_idle(&quinistry);
    assert!(cluster.observed.parts.iter().all(|part| part.owners == ["uid-larder"]));
}

#[test]
fn a_lost_or_altered_part_is_restored_and_running_pods_are_left_alone() {
    let (quinistry, mut cluster) = own();
    cluster.run_until_idle(&quinistry);
    let before: Vec<String> = cluster.pods().into_iter().map(Into::into).collect();
    let lost = cluster.observed.parts.remove(0);
    let altered = cluster.observed.parts[0].uid.clone();
    cluster.observed.altered.insert(altered);
    assert_eq!(cluster.run_rounds(&quinistry), ["restore Stub", "restore Share(0)"]);
    assert!(cluster.observed.parts.iter().any(|part| part.name == lost.name));
    assert_eq!(cluster.pods(), before);
}

#[test]
fn pods_that_got_an_altered_part_are_replaced_after_their_kubelet_has_dropped_it() {
    let (quinistry, mut cluster) = own();
    cluster.run_until_idle(&quinistry);
    let altered = cluster.observed.parts[1].uid.clone();
    cluster.observed.altered.insert(altered);
    // Nodes came back, and the stub refused the altered content.
    cluster.change_pods(0, |pod| {
        pod.ready = None;
        pod.running = None;
        pod.ended = Some((crate::seed::exit::WRONG_DIGEST, "quinistry stub: another digest".into()));
    });
    cluster.now = at(100);
    let plan = cluster.plan(&quinistry);
    assert_eq!(applied(&plan), ["restore Share(0)"], "first the piece");
    cluster.apply(&plan);
    // A new pod would get the same content from its kubelet.
    let plan = cluster.plan(&quinistry);
    let resting: Vec<String> = (1..=3).map(|n| format!("node-{n}: resting-{}", NOW + 100)).collect();
    assert_eq!(applied(&plan), resting);
    cluster.apply(&plan);
    cluster.observed.pods.retain(|pod| pod.generation != 0);
    assert_eq!(applied(&cluster.plan(&quinistry)), [""; 0]);
    cluster.now = at(110);
    assert_eq!(applied(&cluster.plan(&quinistry)), ["node-1: -", "node-2: -", "node-3: -"]);
    let plan = cluster.run_until_idle(&quinistry);
    assert_eq!(plan.conditions.ready.status, "True", "{:#?}", plan.conditions);
}

#[test]
fn pods_that_wait_for_a_lost_part_are_replaced_once_it_is_restored() {
    let (quinistry, mut cluster) = own();
    cluster.run_until_idle(&quinistry);
    cluster.observed.parts.remove(0);
    cluster.change_pods(0, |pod| {
        pod.ready = None;
        pod.running = None;
        pod.waiting = Some(("ContainerCreating".into(), String::new()));
    });
    cluster.now = at(100);
    let plan = cluster.plan(&quinistry);
    assert_eq!(applied(&plan), ["restore Stub"]);
    cluster.apply(&plan);
    let replaced = applied(&cluster.plan(&quinistry));
    assert!(
        replaced.len() == 3 && replaced.iter().all(|one| one.starts_with("~larder-gen0-")),
        "{replaced:?}"
    );
}

#[test]
fn a_node_with_another_carrier_has_a_daemon_set_of_that_one() {
    let (quinistry, mut cluster) = own();
    cluster.change_node("node-2", |node| node.sandboxes = vec!["other/pause:4".into()]);
    let plan = cluster.run_until_idle(&quinistry);
    assert_eq!(plan.conditions.ready.status, "True", "{:#?}", plan.conditions);
    let key = carrier::key("other/pause:4");
    assert_eq!(cluster.node("node-2").labels[labels::CARRIER], key);
    let mut sets: Vec<_> = cluster.observed.sets_of(0).map(|set| set.name.clone()).collect();
    sets.sort();
    assert_eq!(sets, ["larder-gen0".to_owned(), format!("larder-gen0-{key}")]);
    assert_eq!(plan.generations[0].image, format!("{PAUSE}, other/pause:4"));
    // The `DaemonSet` of a carrier is deleted with the last node that has it.
    cluster.observed.nodes.retain(|node| node.name != "node-2");
    cluster.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-2"));
    cluster.run_until_idle(&quinistry);
    assert_eq!(cluster.observed.sets_of(0).count(), 1);
}

#[test]
fn a_node_without_any_carrier_is_named_and_is_not_waited_for() {
    let (quinistry, mut cluster) = own();
    cluster.change_node("node-3", |node| node.sandboxes = Vec::new());
    let mut plan = cluster.run_until_idle(&quinistry);
    // The images of its running pods are queried first, and then well-known names are tried.
    for _ in 0..20 {
        cluster.observed.running.insert("node-3".into(), Vec::new());
        cluster.apply(&plan);
        cluster.run();
        plan = cluster.run_until_idle(&quinistry);
    }
    assert_eq!(cluster.node("node-3").labels[labels::CARRIER], carrier::NONE);
    assert_eq!(plan.conditions.ready.status, "True", "{:#?}", plan.conditions);
    assert_degraded(&plan, Reason::NoCarrierImage);
    assert!(plan.conditions.degraded.message.contains("node-3"), "{:?}", plan.conditions.degraded);
    assert_eq!(plan.generations[0].available, 2);
    // A user puts a carrier image there.
    cluster.change_node("node-3", |node| node.sandboxes = vec![PAUSE.into()]);
    let plan = cluster.run_until_idle(&quinistry);
    assert_eq!(plan.generations[0].available, 3);
    assert_eq!(plan.conditions.degraded.status, "False", "{:#?}", plan.conditions);
}

#[test]
fn only_one_of_two_seeds_labels_the_nodes() {
    let (quinistry, mut cluster) = own();
    cluster.change_node("node-2", |node| node.sandboxes = vec!["other/pause:4".into()]);
    cluster.bring(&executable("ours"));
    let labels =
        |plan: &ReconcilePlan| plan.actions.iter().any(|action| matches!(action, Action::Label { .. }));
    assert!(labels(&cluster.plan(&quinistry)));
    let mut rival = seeded(&executable("ours"), &digest());
    rival.metadata.uid = Some("uid-rival".into());
    rival.metadata.creation_timestamp = Some(Time(at(-90)));
    rival.spec.base_port = 7000;
    cluster.observed.rivals = vec![super::rival(&rival)];
    // A seed that is not serving yet labels no nodes.
    assert!(labels(&cluster.plan(&quinistry)));
    let holding = |serves_seed| Holding { since: at(-30), has_pods: true, serves_seed };
    cluster.observed.holdings = [("uid-rival".to_owned(), holding(false))].into();
    assert!(labels(&cluster.plan(&quinistry)), "its pods are not Ready");
    cluster.observed.holdings = [("uid-rival".to_owned(), holding(true))].into();
    assert!(!labels(&cluster.plan(&quinistry)));
}

#[test]
fn images_are_queried_once_on_nodes_whose_carrier_fails() {
    let (quinistry, mut cluster) = own();
    cluster.change_node("node-3", |node| node.sandboxes = Vec::new());
    for _ in 0..3 {
        let plan = cluster.plan(&quinistry);
        cluster.apply(&plan);
        cluster.run();
    }
    assert_eq!(cluster.plan(&quinistry).nodes_without_carrier, ["node-3"]);
    cluster.observed.running.insert(
        "node-3".into(),
        vec![carrier::RunningImage { image: "registry.example.com/proxy:1".into(), secret: false }],
    );
    let plan = cluster.plan(&quinistry);
    assert!(plan.nodes_without_carrier.is_empty());
    let label = format!("node-3: {}", carrier::key("registry.example.com/proxy:1"));
    assert!(applied(&plan).contains(&label), "{:?}", applied(&plan));
}

#[test]
fn a_carrier_that_admission_pins_is_still_the_carrier_that_failed() {
    let (quinistry, mut cluster) = own();
    cluster.change_node("node-2", |node| {
        node.sandboxes = vec![PAUSE.into(), "other.example.com/pause:1".into()];
    });
    cluster.run_rounds(&quinistry);
    cluster.change_pods(0, |pod| {
        if pod.node.as_deref() == Some("node-2") {
            pod.image = format!("{PAUSE}@sha256:{}", "a".repeat(64));
            (pod.ready, pod.running) = (None, None);
            pod.waiting = Some(("ErrImageNeverPull".into(), String::new()));
        }
    });
    let label = carrier::key("other.example.com/pause:1");
    assert!(applied(&cluster.plan(&quinistry)).contains(&format!("node-2: {label}")));
}

#[test]
fn pulls_forced_by_admission_are_reported_and_no_other_carrier_is_tried() {
    let (quinistry, mut cluster) = own();
    cluster.starts_nothing = true;
    for _ in 0..3 {
        let plan = cluster.plan(&quinistry);
        cluster.apply(&plan);
        cluster.run();
    }
    cluster.change_pods(0, |pod| {
        pod.pull_policy = "Always".into();
        pod.waiting = Some(("ErrImagePull".into(), "no such host".into()));
    });
    let plan = cluster.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert_degraded(&plan, Reason::AlwaysPullImages);
    assert!(
        plan.conditions.degraded.message.contains("generation 0 on node-1"),
        "{:?}",
        plan.conditions.degraded
    );
}

#[test]
fn a_new_executable_replaces_one_generation_after_the_other_and_old_parts_go_last() {
    let (quinistry, mut cluster) = own();
    cluster.run_until_idle(&quinistry);
    let theirs = executable("theirs");
    let newer = Digest::sha256(b"a newer image");
    let upgrade = seeded(&theirs, &newer);
    cluster.serves = newer;
    cluster.bring(&theirs);
    let order = cluster.run_rounds(&upgrade);
    assert_eq!(&order[..3], ["+larder-gen0", "+larder", "+larder-gen2"]);
    let old = SeedNames::new("larder", &executable("ours"));
    let dropped: Vec<String> =
        SeedNames::parts(PART_COUNT).map(|part| format!("drop {}", old.of(part))).collect();
    assert_eq!(&order[3..], dropped);
    assert_eq!(cluster.run_until_idle(&upgrade).conditions.ready.status, "True");
}

#[test]
fn parts_of_an_upgrade_without_a_resource_yet_are_left_alone() {
    let (quinistry, mut cluster) = own();
    cluster.run_until_idle(&quinistry);
    cluster.bring(&executable("theirs"));
    assert_eq!(applied(&cluster.plan(&quinistry)), [""; 0]);
    cluster.now = at(2 * 3600);
    let dropped = applied(&cluster.plan(&quinistry));
    assert_eq!(
        dropped.iter().filter(|action| action.starts_with("drop")).count(),
        PART_COUNT + 1,
        "{dropped:?}"
    );
}

#[test]
fn an_operator_that_hands_over_raises_generation_0_alone() {
    let (quinistry, mut cluster) = own();
    cluster.run_until_idle(&quinistry);
    let (theirs, newer) = (executable("theirs"), Digest::sha256(b"a newer image"));
    let upgrade = seeded(&theirs, &newer);
    cluster.serves = newer;
    cluster.bring(&theirs);
    cluster.observed.own.hands_over = true;
    assert_eq!(cluster.run_rounds(&upgrade), ["+larder-gen0"]);
    let plan = cluster.run_until_idle(&upgrade);
    assert_eq!(plan.conditions.ready.status, "False");
    assert!(
        plan.conditions.progressing.message.contains("quinistry up"),
        "{:?}",
        plan.conditions.progressing
    );
    // The operator that the resource waited for.
    cluster.observed.own = OwnExecutable { executable: Some((theirs, PART_COUNT)), hands_over: true };
    assert_eq!(&cluster.run_rounds(&upgrade)[..2], ["+larder", "+larder-gen2"]);
}

#[test]
fn generation_0_goes_once_generation_1_stands_on_an_image() {
    let (quinistry, mut cluster) = own();
    cluster.run_until_idle(&quinistry);
    let other = pinned();
    let order = cluster.run_rounds(&other);
    let gone = order.iter().position(|action| action == "-larder-gen0").unwrap();
    assert!(order.iter().position(|action| action == "+larder").unwrap() < gone, "{order:?}");
    cluster.run_until_idle(&other);
    assert!(cluster.observed.parts.is_empty() && cluster.observed.daemon_set(0).is_none());
}

#[test]
fn ports_of_a_seed_begin_one_lower() {
    let (quinistry, mut cluster) = own();
    let mut rival = pinned();
    rival.metadata.uid = Some("uid-rival".into());
    rival.metadata.name = Some("rival".into());
    rival.metadata.creation_timestamp = Some(Time(at(-90)));
    rival.spec.base_port = 4997;
    cluster.observed.rivals = vec![super::rival(&rival)];
    assert_degraded(&cluster.plan(&quinistry), Reason::PortConflict);
}

#[test]
fn specifications_of_seeds_that_cannot_be_raised_are_refused() {
    for (spec, words) in [
        (json!({"seed": {"executable": "sha256:1"}, "digest": digest().as_str()}), "seed.executable"),
        (json!({"seed": {"executable": executable("a").as_str()}}), "digest must be set beside seed"),
        (
            json!({"seed": {"executable": executable("a").as_str(), "carriers": ["a b"]}, "digest": digest().as_str()}),
            "seed.carriers",
        ),
        (json!({}), "exactly one of image and seed"),
    ] {
        let plan = SimulatedCluster::new(1).plan(&quinistry(&spec));
        assert_degraded(&plan, Reason::InvalidSpec);
        assert!(plan.conditions.degraded.message.contains(words), "{:?}", plan.conditions.degraded);
    }
}

#[test]
fn questions_are_asked_in_order_and_each_once() {
    let (quinistry, mut cluster) = own();
    let resource = ValidResource::parse(&quinistry).unwrap();
    for _ in 0..4 {
        cluster.apply(&cluster.plan(&quinistry));
        cluster.run();
    }
    // No node names a carrier, one lacks its pod, and no pod was verified.
    cluster.change_node("node-1", |node| node.sandboxes = Vec::new());
    cluster.change_node("node-2", |node| node.sandboxes = Vec::new());
    cluster.change_node("node-3", |node| node.sandboxes = Vec::new());
    cluster.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-3"));
    cluster.now = at(600);
    let mut asked = Vec::new();
    loop {
        let step = plan(&resource, &cluster.observed, cluster.now);
        cluster.observed.queried = match step {
            PlanNeed::Carriers(_) => QueryStage::Carriers,
            PlanNeed::Events(_) => QueryStage::Events,
            PlanNeed::Fetch(_) => QueryStage::Pods,
            PlanNeed::Ready(_) => break,
        };
        asked.push(cluster.observed.queried);
    }
    assert_eq!(asked, [QueryStage::Carriers, QueryStage::Events, QueryStage::Pods], "whatever came of it");
    let suspended =
        Quinistry { spec: QuinistrySpec { suspend: true, ..quinistry.spec.clone() }, ..quinistry };
    cluster.observed.queried = QueryStage::Nothing;
    let step = plan(&ValidResource::parse(&suspended).unwrap(), &cluster.observed, cluster.now);
    assert!(!matches!(step, PlanNeed::Carriers(_)), "nothing would be done with a carrier");
}
