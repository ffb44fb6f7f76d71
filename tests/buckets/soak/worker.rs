//! A client of the soak.

use quinistry::oci::Digest;

use super::REPOSITORIES;
use super::ledger::{Ledger, State};
use crate::attempt::{Attempts, Outcome, Replicas};
use crate::client::{MANIFEST, Way};
use crate::support::images::{Image, Packing, tar_of};

/// Client that pushes images under tags of its own, deletes some of them, and pulls those of all.
pub(super) struct Worker<'a> {
    number: usize,
    replicas: &'a Replicas,
    ledger: &'a Ledger,
    /// State of a generator of random numbers (xorshift).
    random: u64,
    /// Number of images so far.
    pushed: usize,
    /// Tags that may be deleted.
    own: Vec<(&'static str, String, Image)>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(number: usize, replicas: &'a Replicas, ledger: &'a Ledger) -> Self {
        let random = 0x9e37_79b9_7f4a_7c15 ^ ((number as u64 + 1) << 32);
        Self { number, replicas, ledger, random, pushed: 0, own: Vec::new() }
    }

    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).unwrap() % below
    }

    fn client(&self, repository: &'a str) -> Attempts<'a> {
        Attempts { replicas: self.replicas, repository }
    }

    /// Does one thing.
    pub(super) fn step(&mut self) {
        match self.random(10) {
            0..5 => self.push(),
            5 if self.own.len() > 4 => self.delete(),
            _ => self.pull(),
        }
    }

    fn push(&mut self) {
        let repository = REPOSITORIES[self.random(REPOSITORIES.len())];
        self.pushed += 1;
        let own = format!("worker {} image {}", self.number, self.pushed);
        // One layer is shared by many images, and sometimes one has several parts.
        let shared = format!("shared {}", self.random(20));
        let length = if self.random(8) == 0 { 600_000 } else { 1 };
        let tars = [tar_of("own", own.repeat(length).as_bytes()), tar_of("shared", shared.as_bytes())];
        let image = Image::of_tars("amd64", &tars, Packing::Plain);
        let tag = format!("w{}-{}", self.number, self.pushed);
        let client = self.client(repository);
        self.ledger.note(repository, &tag, &image, State::Uncertain);
        for (descriptor, bytes) in image.blobs() {
            let way = [Way::Put, Way::Patch, Way::Chunks(3 << 20)][self.random(3)];
            let is_mounted = self.random(3) == 0 && self.mount(client, &descriptor.digest);
            if !is_mounted {
                client.ensure_blob(way, bytes);
            }
        }
        match client.put_manifest(&tag, &image.manifest) {
            Outcome::Answered(answer) => {
                // Each blob was acknowledged, so that no part can be missing.
                assert_eq!(answer.status, 201, "{repository}:{tag}: {answer:?}");
                self.ledger.note(repository, &tag, &image, State::Pushed);
                self.own.push((repository, tag, image));
            }
            Outcome::Lost(_) => {}
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
        self.ledger.note(repository, &tag, &image, State::Leaving);
        let target = client.path(&format!("manifests/{}", image.digest()));
        let outcome = client.send("DELETE", &target, &[], b"");
        assert!(matches!(outcome.status(), None | Some(202)), "{target}: {outcome:?}");
        if outcome.status() == Some(202) {
            self.ledger.note(repository, &tag, &image, State::Deleted);
        }
    }

    /// Pulls an image of any worker.
    fn pull(&mut self) {
        let random = self.random(1 << 20);
        let Some((repository, tag, image)) = self.ledger.any(random) else { return };
        let client = Attempts { replicas: self.replicas, repository: &repository };
        let manifest = client.insist("GET", &format!("manifests/{tag}"), &[("Accept", MANIFEST)], b"");
        let config = client.insist("HEAD", &format!("blobs/{}", image.config.0.digest), &[], b"");
        let layer = client.insist("HEAD", &format!("blobs/{}", image.layers[0].0.digest), &[], b"");
        // Another worker may have deleted the image while this one looked.
        if self.ledger.is_pushed(&repository, &tag) {
            assert_eq!(manifest.status, 200, "{repository}:{tag} is acknowledged: {manifest:?}");
            assert_eq!(manifest.body, image.manifest, "{repository}:{tag}");
            assert_eq!((config.status, layer.status), (200, 200), "{repository}:{tag}: {config:?} {layer:?}");
            self.ledger.note_pull();
        }
    }
}
