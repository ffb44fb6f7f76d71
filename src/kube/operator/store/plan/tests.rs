//! Plans of stores: steps, objects, and the report about them.

mod manifests;
mod memory;
mod replacement;

use serde_json::{Value, json};

use super::super::report::{StoreReport, report};
use super::*;
use crate::crd::StoreStatus;

const NOW: i64 = 1_800_000_000;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Resource with stores, and the cluster that it is planned in.
struct Scene {
    quinistry: ValidResource,
    nodes: Vec<Arc<ObservedNode>>,
    live: LiveObjects,
    pods: Vec<Arc<StorePod>>,
    first: GenerationStatus,
    digest: Option<&'static str>,
    contested: BTreeSet<String>,
    now: i64,
}

fn node(name: &str) -> ObservedNode {
    ObservedNode::ready_since(name, Timestamp::from_second(NOW - 3600).unwrap())
}

fn applied(wanted: &WantedObject) -> LiveObject {
    let mut object = wanted.object.clone();
    object["metadata"]["uid"] = json!(format!("uid-of-{}", wanted.kind.as_str()));
    object["metadata"]["resourceVersion"] = json!("7");
    LiveObject::new(
        serde_json::from_value(object["metadata"].take()).unwrap(),
        object["spec"].take(),
        "u1",
        &BTreeSet::new(),
    )
}

impl Scene {
    fn new(store: &Value, nodes: &[&str]) -> Self {
        let object = json!({
            "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry",
            "metadata": {"name": "larder", "namespace": "pantry", "uid": "u1"},
            "spec": {"image": "registry.example.com/larder:1", "basePort": 6000, "store": store,
                "tolerations": [{"key": "a", "operator": "Exists"}], "priorityClassName": "high"},
        });
        let first = json!({"generation": 1, "daemonSet": "larder", "port": 6000, "image": "i", "state": "Ready",
            "desired": 3, "updated": 3, "available": 3, "verified": 3});
        Self {
            quinistry: ValidResource::parse(&serde_json::from_value(object).unwrap()).unwrap(),
            nodes: nodes.iter().map(|name| Arc::new(node(name))).collect(),
            live: LiveObjects::new(),
            pods: Vec::new(),
            first: serde_json::from_value(first).unwrap(),
            digest: Some(DIGEST),
            contested: BTreeSet::new(),
            now: NOW,
        }
    }

    fn input(&self) -> StoreInput<'_> {
        StoreInput {
            quinistry: &self.quinistry,
            store: self.quinistry.spec.store.as_ref().unwrap(),
            nodes: &self.nodes,
            live: &self.live,
            pods: &self.pods,
            contested: &self.contested,
            url: Some("http://10.96.0.7:8080"),
            first: Some(&self.first),
            digest: self.digest,
            now: Timestamp::from_second(self.now).unwrap(),
        }
    }

    fn plan(&self) -> StorePlan {
        plan(&self.input())
    }

    fn service(&self) -> Step {
        service(&self.quinistry, &self.live, &self.plan().outages)
    }

    fn report(&self) -> StoreReport {
        report(&self.input(), &self.plan(), None)
    }

    fn verdict(&self) -> (&'static str, Reason) {
        let condition = self.report().condition;
        (condition.status, condition.reason)
    }

    /// Carries out the plan; no pod starts by it.
    fn apply(&mut self) {
        let steps = [vec![self.service()], self.plan().steps].concat();
        for step in steps {
            match step {
                Step::Apply(wanted, _) => {
                    self.live.insert(wanted.kind, applied(&wanted));
                }
                Step::Delete(kind, ..) => {
                    self.live.remove(&kind);
                }
                Step::Replace(pod) => self.pods.retain(|other| other.uid != pod.uid),
                Step::Keep | Step::Refuse(_) => {}
            }
        }
    }

    /// Does what the controller of `DaemonSets` does: a pod on each node of the affinity, of the present
    /// template, and none elsewhere. Running pods stay as they are.
    fn run(&mut self) {
        let set = &self.live[&StoreKind::DaemonSet].spec;
        let chosen = nodes::chosen(set);
        self.pods.retain(|pod| pod.node.as_ref().is_some_and(|node| chosen.contains(node)));
        for node in chosen {
            if self.pods.iter().all(|pod| pod.node.as_ref() != Some(&node)) {
                let template = set::template(set).map(str::to_owned);
                let uid = format!("{node} {}", template.as_deref().unwrap_or_default());
                self.pods.push(Arc::new(StorePod {
                    namespace: "pantry".into(),
                    resource: "u1".into(),
                    controller: Some("uid-of-DaemonSet".into()),
                    name: format!("larder-store-{node}"),
                    uid,
                    template,
                    is_leaving: false,
                    node: Some(node),
                    ready: Some(Timestamp::from_second(NOW - 100_000).unwrap()),
                    problem: None,
                }));
            }
        }
    }

    fn pod(&mut self, node: &str) -> &mut StorePod {
        let pod = self.pods.iter_mut().find(|pod| pod.node.as_deref() == Some(node));
        Arc::make_mut(pod.expect("a pod runs there"))
    }

    fn set_down(&mut self, name: &str, seconds: i64) {
        let since = Timestamp::from_second(self.now - seconds).unwrap();
        *self.node(name) = ObservedNode { ready: false, since, seen: since, ..node(name) };
    }

    fn node(&mut self, name: &str) -> &mut ObservedNode {
        Arc::make_mut(self.nodes.iter_mut().find(|node| node.name == name).expect("the node is there"))
    }

    /// Returns the UIDs of the running pods by node.
    fn uids(&self) -> std::collections::BTreeMap<String, String> {
        self.pods.iter().map(|pod| (pod.node.clone().unwrap(), pod.uid.clone())).collect()
    }

    /// Returns the `DaemonSet` that is to be applied.
    fn set(&self) -> Value {
        let is_set = |step: Step| match step {
            Step::Apply(wanted, _) if wanted.kind == StoreKind::DaemonSet => Some(wanted.object),
            _ => None,
        };
        self.plan().steps.into_iter().find_map(is_set).expect("a DaemonSet is applied")
    }
}

fn actions(plan: &StorePlan) -> Vec<String> {
    let name = |step: &Step| match step {
        Step::Keep => None,
        Step::Apply(wanted, version) => {
            Some(format!("{}{}", if version.is_some() { "~" } else { "+" }, wanted.kind.as_str()))
        }
        Step::Delete(kind, ..) => Some(format!("-{}", kind.as_str())),
        Step::Replace(pod) => Some(format!("replace {}", pod.node)),
        Step::Refuse(problem) => Some(format!("{:?}", problem.reason)),
    };
    plan.steps.iter().filter_map(name).collect()
}

#[test]
fn the_stores_follow_generation_1() {
    let mut scene = Scene::new(&json!({}), &["a", "b", "c"]);
    scene.first.available = 0;
    assert_eq!(actions(&scene.plan()), ["+NetworkPolicy"]);
    assert_eq!(scene.verdict(), ("False", Reason::WaitingForGeneration));
    scene.first.available = 1;
    scene.digest = None;
    assert_eq!(actions(&scene.plan()), ["+NetworkPolicy"], "the digest is not learned yet");
    scene.digest = Some(DIGEST);
    assert_eq!(actions(&scene.plan()), ["+NetworkPolicy", "+DaemonSet"]);
    scene.apply();
    assert_eq!(actions(&scene.plan()), Vec::<String>::new(), "what is current is not written");
    assert_eq!(scene.verdict(), ("False", Reason::StoresNotReady));
    scene.run();
    assert_eq!(scene.verdict(), ("True", Reason::StoresReady));
    let status = scene.report().status;
    assert_eq!((status.copies.as_str(), status.nodes), ("3/3", ["a", "b", "c"].map(String::from).to_vec()));
}

#[test]
fn stores_run_on_when_generation_1_is_away() {
    let mut scene = Scene::new(&json!({}), &["a", "b", "c"]);
    scene.apply();
    scene.run();
    scene.first.available = 0;
    scene.first.state = GenerationState::Failed;
    scene.digest = None;
    assert_eq!(actions(&scene.plan()), Vec::<String>::new());
    assert_eq!(scene.verdict(), ("True", Reason::StoresReady));
    // A node is replaced all the same, with the image that the stores have.
    scene.nodes[0] = Arc::new(node("d"));
    assert_eq!(actions(&scene.plan()), ["~DaemonSet"]);
    assert!(scene.set().to_string().contains(DIGEST));
}

#[test]
fn another_image_comes_when_generation_1_serves_it_on_all_nodes() {
    const NEXT: &str = "sha256:01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b";
    let mut scene = Scene::new(&json!({}), &["a", "b", "c"]);
    scene.apply();
    scene.digest = Some(NEXT);
    scene.first.state = GenerationState::Rolling;
    assert_eq!(actions(&scene.plan()), Vec::<String>::new());
    scene.first.state = GenerationState::Ready;
    assert_eq!(actions(&scene.plan()), ["~DaemonSet"]);
    assert!(scene.set().to_string().contains(NEXT));
}

/// Returns stores that an operator of another version has applied, with another argument.
fn of_another_version() -> Scene {
    let mut scene = Scene::new(&json!({}), &["a", "b", "c"]);
    scene.apply();
    let set = &mut scene.live.get_mut(&StoreKind::DaemonSet).unwrap().spec["template"];
    set["spec"]["containers"][0]["args"] = json!(["serve", "--as-then"]);
    set["metadata"]["annotations"]["quinistry.dev/template"] = json!("another");
    scene.run();
    scene
}

#[test]
fn arguments_of_another_version_stay_with_their_image() {
    const NEXT: &str = "sha256:01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b";
    let mut scene = of_another_version();
    assert_eq!(actions(&scene.plan()), Vec::<String>::new(), "the image is the same");
    scene.digest = Some(NEXT);
    scene.first.state = GenerationState::Rolling;
    assert_eq!(actions(&scene.plan()), Vec::<String>::new(), "its image could not be pulled yet");
    scene.first.state = GenerationState::Ready;
    assert_eq!(actions(&scene.plan()), ["~DaemonSet"]);
    let set = scene.set().to_string();
    assert!(set.contains(NEXT) && !set.contains("--as-then"), "{set}");
}

#[test]
fn a_node_is_replaced_with_the_arguments_that_its_image_has() {
    let mut scene = of_another_version();
    scene.digest = None;
    scene.first.state = GenerationState::Rolling;
    scene.nodes[0] = Arc::new(node("d"));
    let set = scene.set();
    assert_eq!(nodes::chosen(&set["spec"]), ["b", "c", "d"].map(String::from).into());
    assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["args"], json!(["serve", "--as-then"]));
    assert!(set.to_string().contains(DIGEST));
    scene.apply();
    scene.run();
    assert_eq!(actions(&scene.plan()), Vec::<String>::new(), "no other pod is replaced");
}

#[test]
fn another_setting_is_applied_once_generation_1_serves() {
    let mut scene = of_another_version();
    let mut spec = (*scene.quinistry.spec).clone();
    spec.priority_class_name = "higher".into();
    scene.quinistry.spec = spec.into();
    scene.first.state = GenerationState::Rolling;
    assert_eq!(actions(&scene.plan()), Vec::<String>::new());
    scene.nodes[0] = Arc::new(node("d"));
    scene.apply();
    scene.first.state = GenerationState::Ready;
    assert_eq!(actions(&scene.plan()), ["~DaemonSet"], "another node has not made it forgotten");
    assert_eq!(scene.set()["spec"]["template"]["spec"]["priorityClassName"], "higher");
}

#[test]
fn an_edited_template_is_restored() {
    let mut scene = Scene::new(&json!({}), &["a", "b", "c"]);
    scene.apply();
    let set = &mut scene.live.get_mut(&StoreKind::DaemonSet).unwrap().spec["template"];
    set["spec"]["containers"][0]["args"] = json!(["serve"]);
    assert_eq!(actions(&scene.plan()), ["~DaemonSet"]);
}

#[test]
fn fewer_nodes_than_copies_hold_stores_and_that_is_reported() {
    let mut scene = Scene::new(&json!({}), &["a", "b"]);
    scene.apply();
    scene.run();
    let report = scene.report();
    assert_eq!((report.condition.status, report.condition.reason), ("False", Reason::TooFewNodes));
    assert!(report.condition.message.starts_with("2 nodes of 3 wanted"), "{}", report.condition.message);
    assert_eq!(report.status.copies, "2/3");
}

#[test]
fn stores_stay_where_they_are_while_no_node_is_selected() {
    let mut scene = Scene::new(&json!({"copies": 2}), &["b", "c"]);
    scene.apply();
    let nodes = std::mem::take(&mut scene.nodes);
    assert_eq!(actions(&scene.plan()), Vec::<String>::new());
    assert_eq!(scene.verdict(), ("False", Reason::TooFewNodes));
    scene.nodes = [nodes, vec![Arc::new(node("a"))]].concat();
    assert_eq!(actions(&scene.plan()), Vec::<String>::new(), "the choice is remembered");
    assert_eq!(scene.plan().choice.nodes, ["b", "c"]);
}

#[test]
fn a_store_that_does_not_start_is_named_with_the_kubelets_words() {
    let mut scene = Scene::new(&json!({"copies": 2}), &["a", "b"]);
    scene.apply();
    scene.run();
    Arc::make_mut(&mut scene.pods[1]).ready = None;
    Arc::make_mut(&mut scene.pods[1]).problem = Some("ImagePullBackOff: not found".into());
    let condition = scene.report().condition;
    assert_eq!(condition.reason, Reason::StoresNotReady);
    assert_eq!(condition.message, "1 of 2 stores are ready; not yet on b; b: ImagePullBackOff: not found");
}

#[test]
fn pods_of_another_controller_count_for_nothing() {
    let mut scene = Scene::new(&json!({"copies": 1}), &["a"]);
    scene.apply();
    scene.run();
    Arc::make_mut(&mut scene.pods[0]).controller = Some("another".into());
    assert_eq!(scene.report().status.copies, "0/1");
}

#[test]
fn nodes_of_a_choice_that_could_not_be_written_are_not_shown() {
    let mut scene = Scene::new(&json!({"copies": 2}), &["a", "b"]);
    let denied = || StoreProblem { reason: Reason::RightsMissing, message: "no rights".into() };
    let status = |scene: &Scene| report(&scene.input(), &scene.plan(), Some(denied())).status;
    assert_eq!(status(&scene), StoreStatus { copies: "0/2".into(), nodes: Vec::new() });
    scene.apply();
    scene.run();
    scene.nodes[0] = Arc::new(node("c"));
    assert_eq!(status(&scene).nodes, ["a", "b"], "what was written before is");
}

#[test]
fn a_node_that_is_down_is_named_with_what_to_do() {
    let mut scene = Scene::new(&json!({"copies": 2}), &["a", "b", "c"]);
    scene.apply();
    scene.run();
    scene.set_down("a", 86_400);
    scene.pod("a").ready = None;
    // It became Ready when the other one was silent.
    scene.pod("b").ready = Some(Timestamp::from_second(NOW - 86_390).unwrap());
    assert_eq!(scene.plan().choice.nodes, ["a", "b"]);
    let message = scene.report().condition.message;
    assert!(message.contains("not yet on a") && message.contains("delete it from the cluster"), "{message}");
}

#[test]
fn drift_is_restored_upon_the_version_that_was_seen() {
    let mut scene = Scene::new(&json!({}), &["a", "b", "c"]);
    scene.apply();
    scene.live.get_mut(&StoreKind::NetworkPolicy).unwrap().spec["ingress"] = json!([{}]);
    let steps = scene.plan().steps;
    assert!(matches!(&steps[0], Step::Apply(wanted, Some(version))
        if wanted.kind == StoreKind::NetworkPolicy && version == "7"));
    scene.live.remove(&StoreKind::DaemonSet);
    assert_eq!(actions(&scene.plan()), ["~NetworkPolicy", "+DaemonSet"]);
}

#[test]
fn a_foreign_object_is_reported_and_left_alone() {
    let scene = Scene::new(&json!({}), &["a"]);
    let metadata = serde_json::from_value(json!({"name": "larder-store"})).unwrap();
    let foreign = LiveObject::new(metadata, json!({}), "u1", &BTreeSet::new());
    let live = LiveObjects::from([(StoreKind::Service, foreign)]);
    let Step::Refuse(problem) = service(&scene.quinistry, &live, &Outages::new()) else {
        panic!("it is refused")
    };
    assert_eq!(problem.reason, Reason::NameTaken);
    assert!(problem.message.starts_with("Service larder-store is there already"), "{}", problem.message);
    let condition = report(&scene.input(), &scene.plan(), Some(problem)).condition;
    assert_eq!((condition.status, condition.reason), ("False", Reason::NameTaken));
}

#[test]
fn another_resource_whose_name_ends_in_store_is_named() {
    let mut scene = Scene::new(&json!({}), &["a"]);
    let owner = json!({"apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry", "name": "larder-store", "uid": "u9",
        "controller": true});
    let metadata = json!({"name": "larder-store", "ownerReferences": [owner]});
    let of = |living: &[&str]| {
        let living = living.iter().map(|uid| (*uid).to_owned()).collect();
        LiveObject::new(serde_json::from_value(metadata.clone()).unwrap(), json!({}), "u1", &living)
    };
    scene.live.insert(StoreKind::DaemonSet, of(&["u1", "u9"]));
    let steps = scene.plan().steps;
    let Step::Refuse(problem) = &steps[1] else { panic!("{steps:?}") };
    assert_eq!(problem.reason, Reason::NameTaken);
    assert!(problem.message.contains("belongs to Quinistry larder-store"), "{}", problem.message);
    scene.live.insert(StoreKind::DaemonSet, of(&["u1"]));
    assert_eq!(scene.plan().steps[1], Step::Keep, "one of a deleted resource is collected");
}

#[test]
fn a_headless_service_is_deleted_to_be_created_again() {
    let scene = Scene::new(&json!({}), &["a"]);
    let Step::Apply(wanted, None) = service(&scene.quinistry, &LiveObjects::new(), &Outages::new()) else {
        panic!("it is created")
    };
    let planned = |edit: &dyn Fn(&mut Value)| {
        let mut live = applied(&wanted);
        live.spec["clusterIP"] = json!("10.96.0.7");
        edit(&mut live.spec);
        service(&scene.quinistry, &LiveObjects::from([(StoreKind::Service, live)]), &Outages::new())
    };
    assert_eq!(planned(&|_| {}), Step::Keep);
    assert!(matches!(planned(&|spec| spec["selector"] = json!({"a": "b"})), Step::Apply(_, Some(_))));
    assert!(matches!(
        planned(&|spec| spec["clusterIP"] = json!("None")),
        Step::Delete(StoreKind::Service, ..)
    ));
}
