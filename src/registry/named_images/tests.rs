//! Copies of named images from stores that share one address.

mod pruning;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use quinistry_fetch::{
    Answer, Answered, ManifestHeaders, Source as _, SourceError, Told, UpstreamManifest, Validator, Wanted,
};
use quinistry_oci::{Digest, Reference, RepositoryName};
use quinistry_store::{AbsentParts, Memory, Page, Store, StoreOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::sources::BlobSource;
use super::*;

const CONFIG: &[u8] = b"{}";
const LAYER: &[u8] = &[7; 200_000];

/// Address of several stores, each of which answers one question in turn.
#[derive(Debug, Default)]
struct Service {
    stores: Vec<HashMap<Digest, Bytes>>,
    next: AtomicUsize,
    asked: Mutex<BTreeMap<Digest, usize>>,
    is_away: AtomicBool,
    /// Bytes after which each answer with more of them is cut off.
    cut_after: Option<usize>,
    /// Number of questions for such content that are refused after a cut.
    refusals_after_cut: usize,
    refusals_left: AtomicUsize,
}

impl Service {
    fn of(stores: &[&[&[u8]]]) -> Arc<Self> {
        let content = |bytes: &&[u8]| (Digest::sha256(bytes), Bytes::copy_from_slice(bytes));
        let stores = stores.iter().map(|store| store.iter().map(content).collect()).collect();
        Arc::new(Self { stores, ..Self::default() })
    }

    fn ask(&self, digest: &Digest) -> Result<Bytes, SourceError> {
        let less = |left: usize| left.checked_sub(1);
        let is_refused = self.is_cut(digest)
            && self.refusals_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        if is_refused || self.is_away.load(Ordering::Relaxed) {
            let error = io::Error::from(io::ErrorKind::ConnectionRefused);
            return Err(SourceError::Unavailable(Box::new(error)));
        }
        *self.asked.lock().unwrap().entry(digest.clone()).or_default() += 1;
        let store = self.next.fetch_add(1, Ordering::Relaxed) % self.stores.len();
        self.stores[store].get(digest).cloned().ok_or(SourceError::NotFound)
    }

    /// Returns true if answers with this content are cut off.
    fn is_cut(&self, digest: &Digest) -> bool {
        let is_longer = |content: &Bytes| self.cut_after.is_some_and(|cut| content.len() > cut);
        self.stores.iter().filter_map(|store| store.get(digest)).any(is_longer)
    }

    fn times_asked(&self, content: &[u8]) -> usize {
        self.asked.lock().unwrap().get(&Digest::sha256(content)).copied().unwrap_or_default()
    }
}

impl Peer for Service {
    fn name(&self) -> &'static str {
        "http://10.96.0.7:8080"
    }

    fn on_new_connections(&self) -> &dyn Peer {
        self
    }

    fn get_manifest<'a>(&'a self, _: &'a RepositoryName, digest: &'a Digest) -> Told<'a, UpstreamManifest> {
        Box::pin(async {
            Ok(UpstreamManifest { headers: ManifestHeaders::default(), bytes: self.ask(digest)? })
        })
    }

    fn head_blob<'a>(&'a self, _: &'a RepositoryName, digest: &'a Digest) -> Told<'a, Option<u64>> {
        Box::pin(async { Ok(Some(self.ask(digest)?.len() as u64)) })
    }

    fn open_blob<'a>(&'a self, _: &'a RepositoryName, wanted: Wanted) -> Answered<'a> {
        Box::pin(async move {
            let bytes = self.ask(&wanted.digest)?;
            let answer = Answer {
                from: wanted.from,
                length: Some(bytes.len() as u64),
                digest: Some(wanted.digest.clone()),
                validator: Validator::new("peers", "\"one\""),
                is_encoded: false,
            };
            let rest = bytes.slice(usize::try_from(wanted.from).unwrap()..);
            let cut = self.cut_after.filter(|cut| *cut < rest.len());
            let sent = rest.slice(..cut.unwrap_or(rest.len()));
            let mut pieces: Vec<_> =
                sent.chunks(10_007).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            if cut.is_some() {
                pieces.push(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
                self.refusals_left.store(self.refusals_after_cut, Ordering::Relaxed);
            }
            Ok((answer, Box::pin(stream::iter(pieces)) as _))
        })
    }
}

/// Store that copies named images.
struct Copies {
    named: NamedImages,
    stored: LimitedStore,
    fetches: Fetches,
    folder: TempDir,
}

impl Copies {
    fn new(service: &Arc<Service>) -> Self {
        Self::with_clock(service, Clock::default())
    }

    fn with_clock(service: &Arc<Service>, clock: Clock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("names.json");
        let peers = Arc::new(Peers::new(vec![service.clone()], Some(file)));
        let options = StoreOptions { absent_parts: AbsentParts::OtherChildren, coherence: None };
        let stored = LimitedStore::new(Store::open_with(Memory::new(1 << 26), options).unwrap());
        let options = FetchOptions { resume_pause: Duration::ZERO, ..fetch_options() };
        let fetches = Fetches::new(Some(stored.store.clone()), options);
        let named = NamedImages::with_clock(peers, vec![service.clone()], clock);
        Self { named, stored, fetches, folder }
    }

    /// Names images by their repositories, and looks at what is there.
    async fn name(&self, images: &[(&str, &[u8])]) {
        let keep = |(repository, manifest): &(&str, &[u8])| json!({ "repository": repository, "digest": Digest::sha256(manifest) });
        let names = json!({ "names": [], "keep": images.iter().map(keep).collect::<Vec<_>>() });
        write(&self.folder.path().join("names.json"), &names);
        let is_read = || self.named.report().names == Some(Digest::sha256(names.to_string().as_bytes()));
        while !is_read() {
            // The file is read at most once a second.
            self.named.look(&self.stored).await;
            tokio::task::yield_now().await;
        }
    }

    /// Copies everything that is due. Returns false if no peer answers.
    async fn copy(&self) -> bool {
        while let Some(image) = self.named.ledger.with(|ledger, now| ledger.next_copy(now)) {
            if !self.named.copy_image(&self.stored, &self.fetches, &image).await {
                return false;
            }
        }
        true
    }

    fn counts(&self) -> [usize; 3] {
        let report = self.named.report();
        [report.complete, report.copying, report.absent]
    }

    fn has_manifest(&self, repository: &str, manifest: &[u8]) -> bool {
        let reference = Reference::Digest(Digest::sha256(manifest));
        self.stored.store.manifest(&repository.parse().unwrap(), &reference).is_ok()
    }

    fn has_blob(&self, repository: &str, blob: &[u8]) -> bool {
        self.stored.store.has_blob(&repository.parse().unwrap(), &Digest::sha256(blob)).unwrap()
    }

    /// Returns the reason for which the first lacking image is not here.
    fn reason(&self) -> String {
        self.named.report().lacking[0].reason.clone().unwrap()
    }
}

fn write(path: &Path, names: &Value) {
    std::fs::write(path, names.to_string()).unwrap();
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len() })
}

fn image(layer: &[u8]) -> Vec<u8> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", CONFIG),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    manifest.to_string().into_bytes()
}

fn index(children: &[&[u8]]) -> Vec<u8> {
    let child = |bytes: &&[u8]| descriptor("application/vnd.oci.image.manifest.v1+json", bytes);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": children.iter().map(child).collect::<Vec<_>>(),
    });
    index.to_string().into_bytes()
}

#[tokio::test]
async fn an_index_is_copied_with_the_children_that_are_there() {
    let (here, elsewhere) = (image(LAYER), image(b"elsewhere"));
    let index = index(&[&elsewhere, &here]);
    let service = Service::of(&[&[&index, &here, CONFIG, LAYER]]);
    let copies = Copies::new(&service);
    copies.name(&[("ghcr.io/acme/shop", &index)]).await;
    assert!(!copies.named.report().ready);
    assert!(copies.copy().await);
    assert_eq!((copies.counts(), copies.named.report().ready), ([1, 0, 0], true));
    assert!(
        copies.has_manifest("ghcr.io/acme/shop", &index) && copies.has_manifest("ghcr.io/acme/shop", &here)
    );
    assert!(copies.has_blob("ghcr.io/acme/shop", LAYER));
    let page = Page { size: 10, last: String::new() };
    let (tags, _) = copies.stored.store.tags(&"ghcr.io/acme/shop".parse().unwrap(), &page).unwrap();
    assert!(tags.is_empty(), "{tags:?}");
}

#[tokio::test]
async fn content_of_one_of_several_stores_behind_one_address_is_found() {
    let manifest = image(LAYER);
    let service = Service::of(&[&[], &[], &[&manifest, CONFIG, LAYER], &[]]);
    let copies = Copies::new(&service);
    copies.name(&[("a/b", &manifest)]).await;
    assert!(copies.copy().await);
    assert_eq!(copies.counts(), [1, 0, 0]);
}

#[tokio::test]
async fn blobs_that_are_there_or_in_another_repository_are_not_fetched_again() {
    let manifest = image(LAYER);
    let service = Service::of(&[&[&manifest, CONFIG, LAYER]]);
    let copies = Copies::new(&service);
    for (repository, times) in [("a/b", 1), ("c/d", 1)] {
        copies.name(&[(repository, &manifest)]).await;
        assert!(copies.copy().await);
        assert_eq!((copies.counts(), service.times_asked(LAYER)), ([1, 0, 0], times));
        assert!(copies.has_blob(repository, LAYER) && copies.has_manifest(repository, &manifest));
    }
}

#[tokio::test]
async fn an_image_whose_blob_is_nowhere_is_absent_and_its_manifest_is_not_stored() {
    let manifest = image(LAYER);
    let service = Service::of(&[&[&manifest, CONFIG]]);
    let copies = Copies::new(&service);
    copies.name(&[("a/b", &manifest)]).await;
    assert!(copies.copy().await);
    assert_eq!((copies.counts(), copies.named.report().ready), ([0, 0, 1], true));
    assert!(!copies.has_manifest("a/b", &manifest) && copies.has_blob("a/b", CONFIG));
    assert!(copies.reason().starts_with(&format!("no peer has {}", Digest::sha256(LAYER))));
}

#[tokio::test]
async fn a_name_that_no_store_has_does_not_make_the_store_unready() {
    let (manifest, absent) = (image(LAYER), image(b"typo"));
    let service = Service::of(&[&[&manifest, CONFIG, LAYER]]);
    let copies = Copies::new(&service);
    copies.name(&[("a/b", &manifest), ("a/b", &absent)]).await;
    assert!(copies.copy().await);
    assert_eq!((copies.counts(), copies.named.report().ready), ([1, 0, 1], true));
    assert!(copies.reason().starts_with("no peer has its manifest"));
}

#[tokio::test]
async fn wrong_bytes_are_not_stored() {
    let manifest = image(LAYER);
    let mut wrong = LAYER.to_vec();
    wrong[199_999] ^= 1;
    let mut service = Service::of(&[&[&manifest, CONFIG]]);
    let lies = [(Digest::sha256(LAYER), wrong.into()), (Digest::sha256(b"x"), manifest.clone().into())];
    Arc::get_mut(&mut service).unwrap().stores[0].extend(lies);
    let copies = Copies::new(&service);
    copies.name(&[("a/b", &manifest), ("a/b", b"x")]).await;
    assert!(copies.copy().await);
    assert_eq!((copies.counts(), copies.named.report().ready), ([0, 0, 2], true));
    assert!(!copies.has_blob("a/b", LAYER) && !copies.has_manifest("a/b", &manifest));
    let reasons: Vec<_> =
        copies.named.report().lacking.into_iter().filter_map(|image| image.reason).collect();
    assert!(reasons.iter().any(|reason| reason.contains("sent wrong content")), "{reasons:?}");
}

#[tokio::test]
async fn only_answers_to_questions_prove_that_a_store_is_there() {
    let service = Service::of(&[&[LAYER]]);
    let (start, seconds) = (std::time::Instant::now(), Arc::<AtomicU64>::default());
    let now = seconds.clone();
    let clock = Clock::new(move || start + Duration::from_secs(now.load(Ordering::Relaxed)));
    let copies = Copies::with_clock(&service, clock);
    copies.name(&[("a/b", b"an image")]).await;
    let image = ("a/b".parse().unwrap(), Digest::sha256(b"an image"));
    copies.named.ledger.with(|ledger, _| ledger.note_found(&image));
    let sources = copies.named.sources.clone();
    let source = BlobSource { sources: sources.clone(), repository: image.0.clone() };
    let wanted = Wanted { digest: Digest::sha256(LAYER), length: None, from: 0, validator: None };
    let (_, body) = source.open(wanted).await.unwrap();
    seconds.store(5, Ordering::Relaxed);
    sources.probe(&image.0, &image.1).await;
    seconds.store(34, Ordering::Relaxed);
    assert!(!copies.named.report().ready);
    assert!(body.count().await > 1);
    seconds.store(35, Ordering::Relaxed);
    assert!(copies.named.report().ready, "bytes are no answer");
}

#[tokio::test]
async fn a_long_blob_is_copied_over_many_cuts_and_absences_of_its_store() {
    let layer: Vec<u8> = (0..20_u8).flat_map(|n| vec![n; 1 << 20]).collect();
    let manifest = image(&layer);
    let mut service = Service::of(&[&[&manifest, CONFIG, &layer], &[]]);
    let unique = Arc::get_mut(&mut service).unwrap();
    (unique.cut_after, unique.refusals_after_cut) = (Some(1 << 20), 100);
    let copies = Copies::new(&service);
    copies.name(&[("a/b", &manifest)]).await;
    assert!(copies.copy().await);
    assert_eq!(copies.counts(), [1, 0, 0]);
    assert!(copies.has_blob("a/b", &layer));
}

#[tokio::test]
async fn a_copy_goes_on_once_a_peer_answers() {
    let manifest = image(LAYER);
    let service = Service::of(&[&[&manifest, CONFIG, LAYER]]);
    let copies = Copies::new(&service);
    service.is_away.store(true, Ordering::Relaxed);
    copies.name(&[("a/b", &manifest)]).await;
    assert!(!copies.copy().await);
    assert!(!copies.named.report().ready, "the first look has not ended");
    service.is_away.store(false, Ordering::Relaxed);
    // Other names are asked for at once.
    copies.name(&[("a/b", &manifest), ("a/b", b"absent")]).await;
    assert!(copies.copy().await);
    assert_eq!((copies.counts(), copies.named.report().ready), ([1, 0, 1], true));
}
