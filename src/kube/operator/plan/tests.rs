//! A small simulated cluster that obeys plans, and the tests of plans in it.

mod failures;
mod nodes;
mod pod_ownership;
mod ports;
mod properties;
mod seed;
mod stuck_nodes;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use quinistry_oci::Digest;
use serde_json::json;

use super::super::build;
use super::super::observed::{
    Controller, FetchResult, ObservedDaemonSet, ObservedNode, ObservedPart, ObservedPod, ObservedState,
    PodStart,
};
use super::super::resource::{ValidResource, WatchedResource};
use super::super::rival::Rival;
use super::{Action, PlanNeed, ReconcilePlan, Requeue, plan, plan_as_observed};
use crate::api::names::{MAIN_CARRIER, annotations, labels};
use crate::crd::{GenerationState, Proof, Quinistry, Reason};

/// Time at which the tests start.
const NOW: i64 = 1_800_000_000;

/// Image that every node has by default.
const PAUSE: &str = "registry.example.com/pause:3";

fn at(offset: i64) -> Timestamp {
    Timestamp::from_second(NOW + offset).unwrap()
}

fn digest() -> Digest {
    Digest::sha256(b"the image")
}

fn uid_of(set: &str) -> String {
    format!("uid-of-{set}")
}

fn quinistry(spec: &serde_json::Value) -> Quinistry {
    let mut quinistry: Quinistry = serde_json::from_value(json!({
        "apiVersion": "quinistry.dev/v1alpha1",
        "kind": "Quinistry",
        "metadata": {"name": "larder", "namespace": "pantry", "uid": "uid-larder", "generation": 1},
        "spec": spec,
    }))
    .unwrap();
    quinistry.metadata.creation_timestamp = Some(Time(at(-60)));
    quinistry
}

/// Returns a resource with three generations of a bootstrap image whose digest is given.
fn pinned() -> Quinistry {
    quinistry(
        &json!({"image": "registry.example.com/larder:1", "digest": digest().as_str(), "generations": 3}),
    )
}

/// Returns a resource with three generations whose digest is to be learned.
fn learning() -> Quinistry {
    quinistry(&json!({"image": "registry.example.com/larder:1", "generations": 3}))
}

/// Returns a resource as a rival of another one.
fn rival(quinistry: &Quinistry) -> Arc<Rival> {
    let watched = WatchedResource::new(serde_json::from_value(json!(quinistry)).unwrap()).unwrap();
    watched.rival().unwrap().clone()
}

#[derive(Clone)]
struct SimulatedCluster {
    observed: ObservedState,
    now: Timestamp,
    /// Digest that newly started processes serve.
    serves: Digest,
    /// True if pods are created but none of them starts.
    starts_nothing: bool,
    counter: u32,
}

impl SimulatedCluster {
    fn new(nodes: usize) -> Self {
        let nodes = (1..=nodes).map(|number| Arc::new(node(&format!("node-{number}")))).collect();
        let observed = ObservedState { nodes, ..ObservedState::default() };
        Self { observed, now: at(0), serves: digest(), starts_nothing: false, counter: 0 }
    }

    fn plan(&self, quinistry: &Quinistry) -> ReconcilePlan {
        match ValidResource::parse(quinistry) {
            Ok(resource) => plan_as_observed(&resource, &self.observed, self.now),
            Err(unfit) => unfit.plan(),
        }
    }

    /// Carries out the plan, and nothing else: no pod starts by it.
    fn apply(&mut self, plan: &ReconcilePlan) {
        for action in &plan.actions {
            match action {
                Action::Apply(set) => {
                    let generation = build::generation(set).unwrap();
                    let name = set.metadata.name.clone().unwrap();
                    let earlier = self.observed.daemon_sets.iter().find(|set| set.name == name);
                    let created = earlier.map_or(self.now, |set| set.created);
                    self.observed.daemon_sets.retain(|set| set.name != name);
                    self.observed.daemon_sets.push(Arc::new(ObservedDaemonSet {
                        uid: uid_of(&name),
                        name,
                        owner: "uid-larder".into(),
                        namespace: "pantry".into(),
                        generation,
                        carrier: set.metadata.labels.as_ref().unwrap().get(labels::CARRIER).cloned(),
                        applied: Some(build::applied(set).into()),
                        labels: set.metadata.labels.clone().unwrap(),
                        server_generation: 1,
                        version: 1,
                        accepted: false,
                        spec: serde_json::to_value(&set.spec).unwrap(),
                        is_observed: true,
                        desired: 0,
                        deleting: false,
                        created,
                        changed: self.now,
                    }));
                }
                Action::Delete { name, .. } => {
                    self.observed.daemon_sets.retain(|set| set.name != *name);
                    let of_it =
                        |pod: &ObservedPod| pod.name.rsplit_once('-').is_some_and(|(of, _)| of == name);
                    self.observed.pods.retain(|pod| !of_it(pod));
                }
                Action::Replace { uid, .. } => self.observed.pods.retain(|pod| pod.start.uid != *uid),
                Action::Restore { part, altered } => self.restore(*part, altered.as_deref()),
                Action::Adopt { part } => {
                    for found in self.observed.parts.iter_mut().filter(|found| found.name == *part) {
                        Arc::make_mut(found).owners.push("uid-larder".into());
                    }
                }
                Action::Drop(part) => self.observed.parts.retain(|found| found.uid != part.uid),
                Action::Label { node, label, tried } => self.change_node(node, |node| {
                    node.tried.clone_from(tried);
                    node.labels.remove(labels::CARRIER);
                    node.labels.extend(label.clone().map(|label| (labels::CARRIER.to_owned(), label)));
                }),
            }
        }
    }

    /// Runs the controller and the kubelets: a Ready pod of the current template on every ready node.
    fn run(&mut self) {
        self.now = Timestamp::from_second(self.now.as_second() + 1).unwrap();
        for set in self.observed.daemon_sets.clone() {
            for node in self.observed.nodes.clone().iter().filter(|node| node.ready) {
                self.start(&set, node);
            }
        }
    }

    fn start(&mut self, set: &ObservedDaemonSet, node: &ObservedNode) {
        let template = &set.spec["template"];
        let hash = template["metadata"]["annotations"][annotations::TEMPLATE].as_str().unwrap().to_owned();
        let made_by = |pod: &ObservedPod| pod.name.rsplit_once('-').is_some_and(|(of, _)| of == set.name);
        let on_it = |pod: &Arc<ObservedPod>| made_by(pod) && pod.node.as_ref() == Some(&node.name);
        let image = template["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
        let mut waiting = None;
        if let Some(carrier) = &set.carrier {
            if node.labels.get(labels::CARRIER).map_or(MAIN_CARRIER, String::as_str) != carrier {
                self.observed.pods.retain(|pod| !on_it(pod));
                return;
            }
            if !node.sandboxes.contains(&image) {
                waiting = Some(("ErrImageNeverPull".to_owned(), String::new()));
            }
        }
        let starts = waiting.is_none() && !self.starts_nothing;
        if self.observed.pods.iter().any(|pod| on_it(pod) && pod.template.as_deref() == Some(&hash)) {
            return;
        }
        self.observed.pods.retain(|pod| !on_it(pod));
        self.counter += 1;
        let started = starts.then_some(self.now);
        let start = PodStart { uid: format!("uid-{}", self.counter), started, ..PodStart::default() };
        self.observed.pods.push(Arc::new(ObservedPod {
            name: format!("{}-{}", set.name, self.counter),
            namespace: "pantry".into(),
            start,
            resource: "uid-larder".into(),
            controller: Some(Controller {
                kind: "DaemonSet".into(),
                name: set.name.clone(),
                uid: set.uid.clone(),
            }),
            generation: set.generation,
            node: Some(node.name.clone()),
            template: Some(hash),
            image,
            pull_policy: template["spec"]["containers"][0]["imagePullPolicy"].as_str().unwrap().into(),
            ip: Some(format!("10.0.0.{}", self.counter)),
            deleting: false,
            ends: None,
            created: self.now,
            seen: self.now,
            unready: None,
            failed: None,
            ready: starts.then_some(self.now),
            running: starts.then_some(self.now),
            image_id: format!("localhost:5000/quinistry@{}", self.serves),
            waiting,
            ended: None,
            unschedulable: None,
        }));
    }

    /// Verifies all pods that the plan asks for.
    fn verify(&mut self, plan: &ReconcilePlan) {
        for request in &plan.verify {
            self.observed.fetched.insert(request.start.clone(), FetchResult::Whole(self.serves.clone()));
        }
    }

    /// Runs more rounds than any chain needs, and returns all actions in order.
    fn run_rounds(&mut self, quinistry: &Quinistry) -> Vec<String> {
        let mut order = Vec::new();
        for _ in 0..12 {
            let plan = self.plan(quinistry);
            order.extend(applied(&plan));
            self.apply(&plan);
            self.run();
            let plan = self.plan(quinistry);
            self.verify(&plan);
        }
        order
    }

    /// Runs rounds until nothing changes.
    fn run_until_idle(&mut self, quinistry: &Quinistry) -> ReconcilePlan {
        for _ in 0..60 {
            let plan = self.plan(quinistry);
            if plan.actions.is_empty() && plan.verify.is_empty() && !self.is_idle(&plan) {
                return plan;
            }
            self.apply(&plan);
            self.run();
            self.verify(&plan);
            let plan = self.plan(quinistry);
            self.verify(&plan);
        }
        self.plan(quinistry)
    }

    fn is_idle(&self, plan: &ReconcilePlan) -> bool {
        let _ = self;
        plan.conditions.ready.status != "True"
            && plan.generations.iter().any(|one| one.state == GenerationState::Rolling)
    }

    fn change_pods(&mut self, generation: i32, change: impl Fn(&mut ObservedPod)) {
        for pod in self.observed.pods.iter_mut().filter(|pod| pod.generation == generation) {
            change(Arc::make_mut(pod));
        }
    }

    /// Changes the pod of a generation on a node.
    fn change_pod_on(&mut self, generation: i32, node: &str, change: impl Fn(&mut ObservedPod)) {
        self.change_pods(generation, |pod| {
            if pod.node.as_deref() == Some(node) {
                change(pod);
            }
        });
    }

    /// Keeps the times of one plan for the next, as the operator does.
    fn remember(&mut self, plan: &ReconcilePlan) {
        self.observed.missing_since = Some(plan.missing_since.clone());
    }

    fn node(&self, name: &str) -> &ObservedNode {
        self.observed.nodes.iter().find(|node| node.name == name).unwrap()
    }

    fn change_node(&mut self, name: &str, change: impl Fn(&mut ObservedNode)) {
        for node in self.observed.nodes.iter_mut().filter(|node| node.name == name) {
            change(Arc::make_mut(node));
        }
    }
}

fn node(name: &str) -> ObservedNode {
    ObservedNode { sandboxes: vec![PAUSE.into()], ..ObservedNode::ready_since(name, at(-3600)) }
}

fn applied(plan: &ReconcilePlan) -> Vec<String> {
    plan.actions
        .iter()
        .map(|action| match action {
            Action::Apply(set) => format!("+{}", set.metadata.name.as_deref().unwrap()),
            Action::Delete { name, .. } => format!("-{name}"),
            Action::Replace { name, .. } => format!("~{name}"),
            Action::Restore { part, .. } => format!("restore {part:?}"),
            Action::Adopt { part } => format!("adopt {part}"),
            Action::Drop(part) => format!("drop {}", part.name),
            Action::Label { node, label, .. } => format!("{node}: {}", label.as_deref().unwrap_or("-")),
        })
        .collect()
}

#[track_caller]
fn assert_degraded(plan: &ReconcilePlan, reason: Reason) {
    assert_eq!(
        (plan.conditions.degraded.status, plan.conditions.degraded.reason),
        ("True", reason),
        "{:#?}",
        plan.conditions
    );
}
