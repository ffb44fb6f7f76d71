//! The program's own commands against a registry of its own kind: push, copy, referrers, delete.

use std::fs::File;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use quinistry::oci::Digest;
use serde_json::json;

use crate::push::registry::{INDEX, MANIFEST, Registry, Repository};
use crate::support::process::{command, output};
use crate::support::server::{PROGRAM, SERVE, Server};

fn run(arguments: &[&str]) -> Output {
    let mut command: Command = command(PROGRAM);
    output(command.args(arguments).env("DOCKER_CONFIG", "/nonexistent")).unwrap()
}

#[track_caller]
fn good(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn name(repository: &Repository, rest: &str) -> String {
    format!("{}/{}{rest}", repository.peer.0, repository.name)
}

/// Pushes an artifact about a subject, and gives its digest.
fn about(repository: &Repository, subject: &Digest, artifact_type: &str) -> Digest {
    let subject = json!({"mediaType": MANIFEST, "digest": subject, "size": 7});
    let bytes = repository.image(&[], &json!({"subject": subject, "artifactType": artifact_type}));
    let digest = Digest::sha256(&bytes);
    assert_eq!(repository.put_manifest(digest.as_str(), MANIFEST, &bytes).status, 201);
    digest
}

#[test]
fn an_image_is_copied_with_all_that_refers_to_it() {
    let (one, other) = (Registry::on_disk(), Registry::in_memory());
    let (from, to) = (one.repository("a/b"), other.repository("c"));
    let layer: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let (digest, bytes) = from.push_image("v1", &[&layer]);
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": digest, "size": bytes.len()},
    ]}));
    let index = index.unwrap();
    assert_eq!(from.put_manifest("index", INDEX, &index).status, 201);
    let root = Digest::sha256(&index);
    let signature = about(&from, &root, "application/signature");
    let countersign = about(&from, &signature, "application/countersignature");

    let said = good(&["copy", "--all", &name(&from, ":index"), &name(&to, ":v2")]);
    let lines = [
        name(&to, &format!(":v2@{root}")),
        name(&to, &format!("@{signature}")),
        name(&to, &format!("@{countersign}")),
        "and 2 that refer to it".to_owned(),
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), lines);
    to.assert_manifest("v2", &root, &index);
    to.assert_blob(&Digest::sha256(&layer), &layer);
    assert_eq!(to.tags(), ["v2"]);
    let listed = good(&["referrers", &name(&to, ":v2")]);
    assert!(
        listed.starts_with(signature.as_str()) && listed.ends_with("  application/signature\n"),
        "{listed}"
    );
    let listed = good(&["referrers", "--artifact-type", "a/b", &name(&to, &format!("@{root}"))]);
    assert_eq!(listed, "");
    let listed = good(&["referrers", &name(&to, &format!("@{signature}"))]);
    assert!(listed.starts_with(countersign.as_str()), "{listed}");

    // Within one registry nothing is sent.
    let copy = one.repository("copy");
    good(&["copy", &name(&from, ":v1"), &name(&copy, ":v1")]);
    copy.assert_manifest("v1", &digest, &bytes);
}

#[test]
fn a_tag_is_deleted_alone_and_a_digest_with_its_tags() {
    let registry = Registry::in_memory();
    let repository = registry.repository("d");
    let (digest, bytes) = repository.push_image("a", &[]);
    repository.put_manifest("b", MANIFEST, &bytes);
    let output = run(&["delete", &name(&repository, "")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("names no tag and no digest"));
    assert_eq!(
        good(&["delete", &name(&repository, ":a")]),
        format!("deleted tag {}\n", name(&repository, ":a"))
    );
    assert_eq!(good(&["tags", &name(&repository, "")]), "b\n");
    good(&["delete", &name(&repository, &format!("@{digest}"))]);
    assert_eq!(repository.tags(), [""; 0]);
    let output = run(&["delete", &name(&repository, ":b")]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("failed to delete") && said.contains("404"), "{said}");
}

#[test]
fn a_source_that_is_damaged_is_named_and_nothing_of_it_is_pushed() {
    let (one, other) = (Registry::on_disk(), Registry::in_memory());
    let (from, to) = (one.repository("a"), other.repository("b"));
    from.push_image("v1", &[b"layer"]);
    let layer = Digest::sha256(b"layer");
    let hex = layer.hex();
    let data = one.folder().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data");
    std::fs::write(data, b"LAYER").unwrap();
    let output = run(&["copy", &name(&from, ":v1"), &name(&to, ":v1")]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(hex), "{said}");
    to.get("manifests/v1").assert_refused(404, "MANIFEST_UNKNOWN");
}

#[test]
fn uploads_end_when_they_have_been_idle_for_the_time_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |minutes: &str| {
        let storage = ["--storage", folder.path().to_str().unwrap(), "--upload-timeout", minutes];
        Server::launch(command(PROGRAM).args(SERVE).args(storage))
    };
    let at = {
        let server = serve("10");
        let repository = Repository { peer: server.peer, name: "idle".into() };
        let at = repository.begin();
        assert_eq!(server.peer.ask("PATCH", &at, &[], b"some").status, 202);
        at
    };
    let id = at.rsplit('/').next().unwrap();
    let session = folder.path().join("docker/registry/v2/repositories/idle/_uploads").join(id);
    let before = SystemTime::now() - Duration::from_mins(5);
    for file in ["data", "startedat"] {
        File::options().write(true).open(session.join(file)).unwrap().set_modified(before).unwrap();
    }
    assert_eq!(serve("10").peer.get(&at).header("range"), Some("0-3"));
    let server = serve("4");
    server.log_line("ended idle upload sessions");
    server.peer.get(&at).assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
    assert!(!session.exists());
    let refused = run(&["serve", "--storage", "memory", "--upload-timeout", "0"]);
    assert_eq!(refused.status.code(), Some(2), "nobody could push");
}
