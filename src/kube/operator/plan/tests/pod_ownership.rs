//! Pods and `DaemonSets` that look like the resource's own and are not.

use super::failures::proven_cluster;
use super::*;

/// Returns the pod of an attacker who may create pods: a copy of everything that can be copied.
fn impostor(
    cluster: &SimulatedCluster,
    generation: i32,
    change: impl FnOnce(&mut ObservedPod),
) -> Arc<ObservedPod> {
    let mut pod = cluster.observed.pods_of(generation).next().unwrap().clone();
    pod.name = "aaa".into();
    pod.start.uid = "uid-aaa".into();
    change(&mut pod);
    Arc::new(pod)
}

#[test]
fn a_copied_pod_does_not_carry_the_chain_on() {
    let quinistry = pinned();
    let another = |pod: &mut ObservedPod| pod.controller.as_mut().unwrap().uid = "uid-other".into();
    let elsewhere = |pod: &mut ObservedPod| pod.namespace = "elsewhere".into();
    let none = |pod: &mut ObservedPod| {
        pod.controller = None;
        pod.namespace = "elsewhere".into();
    };
    let of_another_kind = |pod: &mut ObservedPod| {
        let controller = pod.controller.as_mut().unwrap();
        (controller.kind, controller.uid) = ("ReplicaSet".into(), "uid-replica-set".into());
    };
    let disguises: [&dyn Fn(&mut ObservedPod); 4] = [&another, &elsewhere, &none, &of_another_kind];
    for disguise in disguises {
        let mut cluster = SimulatedCluster::new(2);
        cluster.apply(&cluster.plan(&quinistry));
        cluster.run();
        let copy = impostor(&cluster, 1, |pod| {
            disguise(pod);
            pod.node = Some("node-2".into());
        });
        cluster.observed.pods.retain(|pod| pod.node.as_deref() != Some("node-2"));
        cluster.observed.pods.push(copy.clone());
        cluster.verify(&cluster.plan(&quinistry));
        assert!(!cluster.observed.fetched.contains_key(&copy.start), "it is not even asked");
        let plan = cluster.plan(&quinistry);
        assert_eq!(applied(&plan), [""; 0]);
        assert_eq!(plan.generations[0].available, 1);
    }
}

/// The `DaemonSet` controller adopts pods that its selector finds and nothing controls.
#[test]
fn a_pod_that_is_about_to_be_adopted_counts() {
    let quinistry = pinned();
    let mut cluster = SimulatedCluster::new(2);
    cluster.apply(&cluster.plan(&quinistry));
    cluster.run();
    for pod in &mut cluster.observed.pods {
        Arc::make_mut(pod).controller = None;
    }
    cluster.verify(&cluster.plan(&quinistry));
    assert_eq!(cluster.plan(&quinistry).generations[0].available, 2);
}

#[test]
fn a_copied_pod_that_serves_something_else_raises_no_alarm() {
    let quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    let copy = impostor(&cluster, 1, |pod| {
        pod.namespace = "elsewhere".into();
        pod.ready = None;
        pod.ended = Some((3, "another".into()));
    });
    cluster.observed.fetched.insert(copy.start.clone(), FetchResult::Whole(Digest::sha256(b"another")));
    cluster.observed.pods.push(copy);
    let plan = cluster.plan(&quinistry);
    assert_eq!((plan.conditions.ready.status, plan.conditions.fixed_point.status), ("True", "True"));
    assert_eq!(plan.deviations, []);
}

#[test]
fn a_copied_pod_does_not_keep_generations_from_going() {
    let mut quinistry = pinned();
    let mut cluster = proven_cluster(&quinistry);
    let copy = impostor(&cluster, 3, |pod| pod.controller.as_mut().unwrap().name = "meddler".into());
    quinistry.spec.generations = 1;
    cluster.apply(&cluster.plan(&quinistry));
    cluster.observed.pods.retain(|pod| pod.generation != 3);
    cluster.observed.pods.push(copy);
    assert_eq!(applied(&cluster.plan(&quinistry)), ["-larder-gen2"]);
}

#[test]
fn a_set_is_of_a_resource_by_its_owner_its_namespace_and_its_name() {
    let quinistry = pinned();
    let cluster = proven_cluster(&quinistry);
    let identity = ValidResource::parse(&quinistry).unwrap().identity;
    let changed = |change: fn(&mut ObservedDaemonSet)| {
        let mut set = cluster.observed.daemon_set(2).unwrap().clone();
        change(&mut set);
        set.is_of(&identity)
    };
    assert!(changed(|_| {}));
    assert!(!changed(|set| set.owner = "uid-other".into()));
    assert!(!changed(|set| set.namespace = "elsewhere".into()));
    assert!(!changed(|set| set.name = "aaa".into()));
    assert!(!changed(|set| set.generation = 1));
}
