//! Stores that copy what the file of names names from each other, behind one address, as in a cluster.

mod pruning;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use quinistry::oci::{Descriptor, Digest};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cluster::{Generation, REPOSITORY, Store, image, path, until};
use crate::support::http::Peer;
use crate::support::images::{Image, Packing, index_of};
use crate::support::ports::reserved_address;
use crate::support::process::{command, output};
use crate::support::round_robin::RoundRobin;
use crate::support::scripted_registry::{Answer, Gate, ScriptedRegistry};
use crate::support::server::{PROGRAM, SERVE, run};

/// Names of a test, as a ConfigMap that all stores mount.
struct Names(TempDir);

/// Store that takes pushes at another address, and copies named images.
struct Keeper {
    main: Generation,
    pushes: Store,
}

impl Names {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("names.json")
    }

    /// Replaces the file at once. Returns the digest of its content.
    fn write(&self, names: &[(&str, &Digest)], keep: &[(&str, &Digest)]) -> String {
        let names: Vec<_> =
            names.iter().map(|(name, digest)| json!({ "name": name, "digest": digest })).collect();
        let keep: Vec<_> =
            keep.iter().map(|(name, digest)| json!({ "repository": name, "digest": digest })).collect();
        let text = json!({ "names": names, "keep": keep }).to_string();
        let new = self.0.path().join("new");
        std::fs::write(&new, &text).unwrap();
        std::fs::rename(new, self.file()).unwrap();
        Digest::sha256(text.as_bytes()).to_string()
    }
}

impl Keeper {
    fn start(address: SocketAddr, storage: &str, peers: &str, names: &Names) -> Self {
        Self::start_with(&[], address, storage, peers, names)
    }

    /// Starts a store with variables in its environment.
    fn start_with(
        variables: &[(&str, &str)],
        address: SocketAddr,
        storage: &str,
        peers: &str,
        names: &Names,
    ) -> Self {
        let file = names.file();
        let (listen, file) = (address.to_string(), file.to_str().unwrap());
        let main = Generation::start_with(
            variables,
            &listen,
            &[peers],
            &["--storage", storage, "--names", file, "--keep-named", "--push-listen", "127.0.0.1:0"],
        );
        let line = main.server().log_line("taking pushes");
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("address=")).unwrap();
        let pushes = Store::at(Peer(address.parse().unwrap()));
        Self { main, pushes }
    }

    /// Returns the report of the store, and the status with it.
    fn report(&self) -> (u16, Value) {
        let answer = self.main.get("/readyz?verbose");
        (answer.status, answer.json())
    }

    /// Waits until the store has all images of a file of names, by the digest of the file.
    fn has_all(&self, names: &str) {
        until("the store is complete", || {
            let (status, report) = self.report();
            status == 200 && report["names"] == names && report["complete"] == report["images"]
        });
    }

    /// Asks for content of this store alone, as other stores do.
    fn own(&self, path: &str) -> u16 {
        self.main.peer().ask("GET", path, &[("quinistry-hops", "8")], b"").status
    }
}

/// Starts three stores behind one address, each with its storage in memory.
fn three_stores(names: &Names) -> [Keeper; 3] {
    let addresses = [reserved_address(), reserved_address(), reserved_address()];
    let service = format!("http://{}", RoundRobin::start(&addresses).address);
    addresses.map(|address| Keeper::start(address, "memory", &service, names))
}

#[test]
fn writes_are_taken_at_the_push_address_alone() {
    let names = Names::new();
    let keeper = Keeper::start(reserved_address(), "memory", "http://127.0.0.1:1", &names);
    let image = image();
    let digest = &image.descriptor.digest;
    let uploads = format!("/v2/{REPOSITORY}/blobs/uploads/");
    for (method, path) in [
        ("POST", uploads.clone()),
        ("GET", format!("{uploads}1")),
        ("PATCH", format!("{uploads}1")),
        ("PUT", format!("{uploads}1?digest={digest}")),
        ("DELETE", format!("{uploads}1")),
        ("PUT", path("manifests", digest)),
        ("DELETE", path("manifests", digest)),
        ("DELETE", path("blobs", digest)),
    ] {
        let answer = keeper.main.peer().ask(method, &path, &[], b"");
        answer.assert_refused(405, "UNSUPPORTED");
        let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        let push_address = keeper.pushes.generation().peer().0.to_string();
        assert!(message.contains(&push_address), "{method} {path}: {message}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    keeper.pushes.push(&image);
    keeper.main.pulls(&image);
    keeper.pushes.generation().pulls(&image);
    assert_eq!(
        keeper.pushes.generation().peer().ask("DELETE", &path("manifests", digest), &[], b"").status,
        202
    );
    keeper.main.get(&path("manifests", digest)).assert_refused(404, "MANIFEST_UNKNOWN");
}

#[test]
fn what_is_loaded_into_one_store_comes_to_all() {
    let names = Names::new();
    let stores = three_stores(&names);
    let [first, others @ ..] = &stores;
    let log = first.main.server().log();
    assert_eq!(log.matches("file of names not there yet").count(), 1, "{log}");
    // A bundle of one platform: the index has another child, which is nowhere.
    let (here, elsewhere) = (image(), Image::new("s390x", &["z"], Packing::Gzip));
    let former = Image::new("amd64", &["the former version"], Packing::Gzip);
    let (index, bytes) = index_of(&[&here, &elsewhere]);
    for image in [&here, &former] {
        first.pushes.push(image);
    }
    first.pushes.push_manifest(&index, &bytes);
    let written = names
        .write(&[("ghcr.io/acme/shop:1.4.0", &index.digest)], &[(REPOSITORY, &former.descriptor.digest)]);
    for store in &stores {
        store.has_all(&written);
        let by_tag = store.main.get(&format!("/v2/{REPOSITORY}/manifests/1.4.0"));
        assert_eq!((by_tag.status, &by_tag.body), (200, &bytes));
        for image in [&here, &former] {
            store.main.pulls(image);
            for digest in image.blobs().map(|(blob, _)| &blob.digest) {
                assert_eq!(store.own(&path("blobs", digest)), 200);
            }
        }
        assert_eq!(store.own(&path("manifests", &former.descriptor.digest)), 200);
        assert_eq!(store.own(&path("manifests", &elsewhere.descriptor.digest)), 404);
        assert_eq!(store.main.get("/readyz").text(), "ok\n");
    }
    for store in others {
        let line = store.main.server().log_line("image copied");
        assert!(line.contains("bytes=") && line.contains("seconds="), "{line}");
    }
}

#[test]
fn a_name_that_no_store_has_is_reported_and_takes_no_store_away() {
    let names = Names::new();
    let absent = Digest::sha256(b"absent");
    let stores = three_stores(&names);
    let image = image();
    stores[0].pushes.push(&image);
    let shop = "ghcr.io/acme/shop";
    names.write(&[(&format!("{shop}:1"), &image.descriptor.digest), (&format!("{shop}:2"), &absent)], &[]);
    for store in &stores {
        until("the store has what there is", || {
            let (status, report) = store.report();
            status == 200 && report["complete"] == 1 && report["lacking"][0]["reason"].is_string()
        });
        let report = store.report().1;
        let lacking = &report["lacking"][0];
        assert_eq!((&report["images"], &report["absent"]), (&json!(2), &json!(1)));
        assert_eq!(lacking["repository"], shop);
        assert_eq!((&lacking["digest"], &lacking["state"]), (&json!(absent), &json!("absent")));
        assert!(store.main.server().log_line("cannot copy image").contains("no peer has its manifest"));
    }
    // The content comes, and the names stay as they are: a bundle is loaded after its resource was applied.
    let late = Image::new("amd64", &["late"], Packing::Gzip);
    let written = names.write(
        &[(&format!("{shop}:1"), &image.descriptor.digest), (&format!("{shop}:2"), &late.descriptor.digest)],
        &[],
    );
    stores[1].pushes.push(&late);
    for store in &stores {
        store.has_all(&written);
    }
}

#[test]
fn a_store_goes_on_after_a_crash_without_what_it_has_and_serves_without_peers() {
    let (names, folder) = (Names::new(), tempfile::tempdir().unwrap());
    let storage = folder.path().to_str().unwrap().to_owned();
    let image = Image::new("amd64", &["first layer", "second layer"], Packing::Gzip);
    let written = names.write(&[("ghcr.io/acme/shop:1", &image.descriptor.digest)], &[]);
    let slow = image.layers[1].0.digest.to_string();
    // A peer that holds the second layer back.
    let gate = Gate::of(100);
    let peer =
        peer_of(&image, move |digest, answer| if digest == slow { answer.behind(&gate) } else { answer });
    let keeper = Keeper::start(reserved_address(), &storage, &format!("http://{}", peer.host), &names);
    let first = &image.layers[0].0.digest;
    until("the first layer is here", || keeper.own(&path("blobs", first)) == 200);
    assert_eq!(keeper.own(&path("manifests", &image.descriptor.digest)), 404);
    let (status, report) = keeper.report();
    assert_eq!((status, &report["copying"]), (503, &json!(1)), "{report}");
    assert!(keeper.main.get("/readyz").text().starts_with("copying images"), "{report}");
    drop(keeper);
    let peer = peer_of(&image, |_, answer| answer);
    let keeper = Keeper::start(reserved_address(), &storage, &format!("http://{}", peer.host), &names);
    keeper.has_all(&written);
    assert!(peer.requests().iter().all(|request| !request.path().contains(first.as_str())));
    drop(keeper);
    let keeper = Keeper::start(reserved_address(), &storage, "http://127.0.0.1:1", &names);
    keeper.has_all(&written);
    keeper.main.pulls(&image);
}

#[test]
fn a_bundle_of_one_platform_is_loaded_by_the_push_address_and_copied() {
    let (names, origin) = (Names::new(), Store::start(&[]));
    let (amd64, s390x) = (image(), Image::new("s390x", &["z"], Packing::Gzip));
    for image in [&amd64, &s390x] {
        origin.push(image);
    }
    let (index, bytes) = index_of(&[&amd64, &s390x]);
    let tagged = format!("/v2/{REPOSITORY}/manifests/1.4.0");
    let headers = [("Content-Type", index.media_type.as_str())];
    assert_eq!(origin.generation().peer().ask("PUT", &tagged, &headers, &bytes).status, 201);
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("shop.tar");
    let good = |arguments: &[&str]| {
        let done = output(command(PROGRAM).arg(arguments[0]).arg(&archive).args(&arguments[1..])).unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let host = origin.generation().peer().0;
    good(&["bundle", &format!("{host}/{REPOSITORY}:1.4.0"), "--platform", "linux/amd64"]);
    let stores = three_stores(&names);
    good(&["load", &stores[2].pushes.generation().peer().0.to_string()]);
    let written = names.write(&[(&format!("{host}/{REPOSITORY}:1.4.0"), &index.digest)], &[]);
    let repository = format!("{}/{REPOSITORY}", host.to_string().replace(':', "_"));
    for store in &stores {
        store.has_all(&written);
        let by_tag = store.main.get(&format!("/v2/{repository}/manifests/1.4.0"));
        assert_eq!((by_tag.status, &by_tag.body), (200, &bytes));
        for (image, status) in [(&amd64, 200), (&s390x, 404)] {
            assert_eq!(store.own(&format!("/v2/{repository}/manifests/{}", image.descriptor.digest)), status);
            for (blob, _) in image.blobs() {
                assert_eq!(store.own(&format!("/v2/{repository}/blobs/{}", blob.digest)), status);
            }
        }
    }
    // What is loaded again is there.
    good(&["load", &stores[0].pushes.generation().peer().0.to_string()]);
}

/// Starts a registry that has an image, and changes its answers about blobs.
fn peer_of(image: &Image, change: impl Fn(&str, Answer) -> Answer + Send + 'static) -> ScriptedRegistry {
    let mut contents: Vec<(Descriptor, Vec<u8>)> = image.blobs().cloned().collect();
    contents.push((image.descriptor.clone(), image.manifest.clone()));
    let change = Arc::new(Mutex::new(change));
    ScriptedRegistry::start(move |request| {
        let digest = request.path().rsplit('/').next().unwrap();
        match contents.iter().find(|(content, _)| content.digest.as_str() == digest) {
            None => Answer::new(404),
            Some((content, bytes)) => {
                let answer = Answer::ok(bytes.clone())
                    .with("Content-Type", &content.media_type)
                    .with("Docker-Content-Digest", digest);
                change.lock().unwrap()(digest, answer)
            }
        }
    })
}

#[test]
fn a_push_asks_for_what_this_storage_has_and_not_for_what_peers_have() {
    let names = Names::new();
    let other = Store::start(&[]);
    let image = image();
    other.push_blob(&image.layers[0].1);
    names.write(&[("ghcr.io/acme/shop:1", &image.descriptor.digest)], &[]);
    let keeper = Keeper::start(reserved_address(), "memory", &other.address(), &names);
    let layer = path("blobs", &image.layers[0].0.digest);
    assert_eq!(keeper.main.head(&layer).status, 200);
    assert_eq!(keeper.pushes.generation().head(&layer).status, 404);
}

#[test]
fn metrics_show_how_many_images_are_here() {
    let names = Names::new();
    names.write(&[("ghcr.io/acme/shop:1", &Digest::sha256(b"absent"))], &[]);
    let metrics = reserved_address();
    let file = names.file();
    let store = Generation::start(
        &["http://127.0.0.1:1"],
        &[
            "--storage",
            "memory",
            "--names",
            file.to_str().unwrap(),
            "--keep-named",
            "--metrics",
            &metrics.to_string(),
        ],
    );
    let page = Peer(metrics).get("/metrics");
    for (state, images) in [("complete", 0), ("copying", 0), ("absent", 1)] {
        let sample = format!("quinistry_store_named_images{{state=\"{state}\"}} {images}\n");
        assert!(page.text().contains(&sample), "{}", page.text());
    }
    assert_eq!(store.get("/readyz").status, 503);
    // A store that keeps nothing has no such path.
    assert_eq!(Store::start(&[]).generation().get("/readyz").status, 404);
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let refused = |arguments: &[&str]| {
        let (status, log) = run(command(PROGRAM).args(SERVE).args(arguments));
        assert_eq!(status.code(), Some(2), "{log}");
        log
    };
    let storage = ["--storage", "memory"];
    assert!(refused(&["--push-listen", "127.0.0.1:0"]).contains("--storage"));
    let log = refused(&[&storage[..], &["--push-listen", "0.0.0.0:8090"]].concat());
    assert!(log.contains("is neither a loopback address nor a unix socket"), "{log}");
    let peers = ["--peers", "http://10.96.0.7:8080"];
    assert!(
        refused(&[&peers[..], &["--names", "names.json", "--keep-named"]].concat()).contains("--storage")
    );
    assert!(refused(&[&storage[..], &peers, &["--keep-named"]].concat()).contains("--names"));
    assert!(!Path::new("names.json").exists());
}
