//! `quinistry retention`, on a folder, beside a registry and after it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::fields::{documented, paths};
use super::{bad, good, run, stdout};
use crate::support::process::command;
use crate::support::server::{PROGRAM, SERVE, Server};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Entries that keep `main`, and what was pushed under `pr-` less than no time ago.
const POLICY: &str = "policies: [{repositories: ['ci/**'], untagged: {keepfor: 0s}, keeptags: [
      {patterns: ['pr-.*'], pushedwithin: 0s}, {}]}]";

/// Folder with a registry's storage and a configuration.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self) -> String {
        self.path("store").to_str().unwrap().to_owned()
    }

    fn config(&self) -> String {
        self.path("config.yml").to_str().unwrap().to_owned()
    }

    /// Writes the configuration of the storage, with this retention.
    fn write(&self, retention: &str) {
        let store = self.store();
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {store}}}}}\nquinistry:\n  retention:\n    \
             {{{retention}}}\n"
        );
        fs::write(self.config(), text).unwrap();
    }

    /// Starts a registry, and pushes one image under each tag.
    fn serve(&self, tags: &[&str]) -> Server {
        let server = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", &self.store()]));
        for tag in tags {
            let index =
                json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"tag": tag}});
            let path = format!("/v2/ci/app/manifests/{tag}");
            let body = serde_json::to_vec(&index).unwrap();
            assert_eq!(server.peer.ask("PUT", &path, &[("content-type", INDEX)], &body).status, 201);
        }
        server
    }

    fn has(&self, tag: &str) -> bool {
        let tags = "docker/registry/v2/repositories/ci/app/_manifests/tags";
        Path::new(&self.store()).join(tags).join(tag).join("current/link").exists()
    }
}

/// Returns the tags of a result, each with its fate and the rule that decides.
fn tags(document: &Value) -> Vec<(&str, bool, &str)> {
    let tags = document["tags"].as_array().unwrap().iter();
    tags.map(|tag| {
        (tag["tag"].as_str().unwrap(), tag["deleted"].as_bool().unwrap(), tag["rule"].as_str().unwrap())
    })
    .collect()
}

#[test]
fn a_plan_is_made_beside_a_registry_and_a_run_after_it() {
    let place = Place::new();
    place.write(&format!("maxdelete: 100%, {POLICY}"));
    let (store, config) = (place.store(), place.config());
    let arguments = |verb: &'static str| vec!["retention", verb, &store, "--config", &config];
    let json = |arguments: &[&str]| -> Value {
        let text = good(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap()
    };
    let mut fields = BTreeSet::new();
    let server = place.serve(&["main", "pr-1", "pr-2"]);
    let plan = json(&arguments("plan"));
    paths(&plan, "", &mut fields);
    let rule = "no criterion of policies[0].keeptags[0]";
    let main = ("main", false, "policies[0].keeptags[1].patterns");
    assert_eq!(tags(&plan), [main, ("pr-1", true, rule), ("pr-2", true, rule)]);
    let bytes: Vec<_> = plan["tags"].as_array().unwrap().iter().map(|row| row["bytes"].as_u64()).collect();
    assert!(matches!(bytes[..], [None, Some(1..), Some(1..)]), "{plan}");
    assert_eq!(plan["bytes"].as_u64(), Some(bytes.iter().flatten().sum()), "{plan}");
    let text = good(&arguments("plan"));
    assert!(text.starts_with("REPOSITORY  TAG   DIGEST"), "{text}");
    assert!(text.contains(&format!("deleted: {rule}\n")), "{text}");
    assert!(text.contains("\n2 tags of 3 would be deleted; collection then frees at most "), "{text}");
    assert_eq!(good(&[&arguments("plan")[..], &["-q"]].concat()), "ci/app:pr-1\nci/app:pr-2\n");
    let refused = bad(&arguments("run"), 1);
    assert!(refused.contains("is in use by another quinistry"), "{refused}");
    drop(server);

    // Dry until the configuration says otherwise.
    let dry = json(&arguments("run"));
    paths(&dry, "", &mut fields);
    assert_eq!((&dry["applied"], &dry["deleted"]), (&json!(false), &json!(2)));
    assert_eq!(dry["dryRun"], "quinistry.retention.dryrun is true");
    assert!(place.has("pr-1"));
    place.write(&format!("dryrun: false, maxdelete: 50%, {POLICY}"));

    // Too many at once.
    let much = run(&[&arguments("run")[..], &["-o", "json"]].concat());
    assert_eq!(much.status.code(), Some(1));
    let document: Value = serde_json::from_str(stdout(&much)).unwrap();
    paths(&document, "", &mut fields);
    assert_eq!(document["excesses"], json!([{"repository": "ci/app", "deleted": 2, "tags": 3}]));
    assert!(place.has("pr-1") && place.has("pr-2"));
    let most = [&arguments("run")[..], &["--max-delete", "70%"]].concat();
    let text = good(&most);
    assert!(text.contains("\n2 tags of 3 deleted; collection then frees at most "), "{text}");
    assert!(place.has("main") && !place.has("pr-1") && !place.has("pr-2"));
    assert!(good(&most).starts_with("0 tags of 1 deleted"));
    let audit = Path::new(&store).join("docker/registry/v2/_quinistry/audit");
    assert!(audit.is_dir(), "the deletions are recorded");
    for command in ["retention plan", "retention run"] {
        assert_eq!(documented().get(command), Some(&fields), "docs/commands.md, {command}");
    }
}

#[test]
fn changed_policies_run_dry_once_unless_told_otherwise() {
    let place = Place::new();
    place.write(&format!("dryrun: false, maxdelete: 100%, {POLICY}"));
    drop(place.serve(&["main", "pr-1", "x"]));
    // The storage of the configuration.
    let config = place.config();
    let run = ["retention", "run", "--config", &config];
    let text = good(&run);
    assert!(
        text.ends_with("nothing was deleted, because the policies have changed since the last run\n"),
        "{text}"
    );
    assert!(place.has("pr-1"));
    good(&run);
    assert!(!place.has("pr-1") && place.has("x"));
    place.write("dryrun: false, maxdelete: 100%, policies: [{repositories: ['ci/**'], keeptags: [{patterns: [main]}]}]");
    good(&[&run[..], &["--now"]].concat());
    assert!(place.has("main") && !place.has("x"));
}

#[test]
fn what_the_command_cannot_use_is_refused_with_a_remedy() {
    let place = Place::new();
    let config = place.config();
    place.write(POLICY);
    let missing = bad(&["retention", "plan", "--config", &config], 1);
    assert!(missing.contains("there is no folder"), "{missing}");
    fs::write(&config, "version: 0.1\nstorage: inmemory\n").unwrap();
    let none = bad(&["retention", "run", "--config", &config], 1);
    assert!(none.contains("has no policies; add quinistry.retention"), "{none}");
    fs::write(&config, format!("version: 0.1\nstorage: inmemory\nquinistry: {{retention: {{{POLICY}}}}}\n"))
        .unwrap();
    let memory = bad(&["retention", "plan", "--config", &config], 1);
    assert!(memory.contains("keeps content in memory"), "{memory}");
    fs::write(&config, "version: 0.1\nstorage: inmemory\nquinistry: {retention: {maxdelete: 1}}\n").unwrap();
    let wrong = bad(&["retention", "plan", "--config", &config], 1);
    assert!(wrong.contains("config.yml:3:36: error: quinistry.retention.maxdelete: "), "{wrong}");
    let usage = bad(&["retention", "plan", "/store"], 2);
    assert!(usage.contains("needs --config CONFIG"), "{usage}");
    bad(&["retention", "run", "--max-delete", "101"], 2);
}
