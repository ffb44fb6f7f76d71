//! A client of the soak.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quinistry::oci::Digest;

use super::ledger::{Ledger, State};
use super::{GRACE, PASSING, REPOSITORIES, VIEW_LIFETIME};
use crate::attempt::{Attempts, Outcome, Replicas};
use crate::client::{MANIFEST, Way, follow};
use crate::support::images::{Image, Packing, tar_of};

/// Number of attempts to bring a manifest.
const MAX_ATTEMPTS: usize = 20;

/// Longest blob that a pull reads, in bytes; of others it asks for the head. The check reads all.
const MAX_PULLED_BYTES: u64 = 1 << 20;

/// Objects that all workers share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    pub(super) replicas: &'a Replicas,
    pub(super) ledger: &'a Ledger,
    pub(super) is_over: &'a AtomicBool,
}

/// Client that pushes images under tags of its own, deletes some of them, and pulls those of all.
pub(super) struct Worker<'a> {
    number: usize,
    scene: Scene<'a>,
    /// State of a generator of random numbers (xorshift).
    random: u64,
    /// Number of images so far.
    pushed: usize,
    /// Tags that may be deleted.
    own: Vec<(&'static str, String, Image)>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(number: usize, scene: Scene<'a>) -> Self {
        let random = 0x9e37_79b9_7f4a_7c15 ^ ((number as u64 + 1) << 32);
        Self { number, scene, random, pushed: 0, own: Vec::new() }
    }

    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).unwrap() % below
    }

    fn client(&self, repository: &'a str) -> Attempts<'a> {
        Attempts { replicas: self.scene.replicas, repository }
    }

    /// Returns true for the half of the workers that ask about the parts of an image, wait, and bring its manifest
    /// later.
    const fn is_patient(&self) -> bool {
        self.number % 2 == 1
    }

    /// Does things until the end.
    pub(super) fn run(&mut self) {
        while !self.scene.is_over.load(Ordering::Relaxed) {
            match self.random(10) {
                0..5 => self.push(),
                5..7 if self.own.len() > 2 => self.delete(),
                _ => self.pull(),
            }
        }
    }

    fn push(&mut self) {
        let repository = REPOSITORIES[self.random(REPOSITORIES.len())];
        self.pushed += 1;
        let tag =
            format!("{}w{}-{}", if repository == PASSING { "pr-" } else { "" }, self.number, self.pushed);
        let random = self.random(1 << 20);
        let is_patient = self.is_patient();
        let removed = is_patient.then(|| self.scene.ledger.removed(repository, random)).flatten();
        let image = match removed {
            // Its parts may be condemned, or on their way out.
            Some(removed) => {
                let tars: Vec<Vec<u8>> = removed.layers.into_iter().map(|(_, tar)| tar).collect();
                Image::of_tars(&tag, &tars, Packing::Plain)
            }
            None => self.image(&tag),
        };
        self.scene.ledger.note(repository, &tag, &image, State::Uncertain);
        let mut wait = Duration::ZERO;
        if is_patient {
            // The whole of the time for which an answer about a blob holds, and no more.
            let promille = u32::try_from(self.random(1000)).unwrap();
            wait = GRACE * 9 / 10 * promille / 1000;
        }
        if self.bring(repository, &tag, &image, wait) {
            let is_passing = repository == PASSING;
            let state = if is_passing { State::Passing } else { State::Pushed };
            self.scene.ledger.note(repository, &tag, &image, state);
            if !is_passing {
                self.own.push((repository, tag, image));
            }
        }
    }

    /// Returns an image of an own layer and one that other images have as well.
    fn image(&mut self, tag: &str) -> Image {
        let own = format!("worker {} image {}", self.number, self.pushed);
        let shared = format!("shared {}", self.random(60));
        // Sometimes one has several parts.
        let length = if self.random(16) == 0 { 600_000 } else { 100 };
        let tars = [tar_of("own", own.repeat(length).as_bytes()), tar_of("shared", shared.as_bytes())];
        Image::of_tars(tag, &tars, Packing::Plain)
    }

    /// Pushes the parts of an image that are missing, waits, and brings the manifest. Returns true if that was
    /// acknowledged.
    fn bring(&mut self, repository: &'static str, tag: &str, image: &Image, mut wait: Duration) -> bool {
        let client = self.client(repository);
        for _ in 0..MAX_ATTEMPTS {
            let asked: Vec<Instant> = image
                .blobs()
                .map(|(descriptor, bytes)| self.ensure(client, &descriptor.digest, bytes))
                .collect();
            let asked = asked.into_iter().min().unwrap();
            let waited = !wait.is_zero();
            self.wait(std::mem::take(&mut wait));
            let answer = match client.put_manifest(tag, &image.manifest) {
                Outcome::Answered(answer) => answer,
                Outcome::Lost(_) if self.scene.is_over.load(Ordering::Relaxed) => return false,
                Outcome::Lost(_) => continue,
            };
            if answer.status == 201 {
                if waited {
                    self.scene.ledger.note_awaited();
                }
                return true;
            }
            // Each part was found or acknowledged, so that none can be missing before its time.
            let age = asked.elapsed();
            assert!(
                age >= GRACE.saturating_sub(VIEW_LIFETIME),
                "{repository}:{tag}: refused {age:?} after its parts were found: {answer:?}"
            );
            assert_eq!(answer.status, 400, "{answer:?}");
            assert_eq!(answer.json()["errors"][0]["code"], "MANIFEST_BLOB_UNKNOWN", "{answer:?}");
            self.scene.ledger.note_late();
        }
        false
    }

    /// Mounts or pushes a blob, unless the registry has it. Returns a time before it was found or acknowledged.
    fn ensure(&mut self, client: Attempts<'_>, digest: &Digest, bytes: &[u8]) -> Instant {
        let asked = Instant::now();
        if self.random(3) == 0 && self.mount(client, digest) {
            return asked;
        }
        let way = [Way::Put, Way::Patch, Way::Chunks(3 << 20)][self.random(3)];
        client.ensure_blob(way, bytes)
    }

    /// Waits, but not beyond the end.
    fn wait(&self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time && !self.scene.is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Mounts a blob from another repository, if it is there.
    fn mount(&mut self, client: Attempts<'_>, digest: &Digest) -> bool {
        let from = REPOSITORIES[self.random(REPOSITORIES.len())];
        let target = client.path(&format!("blobs/uploads/?mount={digest}&from={from}"));
        let outcome = client.send("POST", &target, &[("Content-Length", "0")], b"");
        assert!(matches!(outcome.status(), None | Some(201 | 202)), "{target}: {outcome:?}");
        outcome.status() == Some(201)
    }

    fn delete(&mut self) {
        let at = self.random(self.own.len());
        let (repository, tag, image) = self.own.swap_remove(at);
        let client = self.client(repository);
        self.scene.ledger.note(repository, &tag, &image, State::Leaving);
        let target = client.path(&format!("manifests/{}", image.digest()));
        let outcome = client.send("DELETE", &target, &[], b"");
        assert!(matches!(outcome.status(), None | Some(202)), "{target}: {outcome:?}");
        if outcome.status() == Some(202) {
            self.scene.ledger.note(repository, &tag, &image, State::Deleted);
        }
    }

    /// Pulls an image of any worker.
    fn pull(&mut self) {
        let random = self.random(1 << 20);
        let Some((repository, tag, image)) = self.scene.ledger.any(random) else { return };
        let client = Attempts { replicas: self.scene.replicas, repository: &repository };
        let manifest = client.insist("GET", &format!("manifests/{tag}"), &[("Accept", MANIFEST)], b"");
        let mut parts = Vec::new();
        for (descriptor, bytes) in image.blobs() {
            let method = if descriptor.size <= MAX_PULLED_BYTES { "GET" } else { "HEAD" };
            let answer = client.insist(method, &format!("blobs/{}", descriptor.digest), &[], b"");
            let answer =
                if answer.status == 307 { follow(answer.header("location").unwrap()) } else { answer };
            parts.push((answer.status, method == "HEAD" || answer.body == *bytes));
        }
        // Another worker may have deleted the image while this one looked.
        if self.scene.ledger.is_pushed(&repository, &tag) {
            assert_eq!(manifest.status, 200, "{repository}:{tag} is acknowledged: {manifest:?}");
            assert_eq!(manifest.body, image.manifest, "{repository}:{tag}");
            assert!(parts.iter().all(|part| *part == (200, true)), "{repository}:{tag}: {parts:?}");
            self.scene.ledger.note_pull();
        }
    }
}
