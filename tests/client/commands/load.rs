//! `load`: all images of an archive in a registry, also after breaks, and manifests rewritten to them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use quinistry::layout::{Format, RefNames, SavedImage, Target, Writer};
use quinistry::oci::Digest;
use serde_json::Value;

use super::{bad, good, quinistry, registry, stderr, stdout};
use crate::support::cut_proxy::CutProxy;
use crate::support::distribution::{Distribution, Version};
use crate::support::images::{Image, Packing, index_of, tar_of};
use crate::support::process::{command, output, spawn};
use crate::support::server::{PROGRAM, SERVE, Server};
use crate::support::skip::{Need, lacks};

/// Length of a chunk of the client.
pub(super) const CHUNK_BYTES: usize = 8 << 20;

/// Archive of an application: an index of two images, and one of them under a further name.
pub(super) struct Shop {
    folder: tempfile::TempDir,
    path: PathBuf,
    pub(super) index: Digest,
    images: [Image; 2],
}

pub(super) const SHOP: &str = "ghcr.io/acme/shop";
const TOOLS: &str = "registry.lan:5000/tools";

impl Shop {
    /// Writes an archive whose first image has a layer of some length.
    pub(super) fn new(layer_bytes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.tar");
        // Bytes that no packing shortens.
        let mut state = 1_u64;
        let layer: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .take(layer_bytes / 8)
        .flatten()
        .collect();
        let tars = [tar_of("data", &layer), tar_of("hello.txt", b"base")];
        let images = [
            Image::of_tars("amd64", &tars, Packing::Plain),
            Image::of_tars("arm64", &tars[1..], Packing::Gzip),
        ];
        let mut writer = Writer::create(Target::Path(path.clone()), Format::Archive).unwrap();
        for image in &images {
            image.write_to(&mut writer, None);
        }
        let (root, bytes) = index_of(&[&images[0], &images[1]]);
        writer.add_blob(&root, &bytes).unwrap();
        let saved = |name: String, image: &quinistry::oci::Descriptor| SavedImage {
            descriptor: quinistry::oci::Descriptor { platform: None, ..image.clone() },
            name: Some(name),
            docker: None,
        };
        let saved = [
            saved(format!("{SHOP}:1.4.0"), &root),
            saved(format!("{SHOP}@{}", root.digest), &root),
            saved(format!("{TOOLS}:2"), &images[0].descriptor),
        ];
        writer.with_ref_names(RefNames::Full).finish(&saved).unwrap();
        Self { folder, path, index: root.digest, images }
    }

    pub(super) fn archive(&self) -> &str {
        self.path.to_str().unwrap()
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the digest of an image.
    pub(super) fn image(&self, number: usize) -> &Digest {
        self.images[number].digest()
    }

    /// Returns the length of all blobs, each counted once.
    pub(super) fn bytes(&self) -> u64 {
        let blobs = self.images.iter().flat_map(Image::blobs);
        let mut sizes: Vec<_> = blobs.map(|(blob, _)| (blob.digest.to_string(), blob.size)).collect();
        sizes.sort();
        sizes.dedup();
        sizes.iter().map(|(_, size)| size).sum()
    }

    /// Loads the archive, and returns the result.
    fn load(&self, host: &str) -> Value {
        serde_json::from_str(&good(&["load", self.archive(), host, "-o", "json"])).unwrap()
    }

    /// Returns the names of the images in a registry, with their digests.
    pub(super) fn loaded(&self, host: &str) -> [(String, Digest); 3] {
        let repository = format!("{host}/{SHOP}");
        [
            (format!("{repository}:1.4.0"), self.index.clone()),
            (format!("{repository}@{}", self.images[1].digest()), self.images[1].digest().clone()),
            (format!("{host}/registry.lan_5000/tools:2"), self.images[0].digest().clone()),
        ]
    }

    /// Pulls all images by crane, which checks each byte, and compares their digests.
    fn check_by_crane(&self, host: &str) {
        let crane = |arguments: &[&str]| {
            let done = output(command("crane").args(arguments)).unwrap();
            assert!(done.status.success(), "{arguments:?}: {}", stderr(&done));
            stdout(&done).trim().to_owned()
        };
        for (number, (name, digest)) in self.loaded(host).iter().enumerate() {
            assert_eq!(crane(&["digest", name]), digest.as_str(), "{name}");
            let layout = self.folder.path().join(format!("pulled-{number}"));
            crane(&["pull", "--format", "oci", name, layout.to_str().unwrap()]);
            let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
            assert_eq!(index["manifests"][0]["digest"], digest.as_str(), "{name}");
            fs::remove_dir_all(layout).unwrap();
        }
    }

    /// Changes a byte of the archive in this content.
    fn damage(&self, content: &[u8]) {
        let bytes = fs::read(&self.path).unwrap();
        let content = &content[..content.len().min(4096)];
        let at = bytes.windows(content.len()).position(|window| window == content).unwrap();
        File::options().write(true).open(&self.path).unwrap().write_all_at(b"#", at as u64 + 40).unwrap();
    }
}

#[test]
fn all_images_are_loaded_and_a_second_load_sends_nothing() {
    let (server, host) = registry();
    let shop = Shop::new(3 * CHUNK_BYTES / 2);
    let loaded = shop.load(&host);
    assert_eq!((&loaded["bytes"], &loaded["sentBytes"]), (&shop.bytes().into(), &shop.bytes().into()));
    assert_eq!((&loaded["existing"], &loaded["mounted"]), (&0.into(), &0.into()));
    assert_eq!(loaded["images"][0]["reference"], format!("{SHOP}:1.4.0"));
    assert_eq!(loaded["images"][0]["target"], format!("{host}/{SHOP}:1.4.0@{}", shop.index));
    for (name, digest) in shop.loaded(&host) {
        let verified: Value =
            serde_json::from_str(&good(&["verify", &name, "--platform", "all", "-o", "json"])).unwrap();
        assert!(verified.to_string().contains(digest.as_str()), "{verified}");
    }

    let proxy = CutProxy::start(server.peer.0, []);
    let again = shop.load(&proxy.address.to_string());
    assert_eq!((&again["sentBytes"], &again["put"]), (&0.into(), &0.into()));
    assert_eq!(again["existing"], loaded["uploaded"]);
    assert!(proxy.sent_bytes() < 64 << 10, "{} bytes of requests", proxy.sent_bytes());
    let text = good(&["load", shop.archive(), &format!("http://{host}")]);
    assert!(text.ends_with("3 images; 12.6 MB of 12.6 MB were there\n"), "{text}");
    if !lacks(&[Need::Tool("crane")]) {
        shop.check_by_crane(&host);
    }
}

#[test]
fn distribution_takes_all_images_also_after_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let Some(distribution) = Distribution::on(Version::Third, folder.path()) else { return };
    let shop = Shop::new(3 * CHUNK_BYTES);
    let cuts = [1 << 20, 16 << 20];
    let proxy = CutProxy::start(distribution.host.parse().unwrap(), cuts);
    shop.load(&proxy.address.to_string());
    assert_eq!(proxy.cuts_left(), 0);
    if !lacks(&[Need::Tool("crane")]) {
        shop.check_by_crane(&distribution.host);
    }
    let again = shop.load(&distribution.host);
    assert_eq!((&again["sentBytes"], &again["put"]), (&0.into(), &0.into()));
}

#[test]
fn a_load_that_is_cut_goes_on_and_sends_at_most_one_chunk_twice_for_each_cut() {
    let (server, host) = registry();
    let shop = Shop::new(5 * CHUNK_BYTES);
    // In requests of small blobs, in the midst of chunks, and between them.
    let cuts: Vec<_> =
        [600, 2500].into_iter().chain((1..16).map(|number| number * (3 << 20) + 77 * number)).collect();
    let proxy = CutProxy::start(server.peer.0, cuts.iter().copied());
    let loaded = shop.load(&proxy.address.to_string());
    assert_eq!(loaded["bytes"], shop.bytes());
    assert!(proxy.cuts_left() <= 4, "{} of {} cuts were not reached", proxy.cuts_left(), cuts.len());
    let made = (cuts.len() - proxy.cuts_left()) as u64;
    let bound = shop.bytes() + made * CHUNK_BYTES as u64 + (1 << 20);
    assert!(proxy.sent_bytes() <= bound, "{} of {bound}", proxy.sent_bytes());
    // The registry keeps what came of a chunk, so that far less is repeated here.
    let repeated = proxy.sent_bytes().saturating_sub(shop.bytes());
    assert!(repeated < made * CHUNK_BYTES as u64 / 2, "{repeated} bytes were repeated after {made} cuts");
    for (name, _) in shop.loaded(&host) {
        good(&["verify", &name, "--platform", "all"]);
    }
}

#[test]
fn a_load_that_failed_goes_on_when_it_is_started_again() {
    let (server, host) = registry();
    // Another archive has the same small blobs: which blobs a failed load completes depends on their race.
    let former = Shop::new(1000);
    former.load(&host);
    let tagged = || {
        let image = good(&["inspect", &format!("{host}/{SHOP}:1.4.0"), "-o", "json"]);
        serde_json::from_str::<Value>(&image).unwrap()["digest"].clone()
    };
    let shop = Shop::new(2 * CHUNK_BYTES);
    let proxy = CutProxy::ending(server.peer.0, [], CHUNK_BYTES as u64);
    bad(&["load", shop.archive(), &proxy.address.to_string()], 1);
    assert_eq!(tagged(), former.index.as_str(), "tags come last");
    let loaded = shop.load(&host);
    let number = |field: &str| loaded[field].as_u64().unwrap();
    assert!(number("existing") > 0 && number("sentBytes") < shop.bytes(), "{loaded}");
    assert_eq!(tagged(), shop.index.as_str());
    good(&["verify", &format!("{host}/{SHOP}:1.4.0"), "--platform", "all"]);
}

#[test]
fn damaged_archives_are_refused() {
    let (server, host) = registry();
    let is_empty = || {
        let catalog = server.peer.get("/v2/_catalog").json();
        catalog["repositories"] == serde_json::json!(["quinistry"])
    };
    let shop = Shop::new(1 << 20);
    let whole = fs::read(&shop.path).unwrap();
    fs::write(&shop.path, &whole[..whole.len() / 2]).unwrap();
    bad(&["load", shop.archive(), &host], 1);
    fs::write(&shop.path, &whole).unwrap();
    shop.damage(&shop.images[0].manifest);
    shop.damage(&shop.images[1].manifest);
    let error = bad(&["load", shop.archive(), &host], 1);
    assert_eq!(error.lines().filter(|line| line.starts_with("defect: ghcr.io/acme/shop:1.4.0: ")).count(), 2);
    assert!(error.ends_with("2 defects of the archive (listed above); nothing was sent\n"), "{error}");
    assert!(is_empty(), "nothing was sent");

    fs::write(&shop.path, &whole).unwrap();
    shop.damage(&shop.images[0].layers[0].1[1024..]);
    let error = bad(&["load", shop.archive(), &host], 1);
    let layer = &shop.images[0].layers[0].0.digest;
    assert!(error.contains(layer.as_str()) && error.contains("copy the archive again"), "{error}");
    let blob = server.peer.get(&format!("/v2/{SHOP}/blobs/{layer}"));
    assert_eq!(blob.status, 404);

    let folder = shop.folder.path().to_str().unwrap();
    assert!(bad(&["load", folder, &host], 1).contains("is a folder, not an archive"));
}

#[test]
fn an_index_without_some_of_its_images_needs_a_registry_that_accepts_it() {
    let (_server, host) = registry();
    let shop = Shop::new(1000);
    shop.load(&host);
    let sparse = shop.folder.path().join("sparse.tar");
    let sparse = sparse.to_str().unwrap();
    good(&["bundle", sparse, &format!("{host}/{SHOP}:1.4.0"), "--platform", "linux/arm64"]);
    let (_strict, strict) = registry();
    let error = bad(&["load", sparse, &strict], 1);
    assert!(error.contains(shop.index.as_str()) && error.contains("--allow-sparse"), "{error}");
    let lenient =
        Server::launch(command(PROGRAM).args(SERVE).args(["--storage", "memory", "--allow-sparse"]));
    let lenient = lenient.peer.0.to_string();
    assert_eq!(good(&["load", sparse, &lenient, "-q"]), format!("{}\n", shop.index));
}

const MANIFESTS: &str = "# the shop\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: shop # ghcr.io/acme/shop:1.4.0\nspec:\n  template:\n    \
                         spec:\n      containers:\n      - name: shop\n        image:   'ghcr.io/acme/shop:1.4.0'   # one\n      - {name: tools, image: \
                         registry.lan:5000/tools:2}\n---\nkind: Cluster\nspec: {imageName: nginx}\n";

/// Returns the manifests as they are after a load.
fn rewritten(shop: &Shop, host: &str) -> String {
    let image = format!("'{host}/{SHOP}@{}'", shop.index);
    let tools = format!("{host}/registry.lan_5000/tools@{}", shop.images[0].digest());
    MANIFESTS.replace("'ghcr.io/acme/shop:1.4.0'", &image).replace("registry.lan:5000/tools:2", &tools)
}

fn write(folder: &Path, text: &str) -> String {
    let path = folder.join("rendered.yaml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn manifests_are_rewritten_to_digests_and_keep_every_other_byte() {
    let (_server, host) = registry();
    let shop = Shop::new(1000);
    let path = write(shop.folder.path(), MANIFESTS);
    let load = ["load", shop.archive(), &host, "--rewrite"];
    assert_eq!(good(&[&load[..], &[&path]].concat()), rewritten(&shop, &host));
    assert_eq!(
        good(&[&load[..], &[&path, "--as", "localhost:5000"]].concat()),
        rewritten(&shop, "localhost:5000")
    );
    let mut child = spawn(
        quinistry(&[&load[..], &["-"]].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), MANIFESTS.as_bytes()).unwrap();
    let taken = child.wait_with_output().unwrap();
    assert_eq!(stdout(&taken), rewritten(&shop, &host), "{}", stderr(&taken));
    let said = stderr(&taken);
    assert!(
        said.contains("warning: not replaced: 'nginx' in standard input: Cluster/ spec.imageName"),
        "{said}"
    );
    assert!(said.contains("were there\n"), "{said}");
}

#[test]
fn images_that_are_not_bundled_are_named_before_anything_is_sent() {
    let (server, host) = registry();
    let shop = Shop::new(1000);
    let text = MANIFESTS.replace("registry.lan:5000/tools:2", "nginx");
    let path = write(shop.folder.path(), &text);
    let error = bad(&["load", shop.archive(), &host, "--rewrite", &path], 1);
    assert!(error.contains("missing: 'nginx' in "), "{error}");
    assert!(error.contains("1 image name of pods without an image in the archive"), "{error}");
    assert_eq!(server.peer.get(&format!("/v2/{SHOP}/tags/list")).status, 404);
    bad(&["load", shop.archive(), &host, "--rewrite", &path, "-o", "json"], 2);
    bad(&["load", shop.archive(), &host, "--as", "localhost:5000"], 2);
    bad(&["load", shop.archive(), "https://registry.lan"], 2);
}
