//! Test of the fields of `-o json`: exactly the ones that docs/commands.md promises.

use std::collections::{BTreeMap, BTreeSet};

use quinistry::oci::Digest;
use serde_json::{Value, json};

use super::{good, registry, stdout};
use crate::support::client::{honest, image};
use crate::support::http::Peer;
use crate::support::scripted_registry::{Answer, ScriptedRegistry};

/// Objects whose keys are not fields, but names from the image.
const MAPS: &[&str] = &["annotations", "referrers[].annotations"];

/// Returns the documented fields, by command.
pub(super) fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = include_str!("../../../docs/commands.md");
    let (_, text) = text.split_once("## JSON fields").unwrap();
    let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut command = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("### ") {
            name.clone_into(&mut command);
        } else if let Some(field) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) {
            assert!(
                fields.entry(command.clone()).or_default().insert(field.to_owned()),
                "{command}: {field}"
            );
        }
    }
    fields
}

/// Collects the paths of all values in a document.
pub(super) fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) if !MAPS.contains(&path) => {
            for (key, value) in object {
                paths(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| paths(item, &format!("{path}[]"), found)),
        _ => {
            found.insert(path.to_owned());
        }
    }
}

fn put(peer: Peer, path: &str, media_type: &str, body: &Value) -> (Digest, usize) {
    let body = serde_json::to_vec(body).unwrap();
    let answer = peer.ask("PUT", path, &[("content-type", media_type)], &body);
    assert_eq!(answer.status, 201, "{path}");
    (Digest::sha256(&body), body.len())
}

#[test]
fn every_document_has_the_fields_that_are_documented() {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let (server, host) = registry();
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("q.tar");
    let archive = archive.to_str().unwrap();
    let name = format!("{host}/a:1");
    let copy = format!("{host}/b:1");
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut record = |command: &'static str, document: &str| {
        let document: Value =
            serde_json::from_str(document).unwrap_or_else(|_| panic!("{command}: {document}"));
        paths(&document, "", seen.entry(command).or_default());
        document
    };
    let json = |arguments: &[&str]| good(&[arguments, &["-o", "json"]].concat());

    record("push", &json(&["push", "--self", &name]));
    let pulled = record("pull", &json(&["pull", &name, archive]));
    let digest = pulled["digest"].as_str().unwrap();
    assert_eq!(record("push", &json(&["push", archive, &copy]))["path"], archive);
    let inspected = record("inspect", &json(&["inspect", &name]));
    let subject = json!({"mediaType": MANIFEST, "digest": digest, "size": 7});
    let about = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "a/b", "subject": subject,
        "config": inspected["config"], "layers": [], "annotations": {"a": "b"},
    });
    let (about, size) = put(server.peer, "/v2/a/manifests/about", MANIFEST, &about);
    let layout = folder.path().join("layout");
    let layout = layout.to_str().unwrap();
    for name in [&name, &format!("{host}/a@{about}")] {
        json(&["pull", name, layout, "--format", "oci-layout"]);
    }
    let pushed = record("push", &json(&["push", layout, &format!("{host}/e:1")]));
    assert_eq!(pushed["referrers"], json!([about.as_str()]));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{
        "mediaType": MANIFEST, "digest": about.as_str(), "size": size,
        "platform": {"os": "linux", "architecture": "arm64"},
    }]});
    put(server.peer, "/v2/a/manifests/index", INDEX, &index);
    record("inspect", &json(&["inspect", &format!("{host}/a:index")]));
    record("referrers", &json(&["referrers", &name]));
    let copied = record("copy", &json(&["copy", "--all", &name, &format!("{host}/c:1")]));
    assert_eq!(copied["referrers"], json!([about.as_str()]));
    let rendered = folder.path().join("rendered.yaml");
    std::fs::write(&rendered, "kind: Cluster\nimage: ghcr.io/acme/pg:17\n").unwrap();
    let bundle = folder.path().join("bundle.tar");
    let from = rendered.to_str().unwrap();
    record("bundle", &json(&["bundle", bundle.to_str().unwrap(), &name, "--from", from]));
    record("load", &json(&["load", bundle.to_str().unwrap(), &host]));
    record("tags", &json(&["tags", &name]));
    record("list", &json(&["list", &host]));
    assert_eq!(record("verify", &json(&["verify", &name]))["relation"], "served");
    assert_eq!(record("delete", &json(&["delete", &name]))["deleted"], "tag");
    record("version", &json(&["version"]));
    record("bootstrap", &json(&["bootstrap", "--base-port", "0", "--generations", "2"]));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let failed = super::run(&["bootstrap", "--base-port", &port, "-o", "json"]);
    assert_eq!(failed.status.code(), Some(1));
    record("bootstrap", stdout(&failed));
    record("gc", &collected(folder.path()));
    let examined = super::run(&["fsck", folder.path().join("store").to_str().unwrap(), "-o", "json"]);
    assert_eq!(examined.status.code(), Some(1), "the odd manifest is a warning");
    record("fsck", stdout(&examined));
    let config = folder.path().join("config.yml");
    std::fs::write(&config, "version: 0.1\nstorage: inmemory\nloglevel: info\nport: 1\n").unwrap();
    record("config check", &json(&["config", "check", config.to_str().unwrap()]));
    record("config keys", &json(&["config", "keys"]));
    // From a registry that lists what it has lost: an index with the referrers of an image, and nothing
    // behind one.
    let lost = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{
        "mediaType": MANIFEST, "digest": Digest::sha256(b"lost").as_str(), "size": 7,
    }]});
    record("copy", &json(&["copy", "--all", &losing(lost), &format!("{host}/d:1")]));

    // Null where there is no value; what is in it otherwise is there, too.
    for (command, object) in [("bootstrap", "deviation"), ("inspect", "config")] {
        assert!(seen.get_mut(command).unwrap().remove(object), "{command}: {object} is never null");
    }
    let documented = documented();
    for (command, fields) in seen {
        assert_eq!(documented.get(command), Some(&fields), "docs/commands.md, {command}");
    }
}

/// Returns the output of `gc` for a folder with one manifest, one link and one blob to collect.
fn collected(folder: &std::path::Path) -> String {
    use crate::support::process::command;
    use crate::support::server::{PROGRAM, SERVE, Server};
    let store = folder.join("store");
    let store = store.to_str().unwrap();
    {
        let server = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", store]));
        let host = server.peer.0.to_string();
        good(&["push", "--self", &format!("{host}/a:1"), "-q"]);
        good(&["delete", &format!("{host}/a:1"), "-q"]);
    }
    // A manifest that another registry took, and this one does not understand.
    let odd = br#"{"schemaVersion":2,"mediaType":"application/odd"}"#;
    let digest = Digest::sha256(odd);
    let hex = digest.hex();
    let write = |path: String, content: &[u8]| {
        let path = std::path::Path::new(store).join("docker/registry/v2").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    write(format!("blobs/sha256/{}/{hex}/data", &hex[..2]), odd);
    for link in [
        format!("revisions/sha256/{hex}/link"),
        "tags/odd/current/link".into(),
        format!("tags/odd/index/sha256/{hex}/link"),
    ] {
        write(format!("repositories/odd/_manifests/{link}"), digest.as_str().as_bytes());
    }
    good(&["gc", store, "--grace", "0", "--delete-untagged", "-o", "json"])
}

/// Returns the name of an image whose registry lists `referrers`.
fn losing(referrers: Value) -> String {
    let registry = ScriptedRegistry::start(move |request| {
        if request.path().contains("/referrers/") {
            return Answer::ok(referrers.to_string())
                .with("content-type", "application/vnd.oci.image.index.v1+json");
        }
        honest(&image(), request)
    });
    format!("{}/a", Box::leak(Box::new(registry)).host)
}
