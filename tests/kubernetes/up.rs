//! `quinistry up`, `check`, `status` and `down` without a cluster: what they would make, and how they refuse.

mod delivery;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use quinistry::crd::Quinistry;
use quinistry::layout::{Format, RefNames, SavedImage, Target, Writer};
use quinistry::seed::{SEED_PART_BYTES, stub_of};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::images::{Image, Packing, tar_of};

const PROGRAM: &str = env!("CARGO_BIN_EXE_quinistry");

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Runs where no cluster is named in any way.
fn run(args: &[&str]) -> Output {
    let home = TempDir::new().unwrap();
    Command::new(PROGRAM)
        .args(args)
        .env_clear()
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn refusal(args: &[&str], code: i32) -> String {
    let output = run(args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    text
}

/// An executable for amd64 as `up` takes it, the same wherever this runs: a header, and a stub in its frame.
fn executable(length: u64) -> Vec<u8> {
    let program = fs::read(PROGRAM).unwrap();
    let stub = stub_of(&program).unwrap();
    let at = stub.as_ptr() as usize - program.as_ptr() as usize;
    let mut bytes = vec![0; 120];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18] = 62;
    bytes[32] = 64;
    bytes[54] = 56;
    bytes[56] = 1;
    bytes[64] = 1;
    bytes.extend_from_slice(&program[at - 20..at - 4]);
    bytes.extend_from_slice(b"\x09\0\0\0\x7fELF stub");
    bytes.resize(usize::try_from(length).unwrap(), b'.');
    bytes
}

fn dry_run(folder: &Path, args: &[&str]) -> String {
    let file = folder.join("quinistry");
    fs::write(&file, executable(SEED_PART_BYTES + 5)).unwrap();
    let file = file.to_str().unwrap();
    let output = run(&[&["up", "--dry-run", "--binary", file, "--digest", DIGEST], args].concat());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    assert!(error.starts_with("quinistry: cannot read the cluster ("), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Writes an archive `Shop_1.tar` of one image under these names. Returns its path and the digest of the image.
fn archive(folder: &Path, names: impl IntoIterator<Item = String>) -> (String, String) {
    let path = folder.join("Shop_1.tar");
    let image = Image::of_tars("amd64", &[tar_of("hello.txt", b"base")], Packing::Plain);
    let mut writer = Writer::create(Target::Path(path.clone()), Format::Archive).unwrap();
    image.write_to(&mut writer, None);
    let descriptor = quinistry::oci::Descriptor { platform: None, ..image.descriptor.clone() };
    let saved = |name| SavedImage { descriptor: descriptor.clone(), name: Some(name), docker: None };
    let saved: Vec<_> = names.into_iter().map(saved).collect();
    writer.with_ref_names(RefNames::Full).finish(&saved).unwrap();
    (path.to_str().unwrap().to_owned(), image.digest().to_string())
}

/// Without the definition's content, which stands in `crds/`, and with the length of what is in base64.
fn shorten(rendered: &str) -> String {
    let document = |text: &str| {
        if text.contains("kind: CustomResourceDefinition\n") {
            return "# as in crds/\n".to_owned();
        }
        let line = |line: &str| match line.split_once(": ") {
            Some((key @ ("  piece" | "  stub"), data)) => format!("{key}: {} of base64\n", data.len()),
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    };
    rendered.split("---\n").map(document).collect::<Vec<_>>().join("---\n")
}

#[test]
fn a_dry_run_is_as_reviewed() {
    let folder = TempDir::new().unwrap();
    let args =
        ["--namespace", "pantry", "--generations", "2", "--base-port", "6000", "--carrier", "a/pause:3"];
    let rendered = shorten(&dry_run(folder.path(), &args));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/up.yaml");
    if std::env::var_os("QUINISTRY_UPDATE_GOLDEN").is_some() {
        fs::write(path, &rendered).unwrap();
    }
    assert!(
        fs::read_to_string(path).unwrap_or_default() == rendered,
        "{path} is not what `up` makes; run this test with QUINISTRY_UPDATE_GOLDEN=1 and look at the difference"
    );
}

#[test]
fn both_forms_of_a_dry_run_hold_the_same_and_come_in_order() {
    let folder = TempDir::new().unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&dry_run(folder.path(), &[])).unwrap();
    let list: Value = serde_json::from_str(&dry_run(folder.path(), &["-o", "json"])).unwrap();
    assert_eq!(list["kind"], "List");
    assert!(list["items"].as_array().unwrap() == &documents, "YAML and JSON differ");
    let kinds: Vec<&str> = documents.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    let place = |kind: &str| kinds.iter().position(|one| *one == kind).unwrap_or_else(|| panic!("{kind}"));
    for (first, then) in [
        ("CustomResourceDefinition", "Quinistry"),
        ("Namespace", "ServiceAccount"),
        ("Role", "Deployment"),
        ("ConfigMap", "DaemonSet"),
        ("Quinistry", "DaemonSet"),
        ("DaemonSet", "Deployment"),
    ] {
        assert!(place(first) < place(then), "{first} before {then}: {kinds:?}");
    }
    let resource: Quinistry = serde_json::from_value(documents[place("Quinistry")].clone()).unwrap();
    assert_eq!(resource.spec.digest.as_deref(), Some(DIGEST));
    // What each object stands in is made before it.
    let mut namespaces = BTreeSet::new();
    for one in &documents {
        if one["kind"] == "Namespace" {
            namespaces.insert(one["metadata"]["name"].as_str().unwrap());
        }
        let place = one["metadata"]["namespace"].as_str();
        assert!(place.is_none_or(|place| namespaces.contains(place)), "{}", one["metadata"]);
    }
}

#[test]
fn a_dry_run_with_an_archive_has_stores_and_ends_with_the_bundle() {
    let folder = TempDir::new().unwrap();
    let (path, digest) = archive(folder.path(), ["ghcr.io/acme/shop:1".to_owned()]);
    let copies = |args: &[&str]| {
        let documents: Vec<Value> = serde_saphyr::from_multiple(&dry_run(folder.path(), args)).unwrap();
        let resource = documents.iter().find(|one| one["kind"] == "Quinistry").unwrap();
        (resource["spec"]["store"]["copies"].clone(), documents.last().unwrap().clone())
    };
    let (stores, bundle) = copies(&["--with", &path]);
    assert_eq!(stores, 3, "as many as usual, without a cluster");
    let expected = serde_json::json!({
        "apiVersion": "quinistry.dev/v1alpha1", "kind": "Bundle",
        "metadata": {"name": "shop-1", "namespace": "quinistry-system"},
        "spec": {"registry": "quinistry", "names": [{"name": "ghcr.io/acme/shop:1", "digest": digest}]},
    });
    assert_eq!(bundle, expected);
    let (stores, last) = copies(&["--stores", "2"]);
    assert_eq!((stores, last["kind"].as_str()), (2.into(), Some("Deployment")));
    assert_eq!(copies(&[]).0, Value::Null, "stores only if they are asked for");
}

#[test]
fn an_archive_that_cannot_be_delivered_is_refused_before_the_cluster_is_asked() {
    let folder = TempDir::new().unwrap();
    let with = |path: &str| refusal(&["up", "--kubeconfig", "/nowhere", "--with", path], 1);
    let many = archive(folder.path(), (0..257).map(|number| format!("ghcr.io/acme/shop:{number}"))).0;
    let said = with(&many);
    assert!(said.contains("256 names") && !said.contains("nowhere"), "{said}");
    let missing = with("/nonexistent.tar");
    assert!(missing.contains("/nonexistent.tar") && missing.lines().count() == 1, "{missing}");
    let (sound, _) = archive(folder.path(), ["ghcr.io/acme/shop:1".to_owned()]);
    assert!(with(&sound).contains("/nowhere"));
}

#[test]
fn the_pieces_of_a_dry_run_are_the_executable() {
    use base64::Engine as _;
    let folder = TempDir::new().unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&dry_run(folder.path(), &[])).unwrap();
    let pieces = documents.iter().filter_map(|one| one["binaryData"]["piece"].as_str());
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    assert!(pieces.flat_map(decode).collect::<Vec<u8>>() == executable(SEED_PART_BYTES + 5));
    let stub = documents.iter().find_map(|one| one["binaryData"]["stub"].as_str()).unwrap();
    assert_eq!(decode(stub), b"\x7fELF stub");
}

/// The chart's operator is the same, but for names, for where its image comes from, and for the nodes it may
/// run on.
#[test]
fn the_operators_deployment_is_that_of_the_chart() {
    let golden = |path: &str| {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        documents.into_iter().find(|one| one["kind"] == "Deployment").unwrap()["spec"].take()
    };
    let without_names = |mut spec: Value| {
        for place in ["/selector/matchLabels", "/template/metadata/labels"] {
            let labels = spec.pointer_mut(place).unwrap().as_object_mut().unwrap();
            labels.remove("app.kubernetes.io/instance").unwrap();
        }
        let pod = spec.pointer_mut("/template/spec").unwrap().as_object_mut().unwrap();
        pod.remove("serviceAccountName").unwrap();
        // Any node that generation 0 serves on will do for `up`, and its executable knows its architecture.
        for place in ["affinity", "tolerations", "nodeSelector"] {
            pod.remove(place);
        }
        let container = pod["containers"][0].as_object_mut().unwrap();
        container.remove("image").unwrap();
        let arguments = container["args"].as_array_mut().unwrap();
        arguments.retain(|one| {
            let text = one.as_str().unwrap();
            // An operator of `up` leaves the seed of another executable to the operator that is that one.
            !text.starts_with("--namespace=") && !text.starts_with("--lease-name=") && text != "--hand-over"
        });
        spec
    };
    let ours = without_names(golden("tests/golden/up.yaml"));
    let theirs = without_names(golden("tests/golden/chart/watch-namespace.yaml"));
    assert_eq!(ours, theirs);
}

/// The chart's operator with `store.enabled` does the same, but for the Lease, whose name is another one.
#[test]
fn the_operators_rights_are_those_of_the_chart() {
    let folder = TempDir::new().unwrap();
    let ours: Vec<Value> = serde_saphyr::from_multiple(&dry_run(folder.path(), &[])).unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chart/stores.yaml");
    let theirs: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(golden).unwrap()).unwrap();
    let rules = |role: &Value| -> BTreeSet<String> {
        role["rules"].as_array().unwrap().iter().map(Value::to_string).collect()
    };
    let of_kind = |objects: &[Value], kind: &str| -> Vec<BTreeSet<String>> {
        objects.iter().filter(|one| one["kind"] == kind).map(rules).collect()
    };
    for kind in ["Role", "ClusterRole"] {
        let ours = of_kind(&ours, kind).swap_remove(0);
        assert!(of_kind(&theirs, kind).contains(&ours), "no {kind} of the chart has {ours:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_done() {
    for args in [
        &["up", "--generations", "0"][..],
        &["up", "--generations", "17"],
        &["up", "--base-port", "1025"],
        &["up", "--digest", DIGEST],
        &["up", "--output", "json"],
        &["up", "--dry-run", "--wait"],
        &["up", "--stores", "0"],
        &["up", "--stores", "17"],
        &["up", "--with"],
        &["check", "--namespace", "Pantry"],
        &["status", "--output", "yaml"],
        &["down", "--timeout", "0"],
    ] {
        refusal(args, 2);
    }
    let high = refusal(&["up", "--dry-run", "--base-port", "65534"], 1);
    assert!(high.contains("65533 to 65536"), "{high}");
}

#[test]
fn without_a_cluster_it_is_said_how_to_name_one() {
    for args in [&["status"][..], &["down", "--yes"]] {
        let text = refusal(args, 1);
        assert!(text.contains("--kubeconfig") && text.lines().count() == 1, "{text}");
    }
    let text = refusal(&["status", "--kubeconfig", "/nowhere"], 1);
    assert!(text.contains("/nowhere"), "{text}");
}

#[test]
fn down_asks_only_who_can_answer() {
    let text = refusal(&["down"], 1);
    assert!(text.contains("--yes"), "{text}");
}

#[test]
fn what_cannot_be_shipped_is_told_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let told = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        refusal(&["up", "--dry-run", "--binary", file.to_str().unwrap()], 1)
    };
    assert!(told("text", b"#!/bin/sh").contains("not a 64-bit little-endian ELF"));
    let mut bytes = executable(4096);
    bytes[18] = 183;
    bytes[120] ^= 1;
    assert!(told("other", &bytes).contains("carries no stub"));
    bytes[120] ^= 1;
    // On aarch64 it is tried, and cannot be run.
    assert!(told("arm", &bytes).contains("--digest"));
    bytes[64] = 3;
    assert!(told("dynamic", &bytes).contains("program interpreter"));
}
