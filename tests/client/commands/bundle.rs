//! `bundle`: what is in the archive, what is refused before anything is written, and that other tools read it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use quinistry::layout::{Format, Layout, SavedImage, Target, Writer};
use quinistry::oci::{Descriptor, Digest, media_type};
use serde_json::{Value, json};

use super::{bad, good, quinistry, registry, stderr, stdout};
use crate::support::images::{Image, Packing, index_of};
use crate::support::process::{command, output, output_with};
use crate::support::server::{PROGRAM, SERVE, Server};
use crate::support::skip::{Need, lacks};

/// Pushes an index of two images under a name, and returns the index and the images.
fn push_index(name: &str) -> (Digest, [Image; 2]) {
    let images = [("amd64", "one"), ("arm64", "two")]
        .map(|(architecture, text)| Image::new(architecture, &["base", text], Packing::Gzip));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.tar");
    let mut writer = Writer::create(Target::Path(path.clone()), Format::Archive).unwrap();
    for image in &images {
        image.write_to(&mut writer, None);
    }
    let (descriptor, bytes) = index_of(&[&images[0], &images[1]]);
    writer.add_blob(&descriptor, &bytes).unwrap();
    writer.finish(&[SavedImage { descriptor: descriptor.clone(), name: None, docker: None }]).unwrap();
    good(&["push", path.to_str().unwrap(), name]);
    (descriptor.digest, images)
}

/// Returns the names of the entries of an archive, in order.
fn entries(path: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let entries = archive.entries().unwrap();
    entries.map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

#[test]
fn an_archive_has_everything_once_in_order_and_the_same_bytes_each_time() {
    let (_server, host) = registry();
    let (shop, tools) = (format!("{host}/acme/shop:1"), format!("{host}/tools:2"));
    let (index, images) = push_index(&shop);
    good(&["push", "--self", &tools]);
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a.tar", "b.tar"].map(|name| folder.path().join(name));
    let printed = good(&["bundle", paths[0].to_str().unwrap(), &tools, &shop, &shop, "-o", "json"]);
    good(&["bundle", paths[1].to_str().unwrap(), &shop, &tools]);
    assert_eq!(fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap());

    let printed: Value = serde_json::from_str(&printed).unwrap();
    let named = |number: usize| printed["images"][number]["reference"].as_str().unwrap();
    assert_eq!((named(0), named(1)), (shop.as_str(), tools.as_str()));
    assert_eq!(printed["images"][0]["digest"], index.as_str());

    let entries = entries(&paths[0]);
    let (blobs, others): (Vec<_>, Vec<_>) =
        entries.iter().partition(|name| name.starts_with("blobs/sha256/") && !name.ends_with('/'));
    assert_eq!(others, ["oci-layout", "blobs/", "blobs/sha256/", "index.json"]);
    assert!(blobs.is_sorted() && blobs.iter().collect::<BTreeSet<_>>().len() == blobs.len());
    assert_eq!(printed["contents"], blobs.len());

    let layout = Layout::open(&paths[0]).unwrap();
    let roots: Vec<_> = layout.roots().iter().map(|root| root.name.clone().unwrap()).collect();
    assert_eq!(roots, [shop.clone(), tools]);
    for digest in images.iter().flat_map(|image| image.blobs().map(|(blob, _)| &blob.digest)) {
        assert!(layout.open_blob(digest).is_ok());
    }
    let mut list = String::new();
    let mut archive = tar::Archive::new(fs::File::open(&paths[0]).unwrap());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries.find(|entry| entry.path().unwrap() == Path::new("index.json")).unwrap();
    std::io::Read::read_to_string(&mut entry, &mut list).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], shop);

    let copy = format!("{host}/copy:1");
    good(&["push", paths[0].to_str().unwrap(), &copy.replace("copy:1", "acme/shop:1")]);
    assert!(good(&["push", paths[0].to_str().unwrap(), &copy]).contains(index.as_str()), "found by its tag");
}

#[test]
fn takes_only_the_wanted_platforms_of_an_index() {
    let (_server, host) = registry();
    let name = format!("{host}/shop:1");
    let (index, images) = push_index(&name);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let archive = path.to_str().unwrap();
    let printed = good(&["bundle", archive, &name, "--platform", "linux/arm64", "-q"]);
    assert_eq!(printed, format!("{index}\n"));
    let layout = Layout::open(&path).unwrap();
    let has = |digest: &Digest| layout.open_blob(digest).is_ok();
    assert!(has(&index) && has(images[1].digest()) && !has(images[0].digest()));

    fs::remove_file(&path).unwrap();
    let error = bad(&["bundle", archive, &name, "--platform", "linux/arm64", "--platform", "linux/s390x"], 1);
    assert!(
        error
            .contains(&format!("missing: {name}: failed to choose from the index: no image for linux/s390x")),
        "{error}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn all_missing_content_is_reported_and_nothing_is_left_behind() {
    let server = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", "memory", "--allow-sparse"]));
    let host = server.peer.0.to_string();
    let put = |tag: &str, kind: &str, document: Value| {
        let body = serde_json::to_vec(&document).unwrap();
        let answer =
            server.peer.ask("PUT", &format!("/v2/a/manifests/{tag}"), &[("content-type", kind)], &body);
        assert_eq!(answer.status, 201);
    };
    let (blob, child) = (Descriptor::of(media_type::OCI_CONFIG, b"lost"), b"no manifest");
    let child = Descriptor::of(media_type::OCI_MANIFEST, child);
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": blob, "layers": []});
    put("manifest", media_type::OCI_MANIFEST, manifest);
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [child]});
    put("index", media_type::OCI_INDEX, index);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let names = ["manifest", "index", "absent"].map(|tag| format!("{host}/a:{tag}"));
    let error = bad(&["bundle", path.to_str().unwrap(), &names[0], &names[1], &names[2]], 1);
    for (name, what) in names.iter().zip([&*blob.digest.to_string(), child.digest.as_str(), "a:absent"]) {
        let told = |line: &str| line.starts_with(&format!("missing: {name}: ")) && line.contains(what);
        assert!(error.lines().any(told), "{name}: {error}");
    }
    assert_eq!(error.lines().count(), 4, "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn missing_content_is_reported_beside_other_errors() {
    let server = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", "memory", "--allow-sparse"]));
    let host = server.peer.0.to_string();
    let lost = |media_type, bytes: &[u8], architecture: &str| {
        let platform = json!({"os": "linux", "architecture": architecture});
        let Descriptor { digest, size, .. } = Descriptor::of(media_type, bytes);
        json!({"mediaType": media_type, "digest": digest, "size": size, "platform": platform})
    };
    let index = |children: &[Value]| {
        let document = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children});
        serde_json::to_vec(&document).unwrap()
    };
    let child = lost(media_type::OCI_MANIFEST, b"lost", "amd64");
    let nested = index(&[lost(media_type::OCI_MANIFEST, b"other", "s390x")]);
    let root = index(&[child.clone(), lost(media_type::OCI_INDEX, &nested, "arm64")]);
    for (name, body) in [(Digest::sha256(&nested).to_string(), &nested), ("1".into(), &root)] {
        let headers = [("content-type", media_type::OCI_INDEX)];
        let answer = server.peer.ask("PUT", &format!("/v2/a/manifests/{name}"), &headers, body);
        assert_eq!(answer.status, 201);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let name = format!("{host}/a:1");
    let platforms = ["--platform", "linux/amd64", "--platform", "linux/arm64"];
    let error = bad(&[&["bundle", path.to_str().unwrap(), &name], &platforms[..]].concat(), 1);
    assert!(error.contains(child["digest"].as_str().unwrap()), "{error}");
    assert!(error.contains("there are: linux/s390x"), "{error}");
    assert!(
        error.ends_with("2 parts not found or not readable (listed above); no file was written\n"),
        "{error}"
    );
}

#[test]
fn the_target_is_checked_before_a_registry_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    // Nothing listens there.
    let image = "127.0.0.1:1/x:1";
    assert!(bad(&["bundle", path, image], 1).contains("is a folder"));
    assert!(bad(&["bundle", &format!("{path}/absent/a.tar"), image], 1).contains("failed to write"));
    assert!(bad(&["bundle", "ghcr.io/acme/shop:1", image], 2).contains("FILE is missing"));
}

#[test]
fn an_image_of_tag_and_digest_has_both_names() {
    let (_server, host) = registry();
    let (index, _) = push_index(&format!("{host}/shop:1"));
    good(&["push", "--self", &format!("{host}/shop:2")]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let archive = path.to_str().unwrap();
    let names = || -> Vec<_> {
        Layout::open(&path).unwrap().roots().iter().map(|root| root.name.clone().unwrap()).collect()
    };
    let both = [format!("{host}/shop:1"), format!("{host}/shop@{index}")];
    let pinned = format!("{host}/shop:1@{index}");
    assert_eq!(good(&["bundle", archive, &pinned, "-q"]), format!("{index}\n"));
    assert_eq!(names(), both);

    let contested = format!("{host}/shop:2@{index}");
    let taken = output(&mut quinistry(&["bundle", archive, &pinned, &contested, &format!("{host}/shop:2")]));
    let taken = taken.unwrap();
    assert!(taken.status.success(), "{}", stderr(&taken));
    assert!(
        stderr(&taken).starts_with(&format!("warning: {host}/shop:2 names sha256:")),
        "{}",
        stderr(&taken)
    );
    let [tag, digest] = both;
    assert_eq!(names(), [tag, format!("{host}/shop:2"), digest]);
    let copy = format!("{host}/copy@{index}");
    assert!(good(&["push", archive, &copy]).contains(index.as_str()), "found by its digest");
    assert!(good(&["push", archive, &format!("{host}/copy:1")]).contains(index.as_str()), "found by its tag");
}

#[test]
fn images_of_manifests_are_taken_and_other_fields_are_reported() {
    let (_server, host) = registry();
    good(&["push", "--self", &format!("{host}/shop:1")]);
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("a.tar");
    let archive = archive.to_str().unwrap();
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: shop}}\nspec:\n  template:\n    spec:\n      \
         containers: [{{name: a, image: '{host}/shop:1'}}]\n---\nkind: Cluster\nimage: ghcr.io/acme/pg:17\nother: {{imageName: \
         ghcr.io/acme/pg:17}}\ntaken: {{image: '{host}/shop:1'}}\n"
    );
    let mut bundle = quinistry(&["bundle", archive, "--from", "-", "-o", "json"]);
    let taken = output_with(&mut bundle, text.as_bytes()).unwrap();
    assert!(taken.status.success(), "{}", stderr(&taken));
    let printed: Value = serde_json::from_str(stdout(&taken)).unwrap();
    assert_eq!(printed["images"][0]["reference"], format!("{host}/shop:1"));
    let fields: Vec<_> =
        printed["notTaken"].as_array().unwrap().iter().map(|field| &field["field"]).collect();
    assert_eq!(fields, ["image", "other.imageName"]);
    assert_eq!(
        stderr(&taken).lines().filter(|line| line.starts_with("warning: ")).collect::<Vec<_>>(),
        [
            "warning: not taken: 'ghcr.io/acme/pg:17' in standard input: Cluster/ image; name the image if it is needed"
        ]
    );

    let rendered = folder.path().join("x.yaml");
    fs::write(&rendered, "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: '{{ .x }}'}]}\n").unwrap();
    let error = bad(&["bundle", archive, "--from", rendered.to_str().unwrap()], 1);
    assert!(error.starts_with("malformed: '{{ .x }}' in "), "{error}");
    bad(&["bundle", archive], 2);
}

#[test]
fn crane_pushes_a_bundle_that_was_unpacked() {
    if lacks(&[Need::Tool("crane")]) {
        return;
    }
    let (_server, host) = registry();
    let name = format!("{host}/shop:1");
    let (index, _) = push_index(&name);
    let folder = tempfile::tempdir().unwrap();
    let (path, layout) = (folder.path().join("a.tar"), folder.path().join("layout"));
    good(&["bundle", path.to_str().unwrap(), &name]);
    tar::Archive::new(fs::File::open(&path).unwrap()).unpack(&layout).unwrap();
    let crane = |arguments: &[&str]| {
        let done = output(command("crane").args(arguments)).unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", stderr(&done));
        stdout(&done).to_owned()
    };
    let copy = format!("{host}/copy:1");
    crane(&["push", layout.to_str().unwrap(), &copy]);
    assert_eq!(crane(&["digest", &copy]).trim(), index.as_str());
    crane(&["validate", "--remote", &copy]);
}

#[test]
fn a_bundle_is_served_from_where_it_lies_and_takes_no_writes() {
    let (_server, host) = registry();
    let name = format!("{host}/acme/shop:1");
    let (index, images) = push_index(&name);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let archive = path.to_str().unwrap();
    good(&["bundle", archive, &name]);
    let before = fs::read(&path).unwrap();
    let serving = Server::launch(command(PROGRAM).args(SERVE).args(["--bundle", archive]));
    let own = serving.peer.0.to_string();
    let repository = format!("{own}/{}/acme/shop", host.replace(':', "_"));
    let verified = good(&["verify", &format!("{repository}:1"), "--platform", "all", "-o", "json"]);
    assert!(verified.contains(index.as_str()), "{verified}");
    assert_eq!(good(&["tags", "-q", &repository]), "1\n");
    assert!(good(&["list", "-q", &own]).contains("acme/shop\n"));
    bad(&["push", "--self", &format!("{repository}:2")], 1);
    bad(&["delete", &format!("{repository}:1")], 1);
    assert_eq!(fs::read(&path).unwrap(), before);

    // As the mirrors of containerd, k3s and Talos ask.
    let blob = &images[0].layers[0].0.digest;
    for place in ["manifests/1".to_owned(), format!("manifests/{index}"), format!("blobs/{blob}")] {
        let answer = serving.peer.get(&format!("/v2/acme/shop/{place}?ns={host}"));
        assert_eq!((answer.status, answer.header("oci-namespace")), (200, Some(host.as_str())), "{place}");
    }
    for query in ["", "?ns=ghcr.io", "?ns=%5B::1%5D:5000"] {
        let answer = serving.peer.get(&format!("/v2/acme/shop/manifests/1{query}"));
        answer.assert_refused(404, "NAME_UNKNOWN");
    }

    bad(&["serve", "--bundle", archive, "--storage", "memory"], 2);
    let error = bad(&["serve", "--listen", "127.0.0.1:0", "--bundle", folder.path().to_str().unwrap()], 1);
    assert!(error.contains("is a folder, not an archive"), "{error}");
}
