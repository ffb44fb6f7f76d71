//! `quinistry upstream`, on the folder of a registry that pulls through from another one.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use quinistry::oci::Digest;
use serde_json::{Value, json};

use super::fields::{documented, paths};
use super::{bad, good, registry, run, stderr, stdout};
use crate::support::http::Peer;
use crate::support::process::command;
use crate::support::server::{PROGRAM, Server};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Folder with the storage of a registry and its configuration.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// Writes the configuration of an upstream whose tags `1*` are fetched in advance.
    fn new(upstream: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
             quinistry:\n  upstreams:\n  - prefix: hub\n    remoteurl: http://{upstream}\n    insecure: true\n    \
             ttl: 1h\n    deny: [secret/*]\n    prefetch:\n    - {{repository: team/app, tags: ['1*']}}\n    \
             - {{repository: secret/app, tags: ['1']}}\n",
            place.path("store").display()
        );
        fs::write(place.path("config.yml"), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> String {
        self.path("config.yml").to_str().unwrap().to_owned()
    }

    fn serve(&self) -> Server {
        Server::launch(command(PROGRAM).arg("serve").arg(self.config()))
    }
}

/// Returns the arguments of `upstream` with a configuration.
fn upstream<'a>(arguments: &[&'a str], config: &'a str) -> Vec<&'a str> {
    [&["upstream"], arguments, &["--config", config]].concat()
}

/// Pushes an image of one layer, and returns the digests of the manifest and of the layer.
fn push(peer: Peer, tag: &str) -> [Digest; 2] {
    let blob = |bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        let target = format!("/v2/team/app/blobs/uploads/?digest={digest}");
        assert_eq!(peer.ask("POST", &target, &[], bytes).status, 201);
        digest
    };
    let (config, layer) = (blob(b"{}"), blob(tag.as_bytes()));
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": tag.len()}],
    }))
    .unwrap();
    let target = format!("/v2/team/app/manifests/{tag}");
    assert_eq!(peer.ask("PUT", &target, &[("content-type", MANIFEST)], &manifest).status, 201);
    [Digest::sha256(&manifest), layer]
}

#[test]
fn copies_are_fetched_shown_and_removed_by_commands() {
    let (origin, host) = registry();
    let [digest, layer] = push(origin.peer, "1.0");
    push(origin.peer, "2.0");
    let place = Place::new(&host);
    // The command takes an existing storage alone.
    fs::create_dir_all(place.path("store/docker/registry/v2")).unwrap();
    let config = place.config();
    let json = |arguments: &[&str], code: i32| -> Value {
        let output = run(&[arguments, &["-o", "json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        serde_json::from_str(stdout(&output)).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)))
    };
    let shows = |command: &str, document: &Value| {
        let mut fields = BTreeSet::new();
        paths(document, "", &mut fields);
        assert_eq!(documented().get(command), Some(&fields), "docs/commands.md, {command}");
    };

    // The repository that the patterns exclude makes the prefetch incomplete.
    let prefetch = upstream(&["prefetch"], &config);
    let fetched = json(&prefetch, 1);
    shows("upstream prefetch", &fetched);
    let row = &fetched["upstreams"][0];
    assert_eq!(
        (&row["upstream"], &row["tags"], &row["failed"], &row["interrupted"]),
        (&"hub".into(), &1.into(), &0.into(), &false.into()),
        "{fetched}"
    );
    assert_eq!(row["excluded"][0]["repository"], "secret/app");
    let text = run(&prefetch);
    assert!(stdout(&text).starts_with("hub: 1 tag complete\nhub: repository secret/app "), "{text:?}");

    // What was fetched is shown, also while a registry serves it, and is served without the upstream.
    drop(origin);
    let server = place.serve();
    let status = upstream(&["status"], &config);
    let document = json(&status, 0);
    shows("upstream status", &document);
    let row = &document["upstreams"][0];
    assert_eq!((&row["prefix"], &row["remote"]), (&"hub".into(), &format!("http://{host}").into()));
    assert_eq!((&row["repositories"], &row["copies"]), (&1.into(), &1.into()), "{document}");
    assert!(row["bytes"].as_u64().unwrap() > 5 && row["oldestUse"].is_string(), "{document}");
    assert_eq!((&row["state"], &document["statesRecordedAt"]), (&Value::Null, &Value::Null), "{document}");
    let text = good(&status);
    assert!(text.starts_with("PREFIX  REMOTE") && text.contains("\nhub     http://"), "{text}");
    assert_eq!(good(&[&status[..], &["-q"]].concat()), "hub\n");
    for path in ["manifests/1.0".to_owned(), format!("manifests/{digest}"), format!("blobs/{layer}")] {
        assert_eq!(server.peer.get(&format!("/v2/hub/team/app/{path}")).status, 200, "{path}");
    }
    let evict = upstream(&["evict", "hub/team/app"], &config);
    let refused = bad(&evict, 1);
    assert!(refused.contains("is in use by another quinistry"), "{refused}");
    drop(server);

    // Tags that are fetched in advance go only by their names.
    let unused = upstream(&["evict", "--unused-for", "0s"], &config);
    assert_eq!(json(&unused, 0), json!({"evicted": 0}));
    let evicted = json(&evict, 0);
    shows("upstream evict", &evicted);
    assert_eq!(evicted, json!({"evicted": 1}));
    assert!(good(&evict).starts_with("0 copies removed; "));
    assert_eq!(json(&status, 0)["upstreams"][0]["copies"], 0);
    assert_eq!(good(&[&status[..], &["-q"]].concat()), "");

    // The upstream is away, and nothing is fetched.
    let away = json(&prefetch, 1);
    assert_eq!(away["upstreams"][0]["tags"], 0, "{away}");
}

#[test]
fn what_the_command_cannot_use_is_refused_with_a_remedy() {
    let place = Place::new("registry.example");
    for verb in [&["status"][..], &["prefetch"], &["evict", "hub/a"]] {
        let usage = bad(&[&["upstream"], verb].concat(), 2);
        assert!(usage.contains("upstream needs --config CONFIG"), "{usage}");
    }
    let config = place.config();
    let other = bad(&upstream(&["evict", "team/app"], &config), 1);
    assert!(
        other.contains("team/app is no repository of an upstream; begin with the prefix of one"),
        "{other}"
    );
    bad(&["upstream", "evict"], 2);
    let missing = bad(&upstream(&["status"], &config), 1);
    assert!(missing.contains("there is no folder"), "{missing}");
    let path = place.path("config.yml");
    fs::write(&path, "version: 0.1\nstorage: inmemory\n").unwrap();
    let none = bad(&upstream(&["status"], &config), 1);
    assert!(none.contains("has no upstreams; add quinistry.upstreams"), "{none}");
    fs::write(&path, "version: 0.1\nstorage: inmemory\nquinistry: {upstreams: [{prefix: hub}]}\n").unwrap();
    let wrong = bad(&upstream(&["status"], &config), 1);
    assert!(wrong.contains("config.yml:3:") && wrong.contains("remoteurl"), "{wrong}");
}
