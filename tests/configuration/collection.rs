//! Collection of garbage while the registry serves a folder, as its owner sees it.

use std::path::Path;
use std::time::{Duration, Instant};

use quinistry::oci::Digest;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::program::{Given, Place, Registry};
use super::questions::push_blob;
use crate::support::http::{Peer, TEST_TIMEOUT};
use crate::support::process::{isolated_command, output};
use crate::support::server::PROGRAM;

/// Configuration with a place for a section.
const FILE: &str = "version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: '{root}'}, delete: {enabled: \
                    true}}\nhttp: {addr: '{addr}'}\n";

/// Section by which cycles follow each other.
const OFTEN: &str = "quinistry: {gc: {writers: ours, interval: 1s, grace: 1s}}\n";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Time of grace of the test, in seconds.
const SHORT: (&str, &str) = ("QUINISTRY_GC_MIN_GRACE", "1");

fn serve(place: &Place, section: &str) -> Registry {
    place.serve_ours(Given {
        file: Some(&format!("{FILE}{section}")),
        variables: &[SHORT],
        ..Given::default()
    })
}

/// Pushes an image of one configuration, and returns the digests of both.
fn push(peer: Peer, text: &str, tag: &str) -> [Digest; 2] {
    let config = format!(r#"{{"architecture":"amd64","os":"linux","text":"{text}"}}"#);
    let digest = Digest::sha256(config.as_bytes());
    push_blob(peer, "", "app", &digest, config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":{}}},"layers":[]}}"#,
        config.len()
    );
    let target = format!("/v2/app/manifests/{tag}");
    let answer = peer.ask("PUT", &target, &[("Content-Type", MANIFEST)], manifest.as_bytes());
    assert_eq!(answer.status, 201, "{answer:?}");
    [digest, Digest::sha256(manifest.as_bytes())]
}

fn file(root: &Path, digest: &Digest) -> std::path::PathBuf {
    let hex = digest.hex();
    root.join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
}

/// Waits until something is true.
fn until(what: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !is_true() {
        assert!(Instant::now() < deadline, "waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `quinistry gc status`, which must succeed.
fn status(root: &Path, arguments: &[&str]) -> String {
    let done = output(isolated_command(PROGRAM).args(["gc", "status"]).arg(root).args(arguments)).unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn deleted_images_are_freed_while_serving_and_others_stay() {
    let place = Place::new();
    let registry = serve(&place, "");
    let [config, manifest] = push(registry.peer, "gone", "v1");
    let kept = push(registry.peer, "kept", "v2");
    let root = place.root();
    assert!(status(&root, &[]).contains("no cycle of collection has ended here"), "{}", status(&root, &[]));
    assert_eq!(status(&root, &["-o", "json"]).trim(), "null");
    let deleted = registry.peer.ask("DELETE", &format!("/v2/app/manifests/{manifest}"), &[], b"");
    assert_eq!(deleted.status, 202, "{deleted:?}");
    assert!(file(&root, &config).exists() && file(&root, &manifest).exists());
    // The section comes with a reload.
    place.write_file(&format!("{FILE}{OFTEN}"), registry.peer);
    registry.signal(Signal::HUP);
    until("the image is freed", || !file(&root, &config).exists() && !file(&root, &manifest).exists());
    let report: Value = serde_json::from_str(&status(&root, &["-o", "json"])).unwrap();
    assert!(report["epoch"].as_u64().unwrap() >= 1 && report["repositories"] == 1, "{report}");
    assert!(status(&root, &[]).contains("blobs: "), "{}", status(&root, &[]));
    for digest in &kept {
        assert!(file(&root, digest).exists());
    }
    let answer = registry.peer.ask("GET", "/v2/app/manifests/v2", &[("Accept", MANIFEST)], b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    // What was freed can be pushed again.
    push(registry.peer, "gone", "v1");
    let answer = registry.peer.ask("HEAD", &format!("/v2/app/blobs/{config}"), &[], b"");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_damaged_manifest_is_named_once_and_another_repository_is_collected_if_wanted() {
    let place = Place::new();
    let registry = serve(&place, "");
    let [_, manifest] = push(registry.peer, "damaged", "v1");
    let garbage = Digest::sha256(b"garbage");
    push_blob(registry.peer, "", "other", &garbage, b"garbage");
    drop(registry);
    let root = place.root();
    std::fs::write(file(&root, &manifest), b"torn").unwrap();
    let link =
        root.join(format!("docker/registry/v2/repositories/other/_layers/sha256/{}/link", garbage.hex()));
    let registry = serve(&place, OFTEN);
    registry.wait_for_log(&format!("app@{manifest} (v1) is damaged"), 1);
    assert!(link.exists());
    let keep = OFTEN.replace("grace:", "damaged: keep-repository, grace:");
    place.write_file(&format!("{FILE}{keep}"), registry.peer);
    registry.signal(Signal::HUP);
    until("the other repository is collected", || !link.exists());
    // Any bytes may be needed by the damaged manifest.
    assert!(file(&root, &garbage).exists());
    let report: Value = serde_json::from_str(&status(&root, &["-o", "json"])).unwrap();
    let unknown = json!([{"repository": "app", "digest": manifest, "tags": ["v1"], "isDamaged": true}]);
    assert_eq!(report["unknown"], unknown, "{report}");
    assert_eq!(registry.log().matches("collection failed, trying again").count(), 1, "{}", registry.log());
}

#[test]
fn a_registry_stops_within_a_cycle() {
    let place = Place::new();
    let registry = serve(&place, "");
    for number in 0..5 {
        push(registry.peer, &number.to_string(), &format!("v{number}"));
    }
    drop(registry);
    // One request per second, and dozens of them.
    let registry = serve(&place, &OFTEN.replace("grace:", "rate: 1, grace:"));
    let status_of_end = registry.stop();
    assert!(status_of_end.success(), "{status_of_end}");
    assert_eq!(
        status(&place.root(), &["-o", "json"]).trim(),
        "null",
        "the registry has waited for the cycle"
    );
}

/// Runs the program, and returns its standard output and standard error, and whether it ended well.
fn run(arguments: &[&str]) -> (String, String, bool) {
    let done = output(isolated_command(PROGRAM).args(arguments)).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(done.stdout), text(done.stderr), done.status.success())
}

#[test]
fn commands_find_a_folder_by_the_configuration_and_record_what_they_remove() {
    let place = Place::new();
    let registry = serve(&place, "");
    push(registry.peer, "kept", "v1");
    let garbage = Digest::sha256(b"garbage");
    push_blob(registry.peer, "", "app", &garbage, b"garbage");
    registry.stop();
    let (file, root) = (place.path("config.yml"), place.root());
    let (file, shown) = (file.to_str().unwrap(), root.to_str().unwrap());
    let (said, _, is_clean) = run(&["fsck", "--config", file]);
    assert!(is_clean && said.contains("1 repository"), "{said}");
    let (said, _, _) = run(&["gc", "status", "--config", file]);
    assert!(said.contains("no cycle of collection has ended here"), "{said}");
    let (said, error, _) = run(&["gc", "--grace", "0", "--config", file]);
    assert!(said.contains("0 manifests, 1 link and 1 blob") && error.is_empty(), "{said}{error}");
    let mut records = Vec::new();
    for day in std::fs::read_dir(root.join("docker/registry/v2/_quinistry/audit")).unwrap() {
        for object in std::fs::read_dir(day.unwrap().path()).unwrap() {
            let text = std::fs::read_to_string(object.unwrap().path()).unwrap();
            records.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
    let kinds: Vec<_> = records.iter().map(|record| (&record["actor"], &record["subject"]["kind"])).collect();
    let (actor, blob, bytes) = (json!("collection"), json!("blob"), json!("bytes"));
    assert_eq!(kinds, [(&actor, &blob), (&actor, &bytes)], "{records:?}");
    assert!(records.iter().all(|record| record["subject"]["digest"] == garbage.as_str()), "{records:?}");
    for command in [&["fsck"][..], &["gc", "status"], &["gc"]] {
        let (_, error, is_done) = run(&[command, &[shown, "--config", file]].concat());
        assert!(!is_done && error.contains("--config"), "{command:?}: {error}");
        let (_, error, is_done) = run(command);
        assert!(!is_done && error.contains("REGISTRY_CONFIGURATION_PATH"), "{command:?}: {error}");
    }
}
