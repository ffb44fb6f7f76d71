//! Plans of stores: steps, objects, and the report about them.

use serde_json::{Value, json};

use super::super::report::{StoreReport, report};
use super::*;

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
}

fn node(name: &str) -> ObservedNode {
    ObservedNode::ready_since(name, Timestamp::from_second(NOW - 3600).unwrap())
}

fn applied(wanted: &WantedObject) -> LiveObject {
    let mut object = wanted.object.clone();
    object["metadata"]["uid"] = json!(format!("uid-of-{}", wanted.kind.as_str()));
    object["metadata"]["resourceVersion"] = json!("7");
    LiveObject::new(serde_json::from_value(object["metadata"].take()).unwrap(), object["spec"].take(), "u1")
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
        }
    }

    fn input(&self) -> StoreInput<'_> {
        StoreInput {
            quinistry: &self.quinistry,
            store: self.quinistry.spec.store.as_ref().unwrap(),
            nodes: &self.nodes,
            live: &self.live,
            pods: &self.pods,
            url: Some("http://10.96.0.7:8080"),
            first: Some(&self.first),
            digest: self.digest,
            now: Timestamp::from_second(NOW).unwrap(),
        }
    }

    fn plan(&self) -> StorePlan {
        plan(&self.input())
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
        for step in self.plan().steps {
            match step {
                Step::Apply(wanted, _) => {
                    self.live.insert(wanted.kind, applied(&wanted));
                }
                Step::Delete(kind, ..) => {
                    self.live.remove(&kind);
                }
                Step::Keep | Step::Refuse(_) => {}
            }
        }
    }

    /// Starts a pod on each chosen node.
    fn run(&mut self) {
        let pod = |node: &String| StorePod {
            namespace: "pantry".into(),
            resource: "u1".into(),
            controller: Some("uid-of-DaemonSet".into()),
            node: Some(node.clone()),
            is_ready: true,
            problem: None,
        };
        self.pods = self.plan().choice.nodes.iter().map(pod).map(Arc::new).collect();
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
fn an_upgrade_goes_on_while_a_chosen_node_is_down() {
    let mut scene = Scene::new(&json!({}), &["a", "b", "c"]);
    scene.apply();
    let since = Timestamp::from_second(NOW - 5).unwrap();
    scene.nodes[0] = Arc::new(ObservedNode { ready: false, since, seen: since, ..node("a") });
    let limit = |set: &Value| set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"].clone();
    assert_eq!(limit(&scene.set()), json!(2));
    scene.apply();
    assert_eq!(actions(&scene.plan()), Vec::<String>::new());
    scene.nodes[0] = Arc::new(node("a"));
    assert_eq!(limit(&scene.set()), json!(1));
}

#[test]
fn a_store_that_does_not_start_is_named_with_the_kubelets_words() {
    let mut scene = Scene::new(&json!({"copies": 2}), &["a", "b"]);
    scene.apply();
    scene.run();
    Arc::make_mut(&mut scene.pods[1]).is_ready = false;
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
    let foreign =
        LiveObject::new(serde_json::from_value(json!({"name": "larder-store"})).unwrap(), json!({}), "u1");
    let Step::Refuse(problem) = service(&scene.quinistry, Some(&foreign)) else { panic!("it is refused") };
    assert_eq!(problem.reason, Reason::NameTaken);
    assert!(problem.message.starts_with("Service larder-store is there already"), "{}", problem.message);
    let condition = report(&scene.input(), &scene.plan(), Some(problem)).condition;
    assert_eq!((condition.status, condition.reason), ("False", Reason::NameTaken));
}

#[test]
fn a_headless_service_is_deleted_to_be_created_again() {
    let scene = Scene::new(&json!({}), &["a"]);
    let Step::Apply(wanted, None) = service(&scene.quinistry, None) else { panic!("it is created") };
    let mut live = applied(&wanted);
    live.spec["clusterIP"] = json!("10.96.0.7");
    assert_eq!(service(&scene.quinistry, Some(&live)), Step::Keep);
    live.spec["selector"] = json!({"a": "b"});
    assert!(matches!(service(&scene.quinistry, Some(&live)), Step::Apply(_, Some(_))));
    live.spec["clusterIP"] = json!("None");
    assert!(matches!(service(&scene.quinistry, Some(&live)), Step::Delete(StoreKind::Service, ..)));
}

#[test]
fn the_service_and_the_policy_lead_to_the_stores_alone() {
    let scene = Scene::new(&json!({}), &["a"]);
    let selector = json!({"quinistry.dev/resource": "u1", "quinistry/role": "store"});
    let service = objects::service(&scene.quinistry).object;
    assert_eq!(
        service["spec"],
        json!({"type": "ClusterIP", "selector": selector, "publishNotReadyAddresses": false,
            "ports": [{"name": "registry", "port": 8080, "targetPort": 8080, "protocol": "TCP"}]})
    );
    let policy = objects::network_policy(&scene.quinistry).object;
    assert_eq!(
        policy["spec"],
        json!({"podSelector": {"matchLabels": selector}, "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": 8080, "protocol": "TCP"}]}]})
    );
    for object in [service, policy] {
        assert_eq!(object["metadata"]["name"], "larder-store");
        assert_eq!(object["metadata"]["ownerReferences"][0]["controller"], true);
    }
}

#[test]
fn a_store_is_a_pod_with_these_settings() {
    let scene = Scene::new(&json!({"path": "/srv/blobs"}), &["a", "b"]);
    let set = scene.set();
    let selector = json!({"quinistry.dev/resource": "u1", "quinistry/role": "store"});
    assert_eq!(set["spec"]["selector"]["matchLabels"], selector);
    assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"], json!({"maxUnavailable": 1}));
    let metadata = &set["spec"]["template"]["metadata"];
    assert!(metadata["labels"].get("quinistry/generation").is_none(), "it is no generation");
    assert_eq!(metadata["labels"]["sidecar.istio.io/inject"], "false");
    let pod = &set["spec"]["template"]["spec"];
    let image = format!("localhost:6000/quinistry@{DIGEST}");
    let locked = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]}});
    let container = &pod["containers"][0];
    assert_eq!(
        container["args"],
        json!([
            "serve",
            "--listen",
            "[::]:8080",
            "--storage",
            "/data",
            "--peers",
            "http://10.96.0.7:8080",
            "--names",
            "/etc/quinistry/names/names.json",
            "--keep-named",
            "--push-listen",
            "127.0.0.1:8090"
        ])
    );
    assert_eq!((&container["image"], &container["imagePullPolicy"]), (&json!(image), &json!("IfNotPresent")));
    assert_eq!(container["securityContext"], locked);
    assert_eq!(
        container["readinessProbe"]["httpGet"],
        json!({"path": "/readyz", "port": 8080, "scheme": "HTTP"})
    );
    assert_eq!(
        container["ports"],
        json!([{"name": "registry", "containerPort": 8080, "protocol": "TCP"}]),
        "no host port"
    );
    let preparation = &pod["initContainers"][0];
    assert_eq!(
        preparation["args"],
        json!(["prepare-storage", "--storage", "/data", "--owner", "65532:65532"])
    );
    assert_eq!(
        preparation["securityContext"],
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": false,
            "runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}})
    );
    assert_eq!(preparation["image"], container["image"]);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(
        pod["volumes"],
        json!([{"name": "data", "hostPath": {"path": "/srv/blobs", "type": "DirectoryOrCreate"}},
            {"name": "names", "configMap": {"name": "larder-names", "optional": true}}])
    );
    assert_eq!(
        container["volumeMounts"],
        json!([{"name": "data", "mountPath": "/data"},
            {"name": "names", "mountPath": "/etc/quinistry/names", "readOnly": true}])
    );
    assert_eq!(preparation["volumeMounts"], json!([{"name": "data", "mountPath": "/data"}]));
    let term = |name| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
    assert_eq!(
        pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"],
        json!([term("a"), term("b")])
    );
    assert!(pod.get("nodeSelector").is_none());
    assert_eq!(pod["tolerations"][0]["key"], "a");
    assert_eq!(pod["priorityClassName"], "high");
    assert_eq!(nodes::chosen(&set["spec"]), ["a", "b"].map(String::from).into());
}
