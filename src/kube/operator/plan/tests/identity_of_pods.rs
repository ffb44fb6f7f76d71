//! Pods and `DaemonSets` that look like the resource's own and are not.

use super::failures::standing;
use super::*;

/// Returns the pod of an impostor who may create pods: a copy of everything that can be copied.
fn impostor(world: &World, generation: i32, change: impl FnOnce(&mut Pod)) -> Arc<Pod> {
    let mut pod = world.observed.pods_of(generation).next().unwrap().clone();
    pod.name = "aaa".into();
    pod.start.uid = "uid-aaa".into();
    change(&mut pod);
    Arc::new(pod)
}

#[test]
fn a_copied_pod_does_not_carry_the_chain_on() {
    let quinistry = pinned();
    let another = |pod: &mut Pod| pod.controller.as_mut().unwrap().uid = "uid-other".into();
    let elsewhere = |pod: &mut Pod| pod.namespace = "elsewhere".into();
    let none = |pod: &mut Pod| {
        pod.controller = None;
        pod.namespace = "elsewhere".into();
    };
    let of_another_kind = |pod: &mut Pod| {
        let controller = pod.controller.as_mut().unwrap();
        (controller.kind, controller.uid) = ("ReplicaSet".into(), "uid-replica-set".into());
    };
    let disguises: [&dyn Fn(&mut Pod); 4] = [&another, &elsewhere, &none, &of_another_kind];
    for disguise in disguises {
        let mut world = World::new(2);
        world.obey(&world.plan(&quinistry));
        world.run();
        let copy = impostor(&world, 1, |pod| {
            disguise(pod);
            pod.node = Some("node-2".into());
        });
        world.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-2"));
        world.observed.pods.push(copy.clone());
        world.look(&world.plan(&quinistry));
        assert!(!world.observed.fetched.contains_key(&copy.start), "it is not even asked");
        let plan = world.plan(&quinistry);
        assert_eq!(applied(&plan), [""; 0]);
        assert_eq!(plan.generations[0].available, 1);
    }
}

/// The `DaemonSet` controller adopts pods that its selector finds and nothing controls.
#[test]
fn a_pod_that_is_about_to_be_adopted_counts() {
    let quinistry = pinned();
    let mut world = World::new(2);
    world.obey(&world.plan(&quinistry));
    world.run();
    for pod in &mut world.observed.pods {
        Arc::make_mut(pod).controller = None;
    }
    world.look(&world.plan(&quinistry));
    assert_eq!(world.plan(&quinistry).generations[0].available, 2);
}

#[test]
fn a_copied_pod_that_serves_something_else_raises_no_alarm() {
    let quinistry = pinned();
    let mut world = standing(&quinistry);
    let copy = impostor(&world, 1, |pod| {
        pod.namespace = "elsewhere".into();
        pod.ready = None;
        pod.ended = Some((3, "another".into()));
    });
    world.observed.fetched.insert(copy.start.clone(), Fetched::Whole(Digest::sha256(b"another")));
    world.observed.pods.push(copy);
    let plan = world.plan(&quinistry);
    assert_eq!((plan.words.ready.status, plan.words.fixed_point.status), ("True", "True"));
    assert_eq!(plan.deviations, []);
}

#[test]
fn a_copied_pod_does_not_keep_generations_from_going() {
    let mut quinistry = pinned();
    let mut world = standing(&quinistry);
    let copy = impostor(&world, 3, |pod| pod.controller.as_mut().unwrap().name = "meddler".into());
    quinistry.spec.generations = 1;
    world.obey(&world.plan(&quinistry));
    world.observed.pods.retain(|pod| pod.generation != 3);
    world.observed.pods.push(copy);
    assert_eq!(applied(&world.plan(&quinistry)), ["-larder-gen2"]);
}

#[test]
fn a_set_is_of_a_resource_by_its_owner_its_namespace_and_its_name() {
    let quinistry = pinned();
    let world = standing(&quinistry);
    let identity = Resource::parse(&quinistry).unwrap().identity;
    let changed = |change: fn(&mut DaemonSet)| {
        let mut set = world.observed.daemon_set(2).unwrap().clone();
        change(&mut set);
        set.is_of(&identity)
    };
    assert!(changed(|_| {}));
    assert!(!changed(|set| set.owner = "uid-other".into()));
    assert!(!changed(|set| set.namespace = "elsewhere".into()));
    assert!(!changed(|set| set.name = "aaa".into()));
    assert!(!changed(|set| set.generation = 1));
}
