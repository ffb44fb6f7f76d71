//! The kinds of content that the suites push: images, indexes and artifacts, with all that may be odd about
//! them.

use std::collections::BTreeMap;

use quinistry::oci::{Algorithm, Digest};
use serde_json::{Value, json};

use crate::push::registry::{INDEX, MANIFEST};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const EXAMPLE: &str = "application/vnd.example.kind.v1";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Blobs and manifests that are pushed together.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) name: &'static str,
    pub(super) blobs: BTreeMap<Digest, Vec<u8>>,
    /// In the order in which they can be pushed.
    pub(super) manifests: Vec<Pushed>,
    /// And which of the manifests they mean.
    pub(super) tags: BTreeMap<String, usize>,
    /// Tags are parameters of the push by digest.
    pub(super) by_parameter: bool,
    algorithm: Algorithm,
}

/// A manifest with its digest and media type.
#[derive(Debug)]
pub(super) struct Pushed {
    pub(super) digest: Digest,
    pub(super) media_type: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) subject: Option<Digest>,
    /// By which referrers are found: an image without a type of its own has its configuration's.
    pub(super) artifact_type: Option<String>,
    annotations: Value,
}

impl Pushed {
    /// As a list of referrers has it.
    pub(super) fn descriptor(&self) -> Value {
        let mut descriptor =
            json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()});
        let members = descriptor.as_object_mut().unwrap();
        if let Some(artifact_type) = &self.artifact_type {
            members.insert("artifactType".into(), json!(artifact_type));
        }
        if !self.annotations.is_null() {
            members.insert("annotations".into(), self.annotations.clone());
        }
        descriptor
    }
}

impl Content {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            blobs: BTreeMap::new(),
            manifests: Vec::new(),
            tags: BTreeMap::new(),
            by_parameter: false,
            algorithm: Algorithm::Sha256,
        }
    }

    fn by(self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self }
    }

    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(self.algorithm, bytes);
        self.blobs.insert(digest.clone(), bytes.to_vec());
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// An image of two layers that are its own, changed by `more`.
    fn image(&mut self, note: &str, more: &Value) -> Value {
        let config = self.blob(CONFIG, format!("{{\"architecture\":\"{note}\"}}").as_bytes());
        let layers = [0, 1].map(|index| self.blob(LAYER, format!("{} {note} {index}", self.name).as_bytes()));
        self.manifest(MANIFEST, &json!({"config": config, "layers": layers}), more)
    }

    /// Something that is no image.
    fn artifact(&mut self, note: &str, more: &Value) -> Value {
        let (config, layer) = (self.blob(EMPTY, b"{}"), self.blob(EXAMPLE, note.as_bytes()));
        let own = json!({"artifactType": EXAMPLE, "config": config, "layers": [layer]});
        self.manifest(MANIFEST, &own, more)
    }

    fn index(&mut self, manifests: &[Value], more: &Value) -> Value {
        self.manifest(INDEX, &json!({"manifests": manifests}), more)
    }

    /// An index of two images.
    fn platforms(&mut self, note: &str, more: &Value) -> Value {
        let children = ["amd64", "arm64"].map(|architecture| {
            let mut child = self.image(&format!("{note} {architecture}"), &json!({}));
            child["platform"] = json!({"os": "linux", "architecture": architecture});
            child
        });
        self.index(&children, more)
    }

    fn manifest(&mut self, media_type: &'static str, own: &Value, more: &Value) -> Value {
        let mut manifest = json!({"schemaVersion": 2, "mediaType": media_type});
        for members in [own, more] {
            manifest.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        }
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let digest = Digest::of(self.algorithm, &bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        let own_type = manifest["artifactType"].as_str().or(manifest["config"]["mediaType"].as_str());
        self.manifests.push(Pushed {
            digest,
            media_type,
            bytes,
            subject: manifest["subject"]["digest"].as_str().map(|digest| digest.parse().unwrap()),
            artifact_type: own_type.map(Into::into),
            annotations: manifest["annotations"].clone(),
        });
        descriptor
    }

    /// The last manifest has these.
    fn tagged(mut self, tags: &[&str]) -> Self {
        let last = self.manifests.len() - 1;
        self.tags.extend(tags.iter().map(|tag| ((*tag).to_owned(), last)));
        self
    }

    /// Every manifest has a tag, and the last one two, all given with the digest.
    fn tagged_by_parameter(mut self) -> Self {
        self.by_parameter = true;
        let tags: Vec<_> =
            (0..self.manifests.len()).map(|index| (format!("parameter-{index}"), index)).collect();
        self.tags.extend(tags);
        self.tagged(&["parameter"])
    }
}

/// All of them, the plain image first.
pub(super) fn kinds() -> Vec<Content> {
    let nothing = &json!({});
    let make = |name, tags: &[&str], fill: &dyn Fn(&mut Content)| {
        let mut content = Content::new(name);
        fill(&mut content);
        content.tagged(tags)
    };
    let note = json!({"org.example.note": "hello"});
    let mut all = vec![
        make("image", &["image"], &|it| {
            it.image("a", nothing);
        }),
        make("large manifest", &["large"], &|it| {
            let annotations: BTreeMap<_, _> =
                (0..390).map(|i| (format!("n{i}"), "A".repeat(10_000))).collect();
            it.image("a", &json!({"annotations": annotations}));
        }),
        make("index", &["index", "also"], &|it| {
            it.platforms("a", nothing);
        }),
        make("nested index", &["nested"], &|it| {
            let inner = ["a", "b"].map(|note| it.platforms(note, nothing));
            it.index(&inner, nothing);
        }),
        make("empty index", &["empty"], &|it| {
            it.index(&[], nothing);
        }),
        make("artifact", &["artifact"], &|it| {
            it.artifact("a", nothing);
        }),
        make("artifact without content", &["bare"], &|it| {
            let empty = it.blob(EMPTY, b"{}");
            it.artifact("{}", &json!({"layers": [empty]}));
        }),
        make("artifact index", &["artifacts"], &|it| {
            let children = ["a", "b"].map(|note| it.artifact(note, nothing));
            it.index(&children, &json!({"artifactType": EXAMPLE}));
        }),
        make("artifacts with subject", &["signed"], &|it| {
            let subject = it.image("a", nothing);
            it.image("b", &json!({"subject": subject}));
            it.artifact("c", &json!({"subject": subject, "annotations": note}));
            let other = "application/vnd.example.other.v1";
            it.artifact("d", &json!({"subject": subject, "artifactType": other, "annotations": note}));
        }),
        make("index with subject", &["of-index"], &|it| {
            let subject = it.platforms("a", nothing);
            it.platforms("b", &json!({"subject": subject}));
            let more = json!({"subject": subject, "artifactType": EXAMPLE, "annotations": note});
            it.platforms("c", &more);
        }),
        make("missing subject", &["early"], &|it| {
            let digest = Digest::sha256(b"missing content");
            let subject = json!({"mediaType": MANIFEST, "digest": digest, "size": 123});
            it.artifact("a", &json!({"subject": subject, "annotations": note}));
        }),
        make("data in descriptors", &["data"], &|it| {
            let mut layer = it.blob(LAYER, b"data");
            layer["data"] = json!("ZGF0YQ==");
            it.image("a", &json!({"layers": [layer]}));
        }),
        make("layers from elsewhere", &["foreign"], &|it| {
            let foreign = ["tar", "tar+gzip"].map(|form| {
                let digest = Digest::sha256(form.as_bytes());
                let url = format!("https://store.example.com/{digest}");
                let media_type = format!("application/vnd.oci.image.layer.nondistributable.v1.{form}");
                json!({"mediaType": media_type, "digest": digest, "size": 12345, "urls": [url]})
            });
            let layer = it.blob(LAYER, b"here");
            it.image("a", &json!({"layers": [foreign[0], foreign[1], layer]}));
        }),
        make("unknown members", &["unknown"], &|it| {
            it.platforms("a", &json!({"org.example.unknown": {"deep": [1, null, 2.5]}}));
        }),
        make("no layers", &["none"], &|it| {
            it.image("a", &json!({"layers": []}));
        }),
        make("Docker's own types", &["docker"], &|it| {
            let config = it.blob("application/vnd.docker.container.image.v1+json", b"{\"os\":\"linux\"}");
            let layer = it.blob("application/vnd.docker.image.rootfs.diff.tar.gzip", b"docker");
            let own = json!({"config": config, "layers": [layer]});
            let child = it.manifest(DOCKER_MANIFEST, &own, nothing);
            it.manifest(DOCKER_LIST, &json!({"manifests": [child]}), nothing);
        }),
    ];
    for (name, algorithm) in
        [("tags as parameters", Algorithm::Sha256), ("tags as parameters, sha512", Algorithm::Sha512)]
    {
        let mut content = Content::new(name).by(algorithm);
        content.platforms("a", nothing);
        all.push(content.tagged_by_parameter());
    }
    let mut long = Content::new("sha512").by(Algorithm::Sha512);
    long.platforms("a", nothing);
    all.push(long);
    all
}

/// An image without one of its layers, and an index without one of its children.
pub(super) fn sparse() -> Content {
    let mut content = Content::new("sparse");
    content.image("a", &json!({}));
    content.blobs.pop_first().unwrap();
    let child = content.image("b", &json!({}));
    let absent = json!({"mediaType": MANIFEST, "digest": Digest::sha256(b"absent"), "size": 1024});
    content.index(&[child, absent], &json!({}));
    content.tagged(&["sparse"])
}
