//! The resource that `up` applies: given options, and settings of the existing resource. Pure.

use serde_json::{Value, json};

use super::{InstallPayload, ownership};
use crate::api::names::annotations::VERSION;
use crate::api::names::labels::NODE_ARCHITECTURE;
use crate::api::names::{API_VERSION, KIND, RESOURCE};
use crate::api::types::Metadata as _;
use crate::crd::{DEFAULT_BASE_PORT, MAX_GENERATIONS, NetworkMode, Quinistry};

/// Number of generations of a new resource without `--generations`.
const DEFAULT_GENERATIONS: i32 = 3;

/// Options that the user has given. The others keep their value in an existing resource, and have defaults in
/// a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceOptions {
    /// Number of generations.
    pub generations: Option<i32>,
    /// Host port of generation 1.
    pub base_port: Option<i32>,
    /// Images to run generation 0 in; empty to detect them.
    pub carriers: Vec<String>,
    /// Network of the generations.
    pub network: Option<NetworkMode>,
    /// Number of stores (`spec.store.copies`) to ask for.
    pub stores: Option<i32>,
}

// === impl ResourceOptions ===

impl ResourceOptions {
    /// Returns the number of generations after the installation.
    #[must_use]
    pub fn generations(&self, before: Option<&Quinistry>) -> i32 {
        self.generations.or(before.map(|before| before.spec.generations)).unwrap_or(DEFAULT_GENERATIONS)
    }

    /// Port of generation 1.
    #[must_use]
    pub fn base_port(&self, before: Option<&Quinistry>) -> i32 {
        self.base_port.or(before.map(|before| before.spec.base_port)).unwrap_or(DEFAULT_BASE_PORT)
    }

    /// Returns the ports of all generations, generation 0 first.
    #[must_use]
    pub fn ports(&self, before: Option<&Quinistry>) -> std::ops::RangeInclusive<i32> {
        let base = self.base_port(before);
        base - 1..=base + self.generations(before) - 1
    }

    /// Returns the images to run generation 0 in; empty to detect them.
    #[must_use]
    pub fn carriers(&self, before: Option<&Quinistry>) -> Vec<String> {
        if !self.carriers.is_empty() {
            return self.carriers.clone();
        }
        let seed = before.and_then(|before| before.spec.seed.as_ref());
        seed.map(|seed| seed.carriers.clone()).unwrap_or_default()
    }

    /// Returns the network of the generations; `None` if no network was ever chosen.
    fn network(&self, before: Option<&Quinistry>) -> Option<NetworkMode> {
        let current =
            before.map(|before| before.spec.network.mode).filter(|mode| *mode != NetworkMode::default());
        self.network.or(current)
    }

    /// Returns the number of stores to apply; `None` if `up` never asked for stores. Those that another writer
    /// asked for are that writer's.
    fn stores(&self, before: Option<&Quinistry>) -> Option<i32> {
        let ours = before.filter(|before| ownership::owns(&before.metadata, &["spec", "store", "copies"]));
        let current = ours.and_then(|before| before.spec.store.as_ref()).map(|store| store.copies);
        self.stores.or(current)
    }

    /// Returns the contradiction between these options and the existing resource, with advice, if there is
    /// one.
    #[must_use]
    pub fn contradiction(&self, before: Option<&Quinistry>) -> Option<String> {
        let (base, generations) = (self.base_port(before), self.generations(before));
        if !(1..=MAX_GENERATIONS).contains(&generations) {
            return Some(format!(
                "{generations} generations are not supported; choose 1 to {MAX_GENERATIONS}"
            ));
        }
        if base < 1026 || base + generations - 1 > 65535 {
            let highest = base + generations - 1;
            return Some(format!(
                "{generations} generations from port {base} on need ports {} to {highest}; choose --base-port so that all are 1025 to 65535",
                base - 1
            ));
        }
        let before = before?;
        let namespace = before.metadata.namespace();
        if before.metadata.deletion_timestamp.is_some() {
            return Some(format!("{namespace}/{RESOURCE} is being deleted; wait until it is gone"));
        }
        if before.spec.image.is_some() {
            return Some(format!(
                "{namespace}/{RESOURCE} is raised from a bootstrap image (spec.image); name another namespace, or delete it"
            ));
        }
        if base != before.spec.base_port {
            return Some(format!(
                "{namespace}/{RESOURCE} has base port {}, which cannot be changed; leave --base-port out, or `quinistry down` \
                 first",
                before.spec.base_port
            ));
        }
        before.spec.suspend.then(|| {
            format!(
                "{namespace}/{RESOURCE} is suspended; `kubectl --namespace {namespace} patch quinistry {RESOURCE} --type merge \
                 --patch '{{\"spec\":{{\"suspend\":false}}}}'` ends that"
            )
        })
    }

    /// Returns the resource to apply, with the fields that `up` owns and no others: server-side apply leaves
    /// the rest to other writers.
    #[must_use]
    pub fn resource(&self, namespace: &str, payload: &InstallPayload, before: Option<&Quinistry>) -> Value {
        let tolerations = before.map_or_else(
            // The registry should run on a node before the workloads that the node is reserved for.
            || json!([{"operator": "Exists"}]),
            |before| serde_json::to_value(&before.spec.tolerations).expect("tolerations are JSON"),
        );
        let mut resource = json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": RESOURCE, "namespace": namespace},
            "spec": {
                "seed": {
                    "executable": payload.split.digest().to_string(),
                    "carriers": self.carriers(before),
                },
                "digest": payload.digest.to_string(),
                "generations": self.generations(before),
                "basePort": self.base_port(before),
                // Explicit: `up` may run on another architecture than the executable's.
                "nodeSelector": {NODE_ARCHITECTURE: payload.architecture},
                "tolerations": tolerations,
            },
        });
        if let Some(mode) = self.network(before) {
            resource["spec"]["network"] = json!({"mode": mode});
        }
        if let Some(copies) = self.stores(before) {
            resource["spec"]["store"] = json!({"copies": copies});
        }
        if let Some(version) = &payload.version {
            resource["metadata"]["annotations"] = json!({VERSION: version});
        }
        resource
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::seed::SplitExecutable;
    use quinistry_oci::Digest;

    fn payload() -> InstallPayload {
        let split =
            SplitExecutable::new(RESOURCE, [Bytes::from_static(b"cake")].into(), Bytes::new()).unwrap();
        InstallPayload {
            split,
            digest: Digest::sha256(b"image"),
            architecture: "amd64",
            version: Some("1.2.3".into()),
        }
    }

    fn before(spec: &Value) -> Quinistry {
        let object = json!({
            "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry",
            "metadata": {"name": RESOURCE, "namespace": "pantry"}, "spec": spec,
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_new_resource_has_what_is_usual() {
        let resource = ResourceOptions::default().resource("pantry", &payload(), None);
        let quinistry: Quinistry = serde_json::from_value(resource.clone()).unwrap();
        assert_eq!((quinistry.spec.generations, quinistry.spec.base_port), (3, 5000));
        assert_eq!(resource["spec"]["tolerations"], json!([{"operator": "Exists"}]));
        assert_eq!(quinistry.spec.node_selector["kubernetes.io/arch"], "amd64");
        assert_eq!(quinistry.spec.seed.unwrap().executable, Digest::sha256(b"cake").to_string());
        assert_eq!(ResourceOptions::default().ports(None), 4999..=5002);
        assert_eq!(resource["metadata"]["annotations"][VERSION], "1.2.3");
        assert!(resource["spec"]["network"].is_null(), "left to the definition's default");
    }

    #[test]
    fn what_is_not_said_stays_as_it_is() {
        let old = before(&json!({
            "seed": {"executable": "sha256:1", "carriers": ["a/pause:3"]}, "digest": "sha256:2", "generations": 5,
            "basePort": 6000, "tolerations": [{"key": "oven", "operator": "Exists"}],
        }));
        let resource = ResourceOptions::default().resource("pantry", &payload(), Some(&old));
        let new: Quinistry = serde_json::from_value(resource).unwrap();
        assert_eq!((new.spec.generations, new.spec.base_port), (5, 6000));
        assert_eq!(new.spec.seed.as_ref().unwrap().carriers, ["a/pause:3"]);
        assert_eq!(new.spec.tolerations, old.spec.tolerations);
        assert_ne!(new.spec.digest, old.spec.digest);
        let options = ResourceOptions {
            generations: Some(2),
            carriers: vec!["b/pause:1".into()],
            base_port: Some(6000),
            ..ResourceOptions::default()
        };
        let new: Quinistry =
            serde_json::from_value(options.resource("pantry", &payload(), Some(&old))).unwrap();
        assert_eq!(new.spec.generations, 2);
        assert_eq!(new.spec.seed.unwrap().carriers, ["b/pause:1"]);
    }

    #[test]
    fn the_network_is_what_is_said_and_stays() {
        let mode = |options: Option<NetworkMode>, there: Option<&str>| {
            let old = there.map(|mode| {
                before(&json!({
                    "seed": {"executable": "sha256:1"}, "digest": "sha256:2", "network": {"mode": mode},
                }))
            });
            let options = ResourceOptions { network: options, ..ResourceOptions::default() };
            options.resource("pantry", &payload(), old.as_ref())["spec"]["network"]["mode"].clone()
        };
        assert_eq!(mode(Some(NetworkMode::HostNetwork), None), "HostNetwork");
        assert_eq!(mode(None, Some("HostNetwork")), "HostNetwork");
        assert_eq!(mode(Some(NetworkMode::HostPort), Some("HostNetwork")), "HostPort");
        assert_eq!(mode(None, Some("HostPort")), Value::Null);
    }

    #[test]
    fn stores_are_asked_for_once_and_stay() {
        let store = |stores: Option<i32>, there: Value, owner: &str| {
            let mut old =
                before(&json!({"seed": {"executable": "sha256:1"}, "digest": "sha256:2", "store": there}));
            let fields = json!({"f:spec": {"f:store": {"f:copies": {}}}});
            let managed = json!([{"manager": owner, "operation": "Apply", "fieldsV1": fields}]);
            old.metadata.managed_fields = serde_json::from_value(managed).unwrap();
            let options = ResourceOptions { stores, ..ResourceOptions::default() };
            options.resource("pantry", &payload(), Some(&old))["spec"]["store"].clone()
        };
        let up = "quinistry-up";
        assert_eq!(store(None, Value::Null, up), Value::Null);
        assert_eq!(store(Some(2), Value::Null, up), json!({"copies": 2}));
        // Server-side apply removes a field that its owner leaves out. The folder and the labels belong to others.
        assert_eq!(store(None, json!({"copies": 5, "path": "/srv"}), up), json!({"copies": 5}));
        assert_eq!(store(Some(1), json!({"copies": 5}), up), json!({"copies": 1}));
        assert_eq!(store(None, json!({"copies": 5}), "kubectl"), Value::Null, "of another writer");
        assert_eq!(store(Some(1), json!({"copies": 5}), "kubectl"), json!({"copies": 1}));
    }

    #[test]
    fn contradictions_are_told() {
        let seed = json!({"executable": "sha256:1"});
        let contradiction_of = |options: ResourceOptions, spec: Option<Value>| {
            options.contradiction(spec.map(|spec| before(&spec)).as_ref()).unwrap_or_default()
        };
        let port = |port| ResourceOptions { base_port: Some(port), ..ResourceOptions::default() };
        assert_eq!(contradiction_of(ResourceOptions::default(), None), "");
        assert_eq!(contradiction_of(port(5000), Some(json!({"seed": seed}))), "");
        assert!(contradiction_of(port(65534), None).contains("65533 to 65536"));
        assert!(contradiction_of(port(1000), None).contains("999"));
        assert!(contradiction_of(port(6000), Some(json!({"seed": seed}))).contains("cannot be changed"));
        assert!(
            contradiction_of(ResourceOptions::default(), Some(json!({"image": "a:1"})))
                .contains("spec.image")
        );
        assert!(
            contradiction_of(ResourceOptions::default(), Some(json!({"seed": seed, "suspend": true})))
                .contains("suspended")
        );
        let many = ResourceOptions { generations: Some(17), ..ResourceOptions::default() };
        assert!(contradiction_of(many, None).contains("1 to 16"));
    }
}
