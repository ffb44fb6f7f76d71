//! The files of a release: what each architecture contributes, and the checksums over all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::scripts::{TAG, architecture, good, outcome, quinistry, refusal, root, script};
use crate::support::server::PROGRAM;

/// Returns the names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn checksum(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

#[test]
fn an_architecture_contributes_binary_bootstrap_image_and_digests() {
    let folder = TempDir::new().unwrap();
    let dist = folder.path().join("dist");
    let arch = architecture();
    good(&mut script("build", &[dist.to_str().unwrap(), TAG, PROGRAM]));
    let binary = format!("quinistry-linux-{arch}");
    let bootstrap = format!("quinistry-bootstrap-linux-{arch}.tar");
    let digests = format!("image-digests-{arch}.txt");
    assert_eq!(names(&dist), [digests.as_str(), &bootstrap, &binary]);

    assert_eq!(fs::metadata(dist.join(&binary)).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(fs::read(dist.join(&binary)).unwrap() == fs::read(PROGRAM).unwrap());

    let tar = quinistry(&["image", "digest"]);
    let gzip = quinistry(&["image", "digest", "--layer", "gzip"]);
    assert_eq!(
        fs::read_to_string(dist.join(digests)).unwrap(),
        format!(
            "{}  linux/{arch}, tar layer\n{}  linux/{arch}, gzip layer\n",
            tar.trim_end(),
            gzip.trim_end()
        )
    );

    // The name in it is the one that the chart installs.
    let mut archive = tar::Archive::new(fs::File::open(dist.join(bootstrap)).unwrap());
    let manifest = archive
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.path().unwrap().as_ref() == Path::new("manifest.json"))
        .unwrap();
    let manifest: serde_json::Value = serde_json::from_reader(manifest).unwrap();
    let name = concat!("ghcr.io/quinistry/quinistry:", env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest[0]["RepoTags"][0], name);
}

#[test]
fn a_tag_of_another_version_is_refused() {
    let folder = TempDir::new().unwrap();
    let dist = folder.path().to_str().unwrap();
    let error = refusal(&mut script("build", &[dist, "v99.0.0", PROGRAM]));
    assert!(error.contains("the tag is v99.0.0, but the version is "), "{error}");
    // The version must be all of the tag.
    refusal(&mut script("build", &[dist, &TAG[1..], PROGRAM]));
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn checksums_cover_every_file() {
    let folder = TempDir::new().unwrap();
    let dist = folder.path().join("dist");
    fs::create_dir(&dist).unwrap();
    let digests =
        [("image-digests-amd64.txt", "sha256:a  linux/amd64\n"), ("image-digests-arm64.txt", "b\n")];
    for (name, content) in
        [("quinistry-linux-amd64", "one"), ("quinistry-linux-arm64", "two")].into_iter().chain(digests)
    {
        fs::write(dist.join(name), content).unwrap();
    }
    let notes = folder.path().join("notes.md");
    good(&mut script("checksums", &[dist.to_str().unwrap(), notes.to_str().unwrap()]));

    assert_eq!(
        names(&dist),
        ["IMAGE-DIGESTS", "SHA256SUMS", "install.sh", "quinistry-linux-amd64", "quinistry-linux-arm64"]
    );
    let sums = fs::read_to_string(dist.join("SHA256SUMS")).unwrap();
    let listed: BTreeMap<_, _> =
        sums.lines().map(|line| line.split_once("  ").unwrap()).map(|(sum, name)| (name, sum)).collect();
    assert_eq!(listed.len(), 4, "{sums}");
    for (name, sum) in listed {
        assert_eq!(sum, checksum(&fs::read(dist.join(name)).unwrap()), "{name}");
    }
    let all = digests.map(|(_, content)| content).concat();
    assert_eq!(fs::read_to_string(dist.join("IMAGE-DIGESTS")).unwrap(), all);
    let install = root().join(".ci/release/install.sh");
    assert!(fs::read(dist.join("install.sh")).unwrap() == fs::read(install).unwrap());
    let notes = fs::read_to_string(notes).unwrap();
    for line in sums.lines().chain(all.lines()) {
        assert!(notes.contains(&format!("\n    {line}\n")), "{line} in {notes}");
    }
}

#[test]
fn checksums_without_digests_are_refused() {
    let folder = TempDir::new().unwrap();
    let (dist, notes) = (folder.path().to_str().unwrap(), folder.path().join("notes.md"));
    let error = refusal(&mut script("checksums", &[dist, notes.to_str().unwrap()]));
    assert!(error.contains("no image-digests-ARCH.txt in "), "{error}");
    assert!(!notes.exists());
}

#[test]
fn scripts_without_arguments_print_their_usage() {
    for name in ["build", "chart", "checksums", "image", "sbom"] {
        let outcome = outcome(&mut script(name, &[]));
        assert_eq!(outcome.code, Some(2), "{name}");
        assert!(outcome.stderr.starts_with(&format!("usage: .ci/release/{name} ")), "{}", outcome.stderr);
    }
}
