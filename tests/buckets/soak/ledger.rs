//! Acknowledgements of the registry.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use crate::client::Client;
use crate::support::images::Image;

/// Repository and tag.
type Name = (String, String);

/// Acknowledgements of all workers. Each tag belongs to one worker, and each image to one tag.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Mutex<BTreeMap<Name, Entry>>,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Entry {
    image: Image,
    state: State,
}

/// State of a tag, as its worker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A push is on its way, or was not answered.
    Uncertain,
    /// The push was acknowledged.
    Pushed,
    /// The push was acknowledged, and retention removes the tag.
    Passing,
    /// A removal is on its way, or was not answered.
    Leaving,
    /// The removal was acknowledged.
    Deleted,
}

/// Numbers of what was done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Pushes that stay.
    pub(super) pushed: usize,
    /// Pushes whose tags retention removes.
    pub(super) passing: usize,
    pub(super) deleted: usize,
    /// Pulls that were whole.
    pub(super) pulled: usize,
    /// Manifests that were brought after a wait.
    pub(super) awaited: usize,
    /// Manifests that came too late for what they need, and were refused.
    late: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pushed, passing, deleted, pulled, awaited, late } = self;
        write!(
            f,
            "acknowledged pushes {pushed} and {passing} passing ones ({awaited} after a wait), deletes {deleted}, whole \
             pulls {pulled}, late manifests {late}; lost: 0"
        )
    }
}

impl Ledger {
    /// Notes the state of a tag.
    pub(super) fn note(&self, repository: &str, tag: &str, image: &Image, state: State) {
        let mut counts = self.counts.lock().unwrap();
        match state {
            State::Pushed => counts.pushed += 1,
            State::Passing => counts.passing += 1,
            State::Deleted => counts.deleted += 1,
            State::Uncertain | State::Leaving => {}
        }
        let name = (repository.to_owned(), tag.to_owned());
        self.entries.lock().unwrap().insert(name, Entry { image: image.clone(), state });
    }

    /// Notes that a manifest was accepted some time after its parts were found.
    pub(super) fn note_awaited(&self) {
        self.counts.lock().unwrap().awaited += 1;
    }

    /// Notes that a manifest came too late for parts that were found.
    pub(super) fn note_late(&self) {
        self.counts.lock().unwrap().late += 1;
    }

    /// Notes that a pull was whole.
    pub(super) fn note_pull(&self) {
        self.counts.lock().unwrap().pulled += 1;
    }

    /// Returns an acknowledged image of any worker.
    pub(super) fn any(&self, random: usize) -> Option<(String, String, Image)> {
        self.choose(random, |_, entry| entry.state == State::Pushed)
    }

    /// Returns an image of a repository whose removal was acknowledged, or that retention removes: its parts are
    /// garbage now or soon, unless other images need them.
    pub(super) fn removed(&self, repository: &str, random: usize) -> Option<Image> {
        let is_removed = |name: &Name, entry: &Entry| {
            name.0 == repository && matches!(entry.state, State::Deleted | State::Passing)
        };
        self.choose(random, is_removed).map(|(_, _, image)| image)
    }

    fn choose(
        &self,
        random: usize,
        is_wanted: impl Fn(&Name, &Entry) -> bool,
    ) -> Option<(String, String, Image)> {
        let entries = self.entries.lock().unwrap();
        let wanted: Vec<_> = entries.iter().filter(|(name, entry)| is_wanted(name, entry)).collect();
        let ((repository, tag), entry) = wanted.get(random % wanted.len().max(1))?;
        Some((repository.clone(), tag.clone(), entry.image.clone()))
    }

    /// Returns true if the tag is acknowledged and nothing is about to remove it.
    pub(super) fn is_pushed(&self, repository: &str, tag: &str) -> bool {
        let name = (repository.to_owned(), tag.to_owned());
        self.entries.lock().unwrap().get(&name).is_some_and(|entry| entry.state == State::Pushed)
    }

    /// Compares a registry at rest with all acknowledgements, and returns the numbers of what was done.
    pub(super) fn check(&self, client: impl Fn(&str) -> Client) -> Counts {
        let entries = self.entries.lock().unwrap();
        let mut lost = Vec::new();
        let mut tags: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ((repository, tag), entry) in entries.iter() {
            let client = client(repository);
            // A bucket does not know a repository whose last image retention has removed.
            let is_known = || client.ask("GET", "tags/list", &[], b"").status == 200;
            let listed = tags
                .entry(repository)
                .or_insert_with(|| if is_known() { client.tags(1000) } else { Vec::new() });
            let is_listed = listed.contains(tag);
            let status = client.head(&format!("manifests/{tag}")).status;
            if is_listed != (status == 200) {
                lost.push(format!("{repository}:{tag} answers {status}, listed: {is_listed}"));
            }
            match entry.state {
                State::Pushed if status != 200 => lost.push(format!("{repository}:{tag} is lost")),
                State::Passing if status != 404 => {
                    lost.push(format!("{repository}:{tag} passes retention: {status}"));
                }
                State::Deleted if status != 404 => lost.push(format!("{repository}:{tag} is back: {status}")),
                // Whole, whether acknowledged or not.
                _ if status == 200 => client.assert_image(tag, &entry.image),
                _ => {}
            }
        }
        assert!(lost.is_empty(), "{} acknowledgements are lost:\n{}", lost.len(), lost.join("\n"));
        *self.counts.lock().unwrap()
    }
}
