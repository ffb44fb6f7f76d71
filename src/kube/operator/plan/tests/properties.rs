//! Properties of every plan.

use super::*;

/// A small random generator with a seed, so that a failing case can be repeated.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Changes the cluster to a random state, possible or not.
fn scramble(random: &mut Xorshift, cluster: &mut SimulatedCluster) {
    for pod in &mut cluster.observed.pods {
        let pod = Arc::make_mut(pod);
        match random.below(12) {
            0 => pod.ready = None,
            1 => pod.template = Some("older".into()),
            2 => pod.deleting = true,
            3 => {
                pod.ready = None;
                pod.running = None;
                pod.waiting = Some(("ImagePullBackOff".into(), "nothing there".into()));
            }
            4 => pod.ended = Some((3, "another".into())),
            5 => pod.start.restarts = 4,
            6 => pod.created = at(-1000),
            _ => {}
        }
    }
    for node in &mut cluster.observed.nodes {
        if random.below(5) == 0 {
            Arc::make_mut(node).ready = false;
        }
    }
    cluster.observed.pods.retain(|_| random.below(8) != 0);
    cluster.observed.daemon_sets.retain(|_| random.below(8) != 0);
    for set in &mut cluster.observed.daemon_sets {
        match random.below(8) {
            0 => Arc::make_mut(set).is_observed = false,
            1 => Arc::make_mut(set).deleting = true,
            2 => Arc::make_mut(set).applied = None,
            _ => {}
        }
    }
    let starts: Vec<_> = cluster.observed.fetched.keys().cloned().collect();
    for start in starts {
        match random.below(10) {
            0 => drop(cluster.observed.fetched.remove(&start)),
            1 => drop(cluster.observed.fetched.insert(start, FetchResult::Whole(Digest::sha256(b"another")))),
            2 => drop(cluster.observed.fetched.insert(start, FetchResult::Failed("no route".into()))),
            _ => {}
        }
    }
}

fn cases(mut check: impl FnMut(u64, &mut Xorshift, Quinistry, SimulatedCluster)) {
    for seed in 1..400_u64 {
        let mut random = Xorshift(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let before = if random.below(2) == 0 { pinned() } else { learning() };
        let nodes = usize::try_from(random.below(4)).unwrap();
        let mut cluster = SimulatedCluster::new(nodes);
        for _ in 0..random.below(8) {
            let plan = cluster.plan(&before);
            cluster.apply(&plan);
            cluster.run();
            let plan = cluster.plan(&before);
            cluster.verify(&plan);
        }
        let mut after = before;
        after.spec.generations = i32::try_from(random.below(6)).unwrap() + 1;
        if random.below(4) == 0 {
            after.spec.image = Some("registry.example.com/larder:2".into());
        }
        scramble(&mut random, &mut cluster);
        check(seed, &mut random, after, cluster);
    }
}

#[test]
fn no_generation_is_applied_before_its_predecessor_is_proven() {
    cases(|seed, _, quinistry, cluster| {
        let plan = cluster.plan(&quinistry);
        for action in &plan.actions {
            let Action::Apply(set) = action else { continue };
            let number: i32 = set.metadata.labels.as_ref().unwrap()[labels::GENERATION].parse().unwrap();
            if number == 1 {
                continue;
            }
            let before = &plan.generations[usize::try_from(number - 2).unwrap()];
            // Computed independently of the plan: a pod of the right template, Ready, on every ready node.
            let hash = cluster
                .observed
                .daemon_set(number - 1)
                .map(|set| set.spec["template"]["metadata"]["annotations"][annotations::TEMPLATE].clone());
            let hash = hash.expect("a predecessor");
            for node in cluster.observed.nodes.iter().filter(|node| node.ready) {
                let stands = cluster.observed.pods_of(number - 1).any(|pod| {
                    pod.node.as_ref() == Some(&node.name)
                        && pod.ready.is_some()
                        && !pod.deleting
                        && pod.template.as_deref() == hash.as_str()
                });
                assert!(stands, "seed {seed}: generation {number} too early on {}", node.name);
            }
            assert!(before.available > 0, "seed {seed}");
        }
    });
}

#[test]
fn deletes_come_from_the_top_one_at_a_time() {
    cases(|seed, _, quinistry, cluster| {
        let plan = cluster.plan(&quinistry);
        let deleted: Vec<i32> = plan
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::Delete { generation, .. } => Some(*generation),
                _ => None,
            })
            .collect();
        assert!(deleted.len() <= 1, "seed {seed}: {deleted:?}");
        for number in deleted {
            assert!(number > quinistry.spec.generations, "seed {seed}");
            let higher = cluster.observed.daemon_sets.iter().any(|set| set.generation > number);
            assert!(!higher, "seed {seed}: {number} is not the highest");
        }
    });
}

#[test]
fn an_obeyed_plan_leaves_nothing_to_apply() {
    cases(|seed, _, quinistry, mut cluster| {
        // Deletions are made one after the other, all other actions at once.
        for _ in 0..8 {
            let plan = cluster.plan(&quinistry);
            cluster.apply(&plan);
        }
        assert_eq!(cluster.plan(&quinistry).actions, Vec::new(), "seed {seed}");
    });
}

#[test]
fn ready_is_true_if_and_only_if_all_generations_count() {
    cases(|seed, _, quinistry, cluster| {
        let plan = cluster.plan(&quinistry);
        let counted = crate::crd::QuinistryStatus::proven(&plan.generations);
        if plan.conditions.ready.status == "True" {
            assert_eq!(i32::try_from(counted).unwrap(), quinistry.spec.generations, "seed {seed}");
        }
    });
}

#[test]
fn a_node_without_a_generation_is_named_once_it_was_waited_for_too_long() {
    cases(|seed, _, quinistry, mut cluster| {
        cluster.apply(&cluster.plan(&quinistry));
        cluster.now = at(100_000);
        let plan = cluster.plan(&quinistry);
        for view in &plan.generations {
            let Some(set) = cluster.observed.daemon_set(view.generation) else { continue };
            let template = &set.spec["template"]["metadata"]["annotations"][annotations::TEMPLATE];
            for node in cluster.observed.nodes.iter().filter(|node| node.ready) {
                let stands = cluster.observed.pods_of(view.generation).any(|pod| {
                    let current = pod.template.as_deref() == template.as_str();
                    pod.node.as_ref() == Some(&node.name) && pod.ready.is_some() && !pod.deleting && current
                });
                let named = plan
                    .deviations
                    .iter()
                    .any(|one| (one.generation, &one.node) == (view.generation, &node.name));
                assert!(stands || named || !plan.actions.is_empty(), "seed {seed}: {view:?} {}", node.name);
            }
        }
    });
}

const NO_REFUSALS: [&str; 3] = ["AllProven", "RollingOut", "PortConflict"];

/// A sample of reasons, including those for which nothing of a resource can run.
const REASONS: [&str; 8] = [
    "AllProven",
    "RollingOut",
    "PortConflict",
    "InvalidSpec",
    "ApplyRejected",
    "PodSecurityForbidden",
    "NamespaceTerminating",
    "NoNodes",
];

/// Returns a random status with one of these reasons.
fn status(random: &mut Xorshift, reasons: &[&str]) -> crate::crd::QuinistryStatus {
    let generation = |number: i32, state: &str, available: u64| {
        json!({"generation": number, "daemonSet": "d", "port": 5000, "image": "i", "state": state, "desired": 2,
            "updated": 2, "available": available, "verified": 2})
    };
    let ready = ["True", "False", "Unknown"][usize::try_from(random.below(3)).unwrap()];
    let reason = reasons[usize::try_from(random.below(reasons.len() as u64)).unwrap()];
    let state = ["Waiting", "Rolling", "Ready", "Failed"][usize::try_from(random.below(4)).unwrap()];
    serde_json::from_value(json!({
        "observedGeneration": random.below(9), "ready": "9/9", "digest": "sha256:nonsense",
        "conditions": [{
            "type": "Ready", "status": ready, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
        "generations": [generation(0, state, random.below(3)), generation(1, state, random.below(3))],
        "deviations": [{"node": "node-1", "generation": 1, "reason": "CrashLoop", "message": ""}],
    }))
    .unwrap()
}

#[test]
fn the_status_of_the_planned_resource_is_never_read() {
    cases(|seed, random, quinistry, cluster| {
        let told = Quinistry { status: Some(status(random, &REASONS)), ..quinistry.clone() };
        assert!(cluster.plan(&quinistry) == cluster.plan(&told), "seed {seed}");
    });
}

#[test]
fn only_a_refusal_in_another_resources_status_counts() {
    cases(|seed, random, mut quinistry, mut cluster| {
        let executable = Digest::sha256(b"an executable");
        if random.below(2) == 0 {
            quinistry.spec.image = None;
            quinistry.spec.digest = Some(digest().to_string());
            quinistry.spec.seed =
                Some(crate::crd::SeedSpec { executable: executable.to_string(), carriers: Vec::new() });
        }
        let mut rival = quinistry.clone();
        rival.metadata.uid = Some("uid-rival".into());
        rival.metadata.creation_timestamp = Some(Time(at(-7200)));
        rival.spec.base_port += i32::try_from(random.below(2)).unwrap() * 100;
        cluster.observed.rivals = vec![super::rival(&rival)];
        let silent = cluster.plan(&quinistry);
        rival.status = Some(status(random, &NO_REFUSALS));
        cluster.observed.rivals = vec![super::rival(&rival)];
        assert!(cluster.plan(&quinistry) == silent, "seed {seed}");
    });
}

#[test]
fn nothing_is_done_while_another_owns_the_ports_or_when_suspended_or_going() {
    cases(|seed, random, quinistry, mut cluster| {
        let mut rival = quinistry.clone();
        rival.metadata.uid = Some("uid-rival".into());
        rival.metadata.creation_timestamp = Some(Time(at(-7200)));
        rival.spec.base_port += i32::try_from(random.below(2)).unwrap();
        rival.spec.generations = 2;
        if quinistry.spec.generations > 1 || rival.spec.base_port == quinistry.spec.base_port {
            cluster.observed.rivals = vec![super::rival(&rival)];
            let plan = cluster.plan(&quinistry);
            assert_eq!(plan.actions, Vec::new(), "seed {seed}");
            assert_eq!(plan.conditions.ports_available.reason, Reason::PortConflict, "seed {seed}");
            cluster.observed.rivals.clear();
        }
        let mut paused = quinistry.clone();
        paused.spec.suspend = true;
        assert_eq!(cluster.plan(&paused).actions, Vec::new(), "seed {seed}");
        let mut going = quinistry;
        going.metadata.deletion_timestamp = Some(Time(at(0)));
        assert!(
            cluster.plan(&going).requeue == Requeue::Never && cluster.plan(&going).actions.is_empty(),
            "seed {seed}"
        );
    });
}

#[test]
fn a_running_child_is_never_taken_away() {
    cases(|seed, _, quinistry, cluster| {
        let plan = cluster.plan(&quinistry);
        for action in &plan.actions {
            let Action::Replace { uid, .. } = action else { continue };
            let pod = cluster.observed.pods.iter().find(|pod| pod.start.uid == *uid).unwrap();
            assert!(
                pod.running.is_none() && pod.ready.is_none() && pod.generation > 1,
                "seed {seed}: {pod:?}"
            );
        }
    });
}
