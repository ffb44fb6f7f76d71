//! Clients of the model: they push, pull and remove through replicas, and tell the oracle what they were
//! answered.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use quinistry_oci::{Digest, Reference, Tag};

use super::bucket::Bucket;
use super::oracle::Oracle;
use super::plan::{Begin, GRACE, Operation, Planned, Way};
use super::schedule::CLIENTS;
use super::scheduler::Scheduler;
use super::universe::{Image, universe};
use crate::retention::{NoPulls, RetentionInputs};
use crate::{Store, StoreError, Tagged};

/// Time after which a client repeats a request that was refused for now.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Number of attempts of a client.
const MAX_ATTEMPTS: usize = 4;

/// Actor that plays a client.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) actor: usize,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) oracle: Arc<Oracle>,
    pub(super) bucket: Bucket,
    pub(super) stores: Vec<Store>,
    /// Replica that serves the present operation.
    pub(super) replica: Cell<usize>,
    /// A replica is stopped at some time. While a collector is stopped between `doom` and `doomed`, what it
    /// may remove counts as gone, though it is there (C.4 of the storage's specification).
    pub(super) has_stops: bool,
}

/// Reason why an operation ends early: the client was refused again and again.
struct Refused;

// === impl Client ===

impl Client {
    pub(super) fn run(&self, planned: &[Planned]) {
        for Planned { begin, replica, operation } in planned {
            self.wait(*begin);
            self.scheduler.note(|| format!("{} begins {operation:?} at replica {replica}", self.name));
            self.replica.set(*replica);
            let store = &self.stores[*replica];
            let result = match *operation {
                Operation::Push { repository, image, tags, way, pause } => {
                    self.push(store, (repository, image, tags), way, pause)
                }
                Operation::Retag { repository, tag, to, pause } => {
                    self.retag(store, repository, tag, to, pause)
                }
                Operation::TagByDigest { repository, image, tag, pause } => {
                    self.tag_by_digest(store, (repository, image, tag), pause)
                }
                Operation::Pull { repository, tag } => self.pull(store, repository, tag),
                Operation::Untag { repository, tag } => self.untag(store, repository, tag),
                Operation::Retain { repository, tag, pause } => self.retain(store, repository, tag, pause),
                Operation::Remove { repository, image } => self.remove(store, repository, image),
                Operation::Look { repository, blob } => self.look(store, repository, blob).map(drop),
            };
            if result.is_err() {
                self.scheduler.note(|| format!("{} gives up", self.name));
            }
        }
    }

    fn wait(&self, begin: Begin) {
        match begin {
            Begin::AtOnce => {}
            Begin::After(time) => self.scheduler.sleep(self.actor, time),
            Begin::At(part) => {
                self.scheduler.await_write(self.actor, part, self.scheduler.now() + GRACE * 3);
            }
        }
    }

    /// Sends a request, again if it is refused for now.
    fn ask<T>(&self, request: impl Fn() -> Result<T, StoreError>) -> Result<Result<T, StoreError>, Refused> {
        for _ in 0..MAX_ATTEMPTS {
            // A request stops with the replica that serves it.
            self.scheduler.join(self.actor, self.replica.get());
            let answer = request();
            self.scheduler.join(self.actor, CLIENTS);
            match answer {
                Err(error) if is_refused_for_now(&error) => {
                    self.scheduler.note(|| format!("{} is refused: {error}", self.name));
                    self.scheduler.sleep(self.actor, RETRY_DELAY);
                }
                answer => return Ok(answer),
            }
        }
        Err(Refused)
    }

    fn unexpected(&self, what: &str, error: &StoreError) -> ! {
        self.scheduler.fail(format!("{what}: unexpected error: {error}"))
    }

    /// Asks for a blob; returns true if it is there.
    fn look(&self, store: &Store, repository: usize, blob: usize) -> Result<bool, Refused> {
        let (name, digest) = (&universe().repositories[repository], &universe().blobs[blob].2);
        let (asked, found) = self
            .ask(|| {
                let asked = self.scheduler.now();
                let found = store.holding_blob(name, digest, || store.blob(name, digest));
                found.map(|content| (asked, content)).or_else(|error| match error {
                    StoreError::BlobUnknown | StoreError::RepositoryUnknown => {
                        Ok((asked, quinistry_oci::Content::default()))
                    }
                    error => Err(error),
                })
            })?
            .unwrap_or_else(|error| self.unexpected("HEAD of a blob", &error));
        let is_there = !found.is_empty();
        if is_there {
            self.oracle.saw_blob(repository, blob, (asked, self.scheduler.now()));
        }
        Ok(is_there)
    }

    /// Makes a blob part of a repository. Returns false if the client shall send the blob.
    fn mount(
        &self,
        store: &Store,
        repository: usize,
        blob: usize,
        from: Option<usize>,
    ) -> Result<bool, Refused> {
        let (name, digest) = (&universe().repositories[repository], &universe().blobs[blob].2);
        let from = from.map(|from| &universe().repositories[from]);
        let (asked, is_mounted) = self
            .ask(|| {
                let asked = self.scheduler.now();
                store.mount(name, digest, from).map(|mounted| (asked, mounted.is_some()))
            })?
            .unwrap_or_else(|error| self.unexpected("mount", &error));
        if is_mounted {
            self.oracle.saw_blob(repository, blob, (asked, self.scheduler.now()));
        }
        Ok(is_mounted)
    }

    fn send(&self, store: &Store, repository: usize, blob: usize) -> Result<(), Refused> {
        let (name, (_, bytes, digest)) = (&universe().repositories[repository], &universe().blobs[blob]);
        let asked = self
            .ask(|| {
                let asked = self.scheduler.now();
                let mut receiver = store.receive(digest, Some(bytes.len() as u64))?;
                receiver.append(bytes)?;
                store.commit(name, &mut receiver, digest)?;
                Ok(asked)
            })?
            .unwrap_or_else(|error| self.unexpected("upload of a blob", &error));
        self.oracle.saw_blob(repository, blob, (asked, self.scheduler.now()));
        Ok(())
    }

    fn push(
        &self,
        store: &Store,
        (repository, image, tags): (usize, usize, &[usize]),
        way: Way,
        pause: Begin,
    ) -> Result<(), Refused> {
        for attempt in 0..MAX_ATTEMPTS {
            let Image { blobs, children, .. } = &universe().images[image];
            for child in children {
                self.push(store, (repository, *child, &[]), way, Begin::AtOnce)?;
            }
            for blob in blobs {
                let is_there = way != Way::Send && self.look(store, repository, *blob)?
                    || matches!(way, Way::Mount(from) if self.mount(store, repository, *blob, from)?);
                if !is_there {
                    self.send(store, repository, *blob)?;
                }
            }
            if attempt == 0 {
                self.wait(pause);
            }
            if self.put(store, repository, image, tags)? {
                return Ok(());
            }
        }
        Err(Refused)
    }

    /// Pushes a manifest. Returns false if parts are missing.
    fn put(&self, store: &Store, repository: usize, image: usize, tags: &[usize]) -> Result<bool, Refused> {
        let name = &universe().repositories[repository];
        let Image { bytes, digest, manifest, .. } = &universe().images[image];
        let names: Vec<Tag> = tags.iter().map(|tag| universe().tags[*tag].clone()).collect();
        let sent = Cell::new(Duration::ZERO);
        let answer = self.ask(|| {
            sent.set(self.scheduler.now());
            let begun = self.oracle.begin_push((repository, image), tags, self.scheduler.now());
            let tagged = Tagged { digest, tags: &names };
            let answer = store.put_manifest(name, bytes, manifest, tagged);
            let broken = self.oracle.end_push(&begun, answer.is_ok(), &self.bucket.objects());
            if let Some(broken) = broken {
                self.scheduler.fail(broken);
            }
            answer
        })?;
        match answer {
            Ok(()) => {
                self.scheduler.note(|| format!("{} has pushed", self.name));
                Ok(true)
            }
            Err(StoreError::Missing(missing)) => {
                self.check_missing((repository, image), sent.get(), &missing);
                Ok(false)
            }
            Err(error) => self.unexpected("push of a manifest", &error),
        }
    }

    /// Fails if blobs are missing that the client was told to be there.
    fn check_missing(&self, (repository, image): (usize, usize), sent: Duration, missing: &[Digest]) {
        let now = self.scheduler.now();
        self.scheduler.note(|| format!("{} lacks parts of its image", self.name));
        for blob in &universe().images[image].blobs {
            let (name, _, digest) = &universe().blobs[*blob];
            if missing.contains(digest)
                && !self.has_stops
                && self.oracle.is_held(repository, *blob, sent, now)
            {
                self.scheduler
                    .fail(format!("a push was refused for {name}, which a client was told to be there"));
            }
        }
    }

    fn retag(
        &self,
        store: &Store,
        repository: usize,
        tag: usize,
        to: usize,
        pause: Begin,
    ) -> Result<(), Refused> {
        let Some(image) = self.image_of(store, repository, tag)? else { return Ok(()) };
        self.wait(pause);
        self.put(store, repository, image, &[to]).map(drop)
    }

    /// Returns the image that is served under a tag.
    fn image_of(&self, store: &Store, repository: usize, tag: usize) -> Result<Option<usize>, Refused> {
        let name = &universe().repositories[repository];
        let reference = Reference::Tag(universe().tags[tag].clone());
        match self.ask(|| store.manifest(name, &reference))? {
            Ok(found) => Ok(universe().image_of(found.digest.as_str().as_bytes())),
            Err(StoreError::ManifestUnknown | StoreError::RepositoryUnknown) => Ok(None),
            Err(error) => self.unexpected("GET of a tag", &error),
        }
    }

    fn tag_by_digest(
        &self,
        store: &Store,
        (repository, image, tag): (usize, usize, usize),
        pause: Begin,
    ) -> Result<(), Refused> {
        let name = &universe().repositories[repository];
        let digest = &universe().images[image].digest;
        let reference = Reference::Digest(digest.clone());
        let begun = self.oracle.begin_look(repository, image);
        let found = self.ask(|| {
            let asked = self.scheduler.now();
            let found = store.holding_manifest(name, digest, || store.manifest(name, &reference));
            found.map(|_| asked)
        })?;
        match found {
            Ok(asked) => self.oracle.saw_image(&begun, (asked, self.scheduler.now())),
            Err(StoreError::ManifestUnknown | StoreError::RepositoryUnknown) => return Ok(()),
            Err(error) => self.unexpected("HEAD of a manifest", &error),
        }
        self.wait(pause);
        self.put(store, repository, image, &[tag]).map(drop)
    }

    /// Reads an image with its blobs, all of which are there if the image is needed all the time.
    fn pull(&self, store: &Store, repository: usize, tag: usize) -> Result<(), Refused> {
        let Some(image) = self.image_of(store, repository, tag)? else { return Ok(()) };
        for blob in &universe().images[image].blobs {
            let is_needed = || self.oracle.is_needed(repository, image, &self.bucket.objects());
            let was_needed = is_needed();
            if !self.look(store, repository, *blob)? && !self.has_stops && was_needed && is_needed() {
                let (name, image) = (universe().blobs[*blob].0, universe().images[image].name);
                self.scheduler.fail(format!("{name} of {image} is needed, and not served"));
            }
        }
        Ok(())
    }

    fn untag(&self, store: &Store, repository: usize, tag: usize) -> Result<(), Refused> {
        let (name, tag_name) = (&universe().repositories[repository], &universe().tags[tag]);
        let answer = self.ask(|| {
            self.oracle.begin_untag(repository, tag);
            let answer = store.delete_tag(name, tag_name);
            let is_done = matches!(answer, Ok(()) | Err(StoreError::ManifestUnknown));
            self.oracle.end_untag(repository, tag, is_done);
            answer
        })?;
        match answer {
            Ok(()) | Err(StoreError::ManifestUnknown | StoreError::RepositoryUnknown) => Ok(()),
            Err(error) => self.unexpected("DELETE of a tag", &error),
        }
    }

    fn retain(&self, store: &Store, repository: usize, tag: usize, pause: Begin) -> Result<(), Refused> {
        let (name, tag_name) = (&universe().repositories[repository], &universe().tags[tag]);
        let inputs = RetentionInputs { pulls: &NoPulls, is_protected: &|_, _| false };
        let facts = match self.ask(|| store.retention_facts(name, &inputs))? {
            Ok(facts) => facts,
            Err(error) => self.unexpected("facts of retention", &error),
        };
        let judged = facts.tags.into_iter().find(|(facts, _)| facts.tag == *tag_name);
        let Some((judged, link)) = judged else { return Ok(()) };
        self.wait(pause);
        let image = universe().image_of(judged.digest.as_str().as_bytes());
        let removed = self.ask(|| {
            let known = self.oracle.begin_retention(repository, tag);
            let removed = store.remove_judged_tag(name, tag_name, &link);
            let outcome = removed.as_ref().ok().copied();
            if let Some(wrong) = self.oracle.end_retention((repository, tag), (known, image), outcome) {
                self.scheduler.fail(wrong);
            }
            removed
        })?;
        match removed {
            Ok(_) => Ok(()),
            Err(error) => self.unexpected("removal of a tag by retention", &error),
        }
    }

    fn remove(&self, store: &Store, repository: usize, image: usize) -> Result<(), Refused> {
        let (name, digest) = (&universe().repositories[repository], &universe().images[image].digest);
        let answer = self.ask(|| {
            self.oracle.begin_removal(repository, image, self.scheduler.now());
            let answer = store.delete_manifest(name, digest);
            self.oracle.end_removal(repository, image, self.scheduler.now());
            answer
        })?;
        match answer {
            Ok(_) | Err(StoreError::ManifestUnknown | StoreError::RepositoryUnknown) => Ok(()),
            Err(error) => self.unexpected("DELETE of a manifest", &error),
        }
    }
}

/// Returns true if the answer is 503: the client sends the request again.
pub(super) fn is_refused_for_now(error: &StoreError) -> bool {
    match error {
        StoreError::Unvouched => true,
        StoreError::Storage(error) => error.is_temporary(),
        _ => false,
    }
}
