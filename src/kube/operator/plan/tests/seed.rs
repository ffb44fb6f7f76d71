//! Generation 0: what it stands on, and in which order it comes and goes.

use super::*;
use crate::crd::QuinistrySpec;
use crate::operator::observed::{Asked, Holding, Own};
use crate::seed::{SeedNames, SeedPart as Which, carrier};

const PIECES: usize = 2;

fn executable(content: &str) -> Digest {
    Digest::sha256(content.as_bytes())
}

fn seeded(executable: &Digest, digest: &Digest) -> Quinistry {
    quinistry(&json!({
        "seed": {"executable": executable.as_str()}, "digest": digest.as_str(), "generations": 2,
    }))
}

/// A resource whose seed is the operator's own executable.
fn own() -> (Quinistry, World) {
    let ours = executable("ours");
    let mut world = World::new(3);
    world.observed.own = Own { executable: Some((ours.clone(), PIECES)), hands_over: false };
    (seeded(&ours, &digest()), world)
}

impl World {
    pub(super) fn restore(&mut self, which: Which, altered: Option<&str>) {
        self.observed.parts.retain(|part| altered != Some(part.uid.as_str()));
        let (executable, pieces) = self.observed.own.executable.clone().unwrap();
        self.add(&executable, pieces, which);
    }

    fn add(&mut self, executable: &Digest, pieces: usize, which: Which) {
        let names = SeedNames::new("larder", executable);
        self.counter += 1;
        self.observed.parts.push(Arc::new(Part {
            name: names.of(which),
            namespace: "pantry".into(),
            uid: format!("uid-part-{}", self.counter),
            resource: "larder".into(),
            seed: names.seed().into(),
            pieces,
            owners: vec!["uid-larder".into()],
            created: self.now,
            deleting: false,
        }));
    }

    /// All pieces of an executable.
    fn bring(&mut self, executable: &Digest) {
        for which in SeedNames::parts(PIECES) {
            self.add(executable, PIECES, which);
        }
    }

    fn pods(&self) -> Vec<&str> {
        self.observed.pods.iter().map(|pod| pod.start.uid.as_str()).collect()
    }
}

#[test]
fn generation_0_comes_first_and_the_next_pulls_from_it() {
    let (quinistry, mut world) = own();
    let order = world.play(&quinistry);
    let pieces = ["restore Stub", "restore Share(0)", "restore Piece(1)"];
    let sets = ["+larder-gen0", "+larder", "+larder-gen2"];
    assert_eq!(order, [&pieces[..], &sets[..]].concat());
    let plan = world.settle(&quinistry);
    assert_eq!(plan.words.ready.status, "True", "{:#?}", plan.words);
    let [zero, first, _] = &plan.generations[..] else { panic!("{:?}", plan.generations) };
    assert_eq!((zero.generation, zero.port, zero.image.as_str()), (0, 4999, PAUSE));
    assert_eq!(zero.daemon_set, "larder-gen0");
    assert_eq!(first.image, format!("localhost:4999/quinistry@{}", digest()));
    assert!(first.proofs.contains(&Proof::Fetched));
}

#[test]
fn a_seed_of_another_executable_needs_somebody_who_brings_it() {
    let (quinistry, mut world) = own();
    world.observed.own = Own::default();
    let plan = world.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert_degraded(&plan, Reason::SeedIncomplete);
    assert!(plan.words.degraded.message.contains("quinistry up"), "{:?}", plan.words.degraded);
    world.bring(&executable("ours"));
    assert_eq!(world.play(&quinistry), ["+larder-gen0", "+larder", "+larder-gen2"]);
    // What runs goes on running without the pieces; what is lost is told.
    world.observed.parts.pop();
    let plan = world.settle(&quinistry);
    assert_eq!(plan.words.ready.status, "True", "{:#?}", plan.words);
    assert_degraded(&plan, Reason::SeedIncomplete);
}

#[test]
fn pieces_that_were_there_before_the_resource_are_adopted() {
    let (quinistry, mut world) = own();
    world.bring(&executable("ours"));
    for part in &mut world.observed.parts {
        Arc::make_mut(part).owners.clear();
    }
    let plan = world.plan(&quinistry);
    assert_eq!(applied(&plan).iter().filter(|action| action.starts_with("adopt")).count(), PIECES + 1);
    world.settle(&quinistry);
    assert!(world.observed.parts.iter().all(|part| part.owners == ["uid-larder"]));
}

#[test]
fn a_lost_or_altered_piece_is_restored_and_pods_that_run_are_left_alone() {
    let (quinistry, mut world) = own();
    world.settle(&quinistry);
    let before: Vec<String> = world.pods().into_iter().map(Into::into).collect();
    let lost = world.observed.parts.remove(0);
    let altered = world.observed.parts[0].uid.clone();
    world.observed.altered.insert(altered);
    assert_eq!(world.play(&quinistry), ["restore Stub", "restore Share(0)"]);
    assert!(world.observed.parts.iter().any(|part| part.name == lost.name));
    assert_eq!(world.pods(), before);
}

#[test]
fn pods_that_started_with_an_altered_piece_make_way_until_their_kubelet_has_forgotten_it() {
    let (quinistry, mut world) = own();
    world.settle(&quinistry);
    let altered = world.observed.parts[1].uid.clone();
    world.observed.altered.insert(altered);
    // Nodes came back, and the stub refused what it found.
    world.change_pods(0, |pod| {
        pod.ready = None;
        pod.running = None;
        pod.ended = Some((crate::seed::exit::WRONG_DIGEST, "quinistry stub: another digest".into()));
    });
    world.now = at(100);
    let plan = world.plan(&quinistry);
    assert_eq!(applied(&plan), ["restore Share(0)"], "first the piece");
    world.obey(&plan);
    // A pod that follows at once would get the same from its kubelet.
    let plan = world.plan(&quinistry);
    let resting: Vec<String> = (1..=3).map(|n| format!("node-{n}: resting-{}", NOW + 100)).collect();
    assert_eq!(applied(&plan), resting);
    world.obey(&plan);
    world.observed.pods.retain(|pod| pod.generation != 0);
    assert_eq!(applied(&world.plan(&quinistry)), [""; 0]);
    world.now = at(110);
    assert_eq!(applied(&world.plan(&quinistry)), ["node-1: -", "node-2: -", "node-3: -"]);
    let plan = world.settle(&quinistry);
    assert_eq!(plan.words.ready.status, "True", "{:#?}", plan.words);
}

#[test]
fn pods_that_wait_for_a_lost_piece_are_replaced_once_it_is_there() {
    let (quinistry, mut world) = own();
    world.settle(&quinistry);
    world.observed.parts.remove(0);
    world.change_pods(0, |pod| {
        pod.ready = None;
        pod.running = None;
        pod.waiting = Some(("ContainerCreating".into(), String::new()));
    });
    world.now = at(100);
    let plan = world.plan(&quinistry);
    assert_eq!(applied(&plan), ["restore Stub"]);
    world.obey(&plan);
    let replaced = applied(&world.plan(&quinistry));
    assert!(
        replaced.len() == 3 && replaced.iter().all(|one| one.starts_with("~larder-gen0-")),
        "{replaced:?}"
    );
}

#[test]
fn a_node_with_another_carrier_has_a_daemon_set_of_that_one() {
    let (quinistry, mut world) = own();
    world.change_node("node-2", |node| node.sandboxes = vec!["other/pause:4".into()]);
    let plan = world.settle(&quinistry);
    assert_eq!(plan.words.ready.status, "True", "{:#?}", plan.words);
    let key = carrier::key("other/pause:4");
    assert_eq!(world.node("node-2").labels[labels::CARRIER], key);
    let mut sets: Vec<_> = world.observed.sets_of(0).map(|set| set.name.clone()).collect();
    sets.sort();
    assert_eq!(sets, ["larder-gen0".to_owned(), format!("larder-gen0-{key}")]);
    assert_eq!(plan.generations[0].image, format!("{PAUSE}, other/pause:4"));
    // The last node of a carrier takes its DaemonSet along.
    world.observed.nodes.retain(|node| node.name != "node-2");
    world.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-2"));
    world.settle(&quinistry);
    assert_eq!(world.observed.sets_of(0).count(), 1);
}

#[test]
fn a_node_without_any_carrier_is_named_and_holds_up_nobody() {
    let (quinistry, mut world) = own();
    world.change_node("node-3", |node| node.sandboxes = Vec::new());
    let mut plan = world.settle(&quinistry);
    // What its own pods run in is asked for, and then well-known names are tried.
    for _ in 0..20 {
        world.observed.running.insert("node-3".into(), Vec::new());
        world.obey(&plan);
        world.run();
        plan = world.settle(&quinistry);
    }
    assert_eq!(world.node("node-3").labels[labels::CARRIER], carrier::NONE);
    assert_eq!(plan.words.ready.status, "True", "{:#?}", plan.words);
    assert_degraded(&plan, Reason::NoCarrierImage);
    assert!(plan.words.degraded.message.contains("node-3"), "{:?}", plan.words.degraded);
    assert_eq!(plan.generations[0].available, 2);
    // Somebody puts one there.
    world.change_node("node-3", |node| node.sandboxes = vec![PAUSE.into()]);
    let plan = world.settle(&quinistry);
    assert_eq!(plan.generations[0].available, 3);
    assert_eq!(plan.words.degraded.status, "False", "{:#?}", plan.words);
}

#[test]
fn of_two_seeds_one_labels_the_nodes() {
    let (quinistry, mut world) = own();
    world.change_node("node-2", |node| node.sandboxes = vec!["other/pause:4".into()]);
    world.bring(&executable("ours"));
    let labels = |plan: &Plan| plan.actions.iter().any(|action| matches!(action, Action::Label { .. }));
    assert!(labels(&world.plan(&quinistry)));
    let mut rival = seeded(&executable("ours"), &digest());
    rival.metadata.uid = Some("uid-rival".into());
    rival.metadata.creation_timestamp = Some(Time(at(-90)));
    rival.spec.base_port = 7000;
    world.observed.rivals = vec![super::rival(&rival)];
    // Of one that has not come up nobody has anything.
    assert!(labels(&world.plan(&quinistry)));
    let holding = |serves_seed| Holding { since: at(-30), has_pods: true, serves_seed };
    world.observed.holdings = [("uid-rival".to_owned(), holding(false))].into();
    assert!(labels(&world.plan(&quinistry)), "its pods are not Ready");
    world.observed.holdings = [("uid-rival".to_owned(), holding(true))].into();
    assert!(!labels(&world.plan(&quinistry)));
}

#[test]
fn nodes_whose_carrier_fails_are_strangers_until_they_were_asked() {
    let (quinistry, mut world) = own();
    world.change_node("node-3", |node| node.sandboxes = Vec::new());
    for _ in 0..3 {
        let plan = world.plan(&quinistry);
        world.obey(&plan);
        world.run();
    }
    assert_eq!(world.plan(&quinistry).strangers, ["node-3"]);
    world.observed.running.insert(
        "node-3".into(),
        vec![carrier::RunningImage { image: "registry.example.com/proxy:1".into(), secret: false }],
    );
    let plan = world.plan(&quinistry);
    assert!(plan.strangers.is_empty());
    let label = format!("node-3: {}", carrier::key("registry.example.com/proxy:1"));
    assert!(applied(&plan).contains(&label), "{:?}", applied(&plan));
}

#[test]
fn a_carrier_that_admission_pins_is_still_the_carrier_that_failed() {
    let (quinistry, mut world) = own();
    world.change_node("node-2", |node| {
        node.sandboxes = vec![PAUSE.into(), "other.example.com/pause:1".into()];
    });
    world.play(&quinistry);
    world.change_pods(0, |pod| {
        if pod.node.as_deref() == Some("node-2") {
            pod.image = format!("{PAUSE}@sha256:{}", "a".repeat(64));
            (pod.ready, pod.running) = (None, None);
            pod.waiting = Some(("ErrImageNeverPull".into(), String::new()));
        }
    });
    let label = carrier::key("other.example.com/pause:1");
    assert!(applied(&world.plan(&quinistry)).contains(&format!("node-2: {label}")));
}

#[test]
fn pulls_that_admission_forces_are_told_and_no_other_carrier_is_tried() {
    let (quinistry, mut world) = own();
    world.starts_nothing = true;
    for _ in 0..3 {
        let plan = world.plan(&quinistry);
        world.obey(&plan);
        world.run();
    }
    world.change_pods(0, |pod| {
        pod.pull_policy = "Always".into();
        pod.waiting = Some(("ErrImagePull".into(), "no such host".into()));
    });
    let plan = world.plan(&quinistry);
    assert_eq!(applied(&plan), [""; 0]);
    assert_degraded(&plan, Reason::AlwaysPullImages);
    assert!(plan.words.degraded.message.contains("generation 0 on node-1"), "{:?}", plan.words.degraded);
}

#[test]
fn a_new_executable_replaces_generation_after_generation_and_old_pieces_go_last() {
    let (quinistry, mut world) = own();
    world.settle(&quinistry);
    let theirs = executable("theirs");
    let newer = Digest::sha256(b"a newer image");
    let upgrade = seeded(&theirs, &newer);
    world.serves = newer;
    world.bring(&theirs);
    let order = world.play(&upgrade);
    assert_eq!(&order[..3], ["+larder-gen0", "+larder", "+larder-gen2"]);
    let old = SeedNames::new("larder", &executable("ours"));
    let dropped: Vec<String> =
        SeedNames::parts(PIECES).map(|part| format!("drop {}", old.of(part))).collect();
    assert_eq!(&order[3..], dropped);
    assert_eq!(world.settle(&upgrade).words.ready.status, "True");
}

#[test]
fn pieces_of_an_upgrade_that_is_about_to_be_said_are_left_alone() {
    let (quinistry, mut world) = own();
    world.settle(&quinistry);
    world.bring(&executable("theirs"));
    assert_eq!(applied(&world.plan(&quinistry)), [""; 0]);
    world.now = at(2 * 3600);
    let dropped = applied(&world.plan(&quinistry));
    assert_eq!(dropped.iter().filter(|action| action.starts_with("drop")).count(), PIECES + 1, "{dropped:?}");
}

#[test]
fn an_operator_that_hands_over_raises_generation_0_alone() {
    let (quinistry, mut world) = own();
    world.settle(&quinistry);
    let (theirs, newer) = (executable("theirs"), Digest::sha256(b"a newer image"));
    let upgrade = seeded(&theirs, &newer);
    world.serves = newer;
    world.bring(&theirs);
    world.observed.own.hands_over = true;
    assert_eq!(world.play(&upgrade), ["+larder-gen0"]);
    let plan = world.settle(&upgrade);
    assert_eq!(plan.words.ready.status, "False");
    assert!(plan.words.progressing.message.contains("quinistry up"), "{:?}", plan.words.progressing);
    // The operator that it waited for.
    world.observed.own = Own { executable: Some((theirs, PIECES)), hands_over: true };
    assert_eq!(&world.play(&upgrade)[..2], ["+larder", "+larder-gen2"]);
}

#[test]
fn generation_0_goes_once_generation_1_stands_on_an_image() {
    let (quinistry, mut world) = own();
    world.settle(&quinistry);
    let other = pinned();
    let order = world.play(&other);
    let gone = order.iter().position(|action| action == "-larder-gen0").unwrap();
    assert!(order.iter().position(|action| action == "+larder").unwrap() < gone, "{order:?}");
    world.settle(&other);
    assert!(world.observed.parts.is_empty() && world.observed.daemon_set(0).is_none());
}

#[test]
fn ports_of_a_seed_begin_one_lower() {
    let (quinistry, mut world) = own();
    let mut rival = pinned();
    rival.metadata.uid = Some("uid-rival".into());
    rival.metadata.name = Some("rival".into());
    rival.metadata.creation_timestamp = Some(Time(at(-90)));
    rival.spec.base_port = 4997;
    world.observed.rivals = vec![super::rival(&rival)];
    assert_degraded(&world.plan(&quinistry), Reason::PortConflict);
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
        let plan = World::new(1).plan(&quinistry(&spec));
        assert_degraded(&plan, Reason::InvalidSpec);
        assert!(plan.words.degraded.message.contains(words), "{:?}", plan.words.degraded);
    }
}

#[test]
fn questions_are_asked_in_order_and_each_once() {
    let (quinistry, mut world) = own();
    let resource = Resource::parse(&quinistry).unwrap();
    for _ in 0..4 {
        world.obey(&world.plan(&quinistry));
        world.run();
    }
    // No node names a carrier, one lacks its pod, and nothing was fetched.
    world.change_node("node-1", |node| node.sandboxes = Vec::new());
    world.change_node("node-2", |node| node.sandboxes = Vec::new());
    world.change_node("node-3", |node| node.sandboxes = Vec::new());
    world.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-3"));
    world.now = at(600);
    let mut asked = Vec::new();
    loop {
        let step = plan(&resource, &world.observed, world.now);
        world.observed.asked = match step {
            Step::Carriers(_) => Asked::Carriers,
            Step::Events(_) => Asked::Events,
            Step::Fetch(_) => Asked::Pods,
            Step::Ready(_) => break,
        };
        asked.push(world.observed.asked);
    }
    assert_eq!(asked, [Asked::Carriers, Asked::Events, Asked::Pods], "whatever came of it");
    let suspended =
        Quinistry { spec: QuinistrySpec { suspend: true, ..quinistry.spec.clone() }, ..quinistry };
    world.observed.asked = Asked::Nothing;
    let step = plan(&Resource::parse(&suspended).unwrap(), &world.observed, world.now);
    assert!(!matches!(step, Step::Carriers(_)), "nothing would be done with a carrier");
}
