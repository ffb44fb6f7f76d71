//! A registry in memory that keeps what it is sent, and lists referrers in a chosen way: other programs'
//! registries in small.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use quinistry::oci::{Descriptor, Digest, media_type};
use serde_json::{Value, json};

use super::scripted_registry::{Answer, Request, ScriptedRegistry};

/// Contents of a registry with one repository or many: the repositories' names do not matter.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Manifests by digest.
    pub manifests: BTreeMap<String, Vec<u8>>,
    /// Digests by tag.
    pub tags: BTreeMap<String, String>,
}

/// Answer of a registry to the question for referrers.
#[derive(Clone, Debug)]
pub enum Referrers {
    /// The list of the specification, with `OCI-Subject` for manifests that are pushed.
    Listed,
    /// One answer to every question.
    Unknown(Answer),
}

pub struct MemoryRegistry {
    pub host: String,
    contents: Arc<Mutex<Contents>>,
    registry: ScriptedRegistry,
}

impl MemoryRegistry {
    pub fn start(referrers: Referrers) -> Self {
        let contents = Arc::new(Mutex::new(Contents::default()));
        let own = contents.clone();
        let registry =
            ScriptedRegistry::start(move |request| answer(&mut own.lock().unwrap(), request, &referrers));
        Self { host: registry.host.clone(), contents, registry }
    }

    /// Starts a registry without a referrers API, as distribution's.
    pub fn without_referrers() -> Self {
        Self::start(Referrers::Unknown(Answer::new(404).body("404 page not found")))
    }

    /// Returns the requests as `METHOD path`, in order.
    pub fn asked(&self) -> Vec<String> {
        self.registry.asked()
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> T {
        change(&mut self.contents.lock().unwrap())
    }

    /// Returns the entries of the list that clients keep for a subject.
    pub fn tagged(&self, subject: &Digest) -> Option<Vec<Descriptor>> {
        self.change(|contents| {
            let list = &contents.manifests[contents.tags.get(&subject.as_str().replace(':', "-"))?];
            let list: Value = serde_json::from_slice(list).unwrap();
            Some(serde_json::from_value(list["manifests"].clone()).unwrap())
        })
    }
}

impl Contents {
    /// Adds a manifest, and returns its descriptor.
    pub fn add(&mut self, manifest: &Value, tag: Option<&str>) -> Descriptor {
        let bytes = manifest.to_string().into_bytes();
        let kind = manifest["mediaType"].as_str().unwrap();
        let descriptor = Descriptor::of(kind, &bytes);
        if let Some(tag) = tag {
            self.tags.insert(tag.into(), descriptor.digest.to_string());
        }
        self.manifests.insert(descriptor.digest.to_string(), bytes);
        descriptor
    }

    /// Adds an artifact with a name of its own, that refers to `subject`.
    pub fn add_artifact(&mut self, name: &str, subject: Option<&Descriptor>) -> Descriptor {
        let config = Descriptor::of("application/vnd.oci.empty.v1+json", b"{}");
        let layer = Descriptor::of("application/x", name.as_bytes());
        self.blobs.insert(config.digest.to_string(), b"{}".into());
        self.blobs.insert(layer.digest.to_string(), name.as_bytes().into());
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/x.test",
            "config": config, "layers": [layer], "annotations": {"name": name},
        });
        if let Some(subject) = subject {
            manifest["subject"] = serde_json::to_value(subject).unwrap();
        }
        self.add(&manifest, None)
    }

    /// Adds an index.
    pub fn add_index(&mut self, children: &[&Descriptor], tag: &str) -> Descriptor {
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children});
        self.add(&index, Some(tag))
    }

    fn referrers(&self, subject: &str) -> Vec<Value> {
        let refers = |(digest, bytes): (&String, &Vec<u8>)| {
            let manifest: Value = serde_json::from_slice(bytes).unwrap();
            let listed = json!({"mediaType": manifest["mediaType"], "digest": digest, "size": bytes.len(),
                "artifactType": manifest["artifactType"], "annotations": manifest["annotations"]});
            (manifest["subject"]["digest"] == subject).then_some(listed)
        };
        self.manifests.iter().filter_map(refers).collect()
    }
}

fn answer(contents: &mut Contents, request: &Request, referrers: &Referrers) -> Answer {
    let parts: Vec<_> = request.path().trim_matches('/').split('/').collect();
    let name = *parts.last().unwrap();
    match (request.method.as_str(), parts[parts.len() - 2]) {
        (_, "referrers") => match referrers {
            Referrers::Unknown(answer) => answer.clone(),
            Referrers::Listed => {
                let list = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
                    "manifests": contents.referrers(name)});
                Answer::ok(list.to_string()).with("content-type", media_type::OCI_INDEX)
            }
        },
        ("PUT", "manifests") => {
            let manifest: Value = serde_json::from_slice(&request.body).unwrap();
            let digest = Digest::sha256(&request.body).to_string();
            contents.manifests.insert(digest.clone(), request.body.clone());
            if !name.contains(':') {
                contents.tags.insert(name.into(), digest);
            }
            match (manifest["subject"]["digest"].as_str(), referrers) {
                (Some(subject), Referrers::Listed) => Answer::new(201).with("oci-subject", subject),
                _ => Answer::new(201),
            }
        }
        ("DELETE", "manifests") => {
            contents.tags.retain(|tag, digest| tag != name && digest != name);
            contents.manifests.remove(name);
            Answer::new(202)
        }
        (_, "manifests") => {
            let digest = contents.tags.get(name).map_or(name, String::as_str);
            let Some(bytes) = contents.manifests.get(digest) else { return Answer::new(404) };
            let manifest: Value = serde_json::from_slice(bytes).unwrap();
            Answer::ok(bytes.clone())
                .with("content-type", manifest["mediaType"].as_str().unwrap())
                .with("docker-content-digest", digest)
        }
        ("PUT", _) => {
            let digest = request.target.rsplit("digest=").next().unwrap().replace("%3A", ":");
            contents.blobs.insert(digest, request.body.clone());
            Answer::new(201)
        }
        ("POST", _) => Answer::new(202).with("location", "/v2/x/blobs/uploads/session"),
        _ => contents.blobs.get(name).map_or_else(|| Answer::new(404), |bytes| Answer::ok(bytes.clone())),
    }
}
