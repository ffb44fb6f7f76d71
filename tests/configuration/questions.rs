//! Requests that show the effect of a configuration, and their answers in a form that two programs can share.

use std::collections::BTreeMap;

use quinistry::oci::{Descriptor, Digest, media_type, to_json};
use serde_json::{Value, json};

use crate::support::http::{Answer, Peer};
use crate::support::images::{Image, Packing};

/// Headers that are compared, if no question names others.
const HEADERS: [&str; 6] = [
    "content-type",
    "docker-content-digest",
    "docker-distribution-api-version",
    "link",
    "location",
    "x-test",
];

#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) name: &'static str,
    method: &'static str,
    path: String,
    content_type: Option<&'static str>,
    body: Vec<u8>,
}

/// An answer without what differs between two runs of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<&'static str, String>,
    /// Lists, codes of errors; `null` for other bodies.
    pub(crate) body: Value,
}

/// Content of every storage folder here: two tags of one image in `app`, another image in `team/tool`.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) app: Image,
    pub(crate) tool: Image,
}

impl Content {
    pub(crate) fn new() -> Self {
        Self {
            app: Image::new("amd64", &["first"], Packing::Gzip),
            tool: Image::new("amd64", &["second"], Packing::Gzip),
        }
    }

    /// Pushes the content.
    pub(crate) fn push(&self, peer: Peer) {
        for (name, tags, image) in
            [("app", &["1", "2"][..], &self.app), ("team/tool", &["latest"], &self.tool)]
        {
            for (descriptor, bytes) in image.blobs() {
                push_blob(peer, "", name, &descriptor.digest, bytes);
            }
            for tag in tags {
                let path = format!("/v2/{name}/manifests/{tag}");
                let answer =
                    peer.ask("PUT", &path, &[("Content-Type", media_type::OCI_MANIFEST)], &image.manifest);
                assert_eq!(answer.status, 201, "{answer:?}");
            }
        }
    }

    /// Requests that read, then some that write, then some that delete.
    pub(crate) fn questions(&self) -> Vec<Question> {
        let digest = self.app.digest();
        let layer = &self.app.layers[0].0.digest;
        let mut all = vec![
            read("root", "GET", "/"),
            read("base", "GET", "/v2/"),
            read("catalog", "GET", "/v2/_catalog"),
            read("catalog, one", "GET", "/v2/_catalog?n=1"),
            read("catalog, many", "GET", "/v2/_catalog?n=5000"),
            read("tags", "GET", "/v2/app/tags/list"),
            read("tags, one", "GET", "/v2/app/tags/list?n=1"),
            read("tags, many", "GET", "/v2/app/tags/list?n=5000"),
            read("tags of none", "GET", "/v2/none/tags/list"),
            read("manifest by tag", "GET", "/v2/app/manifests/1"),
            read("manifest, headers", "HEAD", &format!("/v2/app/manifests/{digest}")),
            read("blob", "HEAD", &format!("/v2/app/blobs/{layer}")),
            read("no manifest", "GET", "/v2/app/manifests/none"),
            read("elsewhere", "GET", "/x/y"),
            read("metrics in public", "GET", "/metrics"),
            read("health in public", "GET", "/debug/health"),
            read("base below a prefix", "GET", "/registry/v2/"),
            read("catalog below a prefix", "GET", "/registry/v2/_catalog?n=1"),
            read("upload", "POST", "/v2/new/blobs/uploads/"),
            read("upload below a prefix", "POST", "/registry/v2/new/blobs/uploads/"),
        ];
        all.extend([
            put("tag again", "3", media_type::OCI_MANIFEST, self.app.manifest.clone()),
            put("layer elsewhere", "urls", DOCKER_MANIFEST, self.foreign("https://example.com/layer")),
            put("layer by ftp", "ftp", DOCKER_MANIFEST, self.foreign("ftp://example.com/layer")),
            put("index, child missing", "index", media_type::OCI_INDEX, index(&["amd64"])),
            put("index, two missing", "two", media_type::OCI_INDEX, index(&["arm64", "s390x"])),
            put("blob missing", "blob", media_type::OCI_MANIFEST, self.tool.manifest.clone()),
            put("plugin", "plugin", DOCKER_MANIFEST, self.docker("application/vnd.docker.plugin.v1+json")),
            put(
                "image",
                "image",
                DOCKER_MANIFEST,
                self.docker("application/vnd.docker.container.image.v1+json"),
            ),
            read("delete manifest", "DELETE", &format!("/v2/team/tool/manifests/{}", self.tool.digest())),
            read("delete blob", "DELETE", &format!("/v2/team/tool/blobs/{}", self.tool.layers[0].0.digest)),
        ]);
        all
    }

    /// Manifest with a layer that lies elsewhere.
    fn foreign(&self, url: &str) -> Vec<u8> {
        let absent = Digest::sha256(b"elsewhere");
        to_json(&json!({
            "schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
            "config": descriptor("application/vnd.docker.container.image.v1+json", &self.app.config.0),
            "layers": [{
                "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                "digest": absent, "size": 9, "urls": [url],
            }],
        }))
    }

    /// Manifest with a configuration of this media type.
    fn docker(&self, config: &str) -> Vec<u8> {
        to_json(&json!({
            "schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
            "config": descriptor(config, &self.app.config.0),
            "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", &self.app.layers[0].0)],
        }))
    }
}

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn descriptor(kind: &str, of: &Descriptor) -> Value {
    json!({"mediaType": kind, "digest": of.digest, "size": of.size})
}

/// Index whose children, one for each architecture, no registry has.
fn index(architectures: &[&str]) -> Vec<u8> {
    let children: Vec<Value> = architectures
        .iter()
        .map(|architecture| {
            json!({
                "mediaType": media_type::OCI_MANIFEST, "digest": Digest::sha256(architecture.as_bytes()), "size": 7,
                "platform": {"architecture": architecture, "os": "linux"},
            })
        })
        .collect();
    to_json(&json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children}))
}

/// Push of a manifest to the repository `app`.
fn put(name: &'static str, tag: &str, kind: &'static str, body: Vec<u8>) -> Question {
    let path = format!("/v2/app/manifests/{tag}");
    Question { name, method: "PUT", path, content_type: Some(kind), body }
}

fn read(name: &'static str, method: &'static str, path: &str) -> Question {
    Question { name, method, path: path.into(), content_type: None, body: Vec::new() }
}

/// Pushes a blob in one request after its session was opened, as every client does.
pub(crate) fn push_blob(peer: Peer, prefix: &str, name: &str, digest: &Digest, bytes: &[u8]) {
    let session = peer.ask("POST", &format!("{prefix}/v2/{name}/blobs/uploads/"), &[], b"");
    assert_eq!(session.status, 202, "{session:?}");
    let location = without_host(session.header("location").expect("a session")).to_owned();
    let mark = if location.contains('?') { '&' } else { '?' };
    let answer = peer.ask("PUT", &format!("{location}{mark}digest={digest}"), &[], bytes);
    assert_eq!(answer.status, 201, "{answer:?}");
}

impl Question {
    pub(crate) fn ask(&self, peer: Peer) -> Outcome {
        let mut headers = vec![("Accept", media_type::OCI_MANIFEST)];
        headers.extend(self.content_type.iter().map(|kind| ("Content-Type", *kind)));
        let mut outcome = Outcome::of(&peer.ask(self.method, &self.path, &headers, &self.body));
        // Distribution has 500 and several codes for a manifest that is not accepted.
        if self.method == "PUT" && matches!(outcome.status, 400 | 500) {
            (outcome.status, outcome.body) = (400, Value::Null);
        }
        outcome
    }
}

impl Outcome {
    fn of(answer: &Answer) -> Self {
        let mut headers = BTreeMap::new();
        for name in HEADERS {
            let values = answer.headers.iter().filter(|(other, _)| other == name);
            let values: Vec<String> = values.map(|(_, value)| comparable(name, value)).collect();
            if !values.is_empty() && (name != "content-type" || answer.status < 300) {
                headers.insert(name, values.join(", "));
            }
        }
        // Distribution has no error object for paths and methods that it does not know, nor its headers.
        let is_json = !matches!(answer.status, 404 | 405);
        headers.retain(|name, _| is_json || *name != "x-test");
        let mut body = serde_json::from_slice(&answer.body).ok().filter(|_| is_json).unwrap_or(Value::Null);
        if body["errors"].is_array() {
            body = json!(
                body["errors"].as_array().unwrap().iter().map(|error| &error["code"]).collect::<Vec<_>>()
            );
        } else if let Some(names) = body["repositories"].as_array_mut() {
            names.retain(|name| name != "quinistry");
        } else if let Some(tags) = body["tags"].as_array_mut() {
            // Version 2.8 lists them in no order.
            tags.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
        } else {
            body = Value::Null;
        }
        Self { status: answer.status, headers, body }
    }
}

/// Returns a header's value without the host, and without the ID and the state of an upload session.
fn comparable(name: &str, value: &str) -> String {
    match name {
        "location" => {
            let path = without_host(value).split('?').next().unwrap_or_default();
            match path.rsplit_once("/uploads/") {
                Some((before, _)) => format!("{before}/uploads/ID"),
                None => path.to_owned(),
            }
        }
        "link" => {
            let (target, relation) = value.split_once('>').unwrap_or((value, ""));
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let mut pairs: Vec<&str> = query.split('&').collect();
            pairs.sort_unstable();
            format!("{path}?{}>{relation}", pairs.join("&"))
        }
        "content-type" => value.split(';').next().unwrap_or_default().to_owned(),
        _ => value.to_owned(),
    }
}

fn without_host(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("://") else { return url };
    &rest[rest.find('/').unwrap_or(rest.len())..]
}
