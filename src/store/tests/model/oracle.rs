//! Obligations of the store to its clients at each moment, and the search for a removal that breaks it.
//!
//! The oracle hears of each request of a client at its begin and at its answer. What requests at the same
//! time leave open, it does not demand.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bucket::Objects;
use super::universe::{IMAGES, REPOSITORIES, TAGS, universe};

/// Time after a removal by a client in which another replica may still count on what was removed: it believes
/// for a minute in the links that it has made itself.
const REMOVAL_ECHO: Duration = Duration::from_mins(1);

/// Value of a tag, as far as the clients know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TagValue {
    /// A client has read the answer to its change, and no other change came since.
    Known(Option<usize>),
    /// Changes came at the same time: the link tells which was the last.
    #[default]
    Any,
    /// As `Any`, and a client has removed an image, so that an index may lack a part.
    Loose,
    /// A change has failed, so that it is done in part or not at all.
    Failed,
}

#[derive(Clone, Copy, Debug, Default)]
struct TagFacts {
    value: TagValue,
    in_flight: u32,
    /// Changes came at the same time since the last moment at which none was in flight.
    has_overlap: bool,
    /// One of these changes has ended as `Loose`.
    has_loose: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct ImageFacts {
    is_acknowledged: bool,
    /// A client has removed a child, and the image was not pushed again since.
    lacks_child: bool,
    /// Number of begins and ends of removals by clients.
    removals: u32,
    in_removal: u32,
    /// Time of the last begin or end of a removal.
    removed_at: Duration,
}

/// Promise that keys stay until a time.
#[derive(Clone, Debug)]
struct Hold {
    keys: Vec<Arc<str>>,
    /// Time of the answer that makes the promise.
    told: Duration,
    until: Duration,
    /// Repository and image, if the promise is about an image.
    image: Option<(usize, usize)>,
    reason: String,
}

#[derive(Debug, Default)]
struct Facts {
    images: [[ImageFacts; IMAGES]; REPOSITORIES],
    tags: [[TagFacts; TAGS]; REPOSITORIES],
    holds: Vec<Hold>,
    reported: Option<String>,
}

/// Observer of the clients' requests and of the removals.
#[derive(Debug)]
pub(super) struct Oracle {
    facts: Mutex<Facts>,
    /// Images stay without a tag.
    keeps_untagged: bool,
    /// Time for which an answer to a client holds what it speaks of.
    hold: Duration,
    /// A tag that was deleted may come back: two replicas stop for so long that each of them counts as gone, and go on.
    /// No request to a bucket expires on its own but a deletion, so that a replica which was finishing the change of the
    /// other one can still create the tag.
    tags_may_return: bool,
}

/// Begin of a push, as far as its end must know it.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    repository: usize,
    image: usize,
    tags: Vec<usize>,
    removals: u32,
}

// === impl Facts ===

impl Facts {
    /// Forgets referrers whose subject nothing holds: they may be removed, and need not come back with their
    /// subject.
    fn forget_loose_referrers(&mut self) {
        for (images, tags) in self.images.iter_mut().zip(&self.tags) {
            let targets: Vec<usize> = tags
                .iter()
                .filter_map(|tag| match tag.value {
                    TagValue::Known(target) if tag.in_flight == 0 => target,
                    _ => None,
                })
                .collect();
            let is_held =
                |image: usize| targets.iter().any(|of| universe().with_parents(image).any(|at| at == *of));
            for (facts, image) in images.iter_mut().zip(&universe().images) {
                facts.is_acknowledged &= image.subject.is_none_or(is_held);
            }
        }
    }
}

// === impl Oracle ===

impl Oracle {
    pub(super) fn new(keeps_untagged: bool, hold: Duration, tags_may_return: bool) -> Self {
        Self { facts: Mutex::default(), keeps_untagged, hold, tags_may_return }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request began or was answered.
    fn note_change(&self) {
        if !self.keeps_untagged {
            self.facts().forget_loose_referrers();
        }
    }

    /// Returns a key in the words of the universe.
    #[expect(clippy::unused_self, reason = "callers have an oracle and no universe")]
    pub(super) fn readable(&self, key: &str) -> String {
        universe().readable(key)
    }

    /// Notes an image that was pushed before the schedule.
    pub(super) fn pushed_before(&self, repository: usize, image: usize, tag: Option<usize>) {
        let mut facts = self.facts();
        facts.images[repository][image].is_acknowledged = true;
        if let Some(tag) = tag {
            facts.tags[repository][tag].value = TagValue::Known(Some(image));
        }
    }

    /// Notes that a client was told, by the answer to a request that it sent at `asked`, that a blob is
    /// there.
    pub(super) fn saw_blob(&self, repository: usize, blob: usize, (asked, told): (Duration, Duration)) {
        let keys = universe().blob_keys(repository, blob);
        let reason = format!(
            "a client was told at {:.3} that {} has {}",
            asked.as_secs_f64(),
            universe().repositories[repository],
            universe().blobs[blob].0
        );
        self.facts().holds.push(Hold { keys, told, until: asked + self.hold, image: None, reason });
    }

    /// Notes the begin of a request for an image by its digest.
    pub(super) fn begin_look(&self, repository: usize, image: usize) -> Begun {
        Begun {
            repository,
            image,
            tags: Vec::new(),
            removals: self.facts().images[repository][image].removals,
        }
    }

    /// Notes that a client was told that an image is there, unless a client removes it at the same time.
    pub(super) fn saw_image(&self, begun: &Begun, (asked, told): (Duration, Duration)) {
        let Begun { repository, image, removals, .. } = *begun;
        let mut facts = self.facts();
        let known = &facts.images[repository][image];
        if known.removals != removals || known.in_removal > 0 {
            return;
        }
        // A child that a client has removed keeps nothing.
        let keys = if known.lacks_child {
            universe().own_keys(repository, image)
        } else {
            universe().keys(repository, image)
        };
        let keys = keys.to_vec();
        let reason = format!(
            "a client was told at {:.3} that {} has {}",
            asked.as_secs_f64(),
            universe().repositories[repository],
            universe().images[image].name
        );
        let image = Some((repository, image));
        facts.holds.push(Hold { keys, told, until: asked + self.hold, image, reason });
    }

    /// Notes the begin of a push of a manifest.
    pub(super) fn begin_push(
        &self,
        (repository, image): (usize, usize),
        tags: &[usize],
        now: Duration,
    ) -> Begun {
        let mut facts = self.facts();
        for tag in tags {
            facts.tags[repository][*tag].begin();
        }
        let is_removal_recent = universe().images[image].children.iter().any(|child| {
            let known = &facts.images[repository][*child];
            known.removals > 0 && now < known.removed_at + REMOVAL_ECHO
        });
        drop(facts);
        self.note_change();
        let facts = self.facts();
        // No number of removals is the greatest one.
        let removals = if is_removal_recent { u32::MAX } else { facts.images[repository][image].removals };
        Begun { repository, image, tags: tags.to_vec(), removals }
    }

    /// Notes the answer to a push of a manifest. Returns a description of what is missing of an acknowledged
    /// one.
    pub(super) fn end_push(&self, begun: &Begun, is_acknowledged: bool, objects: &Objects) -> Option<String> {
        let Begun { repository, image, ref tags, removals } = *begun;
        let mut facts = self.facts();
        let is_alone = facts.images[repository][image].removals == removals
            && facts.images[repository][image].in_removal == 0;
        for tag in tags {
            let value = match (is_acknowledged, is_alone) {
                (true, true) => TagValue::Known(Some(image)),
                (true, false) => TagValue::Loose,
                (false, _) => TagValue::Failed,
            };
            facts.tags[repository][*tag].end(value);
        }
        let known = &mut facts.images[repository][image];
        known.is_acknowledged |= is_acknowledged && is_alone;
        known.lacks_child &= !(is_acknowledged && is_alone);
        drop(facts);
        self.note_change();
        if !is_acknowledged || !is_alone {
            return None;
        }
        let missing = universe().keys(repository, image).iter().find(|key| !objects.contains_key(*key));
        missing.map(|key| {
            format!(
                "the push of {} to {} was acknowledged without {}",
                universe().images[image].name,
                universe().repositories[repository],
                universe().readable(key)
            )
        })
    }

    /// Notes the begin of a removal of a tag.
    pub(super) fn begin_untag(&self, repository: usize, tag: usize) {
        self.facts().tags[repository][tag].begin();
        self.note_change();
    }

    /// Notes the answer to a removal of a tag.
    pub(super) fn end_untag(&self, repository: usize, tag: usize, is_done: bool) {
        let value = if is_done { TagValue::Known(None) } else { TagValue::Failed };
        self.facts().tags[repository][tag].end(value);
        self.note_change();
    }

    /// Notes the begin of the removal of a tag that retention has judged. Returns the image that the tag is known to
    /// refer to.
    pub(super) fn begin_retention(&self, repository: usize, tag: usize) -> Option<usize> {
        let known = match self.facts().tags[repository][tag].value {
            TagValue::Known(image) => image,
            _ => None,
        };
        self.begin_untag(repository, tag);
        known
    }

    /// Notes the outcome of such a removal: true if the tag was removed, false if it is another one by now or the outcome
    /// is unknown, `None` after an error. Returns a description of a removal of something else than was judged.
    pub(super) fn end_retention(
        &self,
        (repository, tag): (usize, usize),
        (known, judged): (Option<usize>, Option<usize>),
        outcome: Option<bool>,
    ) -> Option<String> {
        let is_alone = {
            let facts = &mut self.facts().tags[repository][tag];
            let value = match (outcome, facts.value) {
                (Some(true), _) => TagValue::Known(None),
                (Some(false), TagValue::Known(_)) => TagValue::Any,
                // What is owed for the tag is no more than before.
                (Some(false), before) => before,
                (None, _) => TagValue::Failed,
            };
            facts.end(value);
            facts.value == value
        };
        self.note_change();
        let is_wrong = outcome == Some(true) && is_alone && known.is_some() && known != judged;
        is_wrong.then(|| {
            let key = universe().tag_link(repository, tag);
            format!("retention removed {}, which was pushed again since", universe().readable(&key))
        })
    }

    /// Notes the begin of a removal of an image by a client: nothing is owed for the image any more.
    pub(super) fn begin_removal(&self, repository: usize, image: usize, now: Duration) {
        let mut facts = self.facts();
        let gone: Vec<usize> = universe().with_parents(image).collect();
        for of in &gone {
            let known = &mut facts.images[repository][*of];
            known.is_acknowledged = false;
            known.lacks_child |= *of != image;
            known.removals += 1;
            known.in_removal += 1;
            known.removed_at = now;
        }
        facts.holds.retain(|hold| hold.image.is_none_or(|(at, of)| at != repository || !gone.contains(&of)));
        facts.tags[repository].iter_mut().for_each(TagFacts::begin);
        drop(facts);
        self.note_change();
    }

    /// Notes the answer to a removal of an image by a client.
    pub(super) fn end_removal(&self, repository: usize, image: usize, now: Duration) {
        let mut facts = self.facts();
        for image in universe().with_parents(image) {
            let known = &mut facts.images[repository][image];
            known.removals += 1;
            known.in_removal -= 1;
            known.removed_at = now;
        }
        for facts in &mut facts.tags[repository] {
            let value = match facts.value {
                // An image that lost a part by the wish of a client.
                TagValue::Known(Some(of)) if universe().with_parents(image).any(|gone| gone == of) => {
                    TagValue::Loose
                }
                TagValue::Any => TagValue::Loose,
                value => value,
            };
            facts.end(value);
        }
        drop(facts);
        self.note_change();
    }

    /// Returns the repositories and numbers of the images that must be whole.
    fn needed(&self, objects: &Objects) -> Vec<(usize, usize)> {
        let facts = self.facts();
        let mut needed = Vec::new();
        for repository in 0..REPOSITORIES {
            let mut here = [false; IMAGES];
            for (tag, TagFacts { value, in_flight, .. }) in facts.tags[repository].iter().enumerate() {
                let target = match value {
                    _ if *in_flight > 0 => None,
                    TagValue::Known(target) => *target,
                    TagValue::Any => target_of(objects, repository, tag),
                    TagValue::Loose | TagValue::Failed => None,
                };
                if let Some(image) = target {
                    here[image] = true;
                }
            }
            for (is_needed, known) in here.iter_mut().zip(&facts.images[repository]) {
                *is_needed |= self.keeps_untagged && known.is_acknowledged;
            }
            // An image of a tag has its children among its keys. Referrers stay with their subjects.
            for (image, known) in universe().images.iter().enumerate() {
                let is_there = |subject: usize| {
                    here[subject]
                        || (0..IMAGES).any(|of| here[of] && universe().images[of].children.contains(&subject))
                };
                here[image] |=
                    facts.images[repository][image].is_acknowledged && known.subject.is_some_and(is_there);
            }
            needed.extend((0..IMAGES).filter(|image| here[*image]).map(|image| (repository, image)));
        }
        needed
    }

    /// Returns true if an image must be whole.
    pub(super) fn is_needed(&self, repository: usize, image: usize, objects: &Objects) -> bool {
        self.needed(objects).contains(&(repository, image))
    }

    /// Returns a description of what the removal of a key breaks.
    pub(super) fn loss(&self, key: &str, now: Duration, objects: &Objects) -> Option<String> {
        let of_image = self.needed(objects).into_iter().find(|(repository, image)| {
            universe().keys(*repository, *image).iter().any(|needed| &**needed == key)
        });
        if let Some((repository, image)) = of_image {
            return Some(format!(
                "{} was removed, which {} of {} needs",
                universe().readable(key),
                universe().images[image].name,
                universe().repositories[repository]
            ));
        }
        let mut facts = self.facts();
        let is_broken = |hold: &&Hold| hold.until >= now && hold.keys.iter().any(|needed| &**needed == key);
        if let Some(broken) = facts.holds.iter().find(is_broken) {
            return Some(format!("{} was removed, though {}", universe().readable(key), broken.reason));
        }
        // A manifest that nothing held is gone, and does not come back with its subject.
        for (repository, image) in (0..REPOSITORIES).flat_map(|at| (0..IMAGES).map(move |image| (at, image)))
        {
            if *universe().revision(repository, image) == *key {
                universe()
                    .with_parents(image)
                    .for_each(|of| facts.images[repository][of].is_acknowledged = false);
            }
        }
        None
    }

    /// Keeps the description of a loss until the actor can end the schedule.
    pub(super) fn report(&self, loss: &str) {
        self.facts().reported.get_or_insert_with(|| loss.to_owned());
    }

    /// Returns the description of a loss.
    pub(super) fn reported(&self) -> Option<String> {
        self.facts().reported.clone()
    }

    /// Returns true if a promise on a blob that was made before a request began holds until now.
    pub(super) fn is_held(&self, repository: usize, blob: usize, begun: Duration, now: Duration) -> bool {
        let link = &universe().blob_keys(repository, blob)[0];
        let is_promise = |hold: &Hold| hold.told <= begun && hold.until >= now && hold.keys.contains(link);
        self.facts().holds.iter().any(is_promise)
    }

    /// Returns a description of what is missing at rest, when no request is in flight.
    pub(super) fn missing_at_rest(&self, objects: &Objects) -> Option<String> {
        for (repository, image) in self.needed(objects) {
            let missing = universe().keys(repository, image).iter().find(|key| !objects.contains_key(*key));
            if let Some(key) = missing {
                let (image, repository) =
                    (universe().images[image].name, &universe().repositories[repository]);
                return Some(format!("{image} of {repository} lacks {} at rest", universe().readable(key)));
            }
        }
        let facts = self.facts();
        for repository in 0..REPOSITORIES {
            for tag in 0..TAGS {
                let (value, found) = (facts.tags[repository][tag].value, target_of(objects, repository, tag));
                let key = universe().tag_link(repository, tag);
                if let TagValue::Known(wanted) = value
                    && found != wanted
                    && !(self.tags_may_return && wanted.is_none())
                {
                    return Some(format!(
                        "{} refers to {found:?} and not to {wanted:?}",
                        universe().readable(&key)
                    ));
                }
                let lacks = |image: &usize| {
                    let mut own = universe().own_keys(repository, *image).iter();
                    own.find(|key| !objects.contains_key(*key))
                };
                if value != TagValue::Failed
                    && let Some(missing) = found.as_ref().and_then(lacks)
                {
                    let [tag, missing] = [&*key, &**missing].map(|key| universe().readable(key));
                    return Some(format!("{tag} refers to an image that lacks {missing} at rest"));
                }
            }
        }
        None
    }
}

/// Returns the image to which a tag refers.
pub(super) fn target_of(objects: &Objects, repository: usize, tag: usize) -> Option<usize> {
    universe().image_of(&objects.get(&universe().tag_link(repository, tag))?.bytes)
}

// === impl TagFacts ===

impl TagFacts {
    fn begin(&mut self) {
        self.has_overlap = self.in_flight > 0;
        self.has_loose &= self.has_overlap;
        self.in_flight += 1;
    }

    /// Notes the answer to a change. The value is known if no other change came at the same time.
    fn end(&mut self, value: TagValue) {
        self.in_flight -= 1;
        self.has_loose |= value == TagValue::Loose;
        self.value = match value {
            TagValue::Failed => TagValue::Failed,
            value if !self.has_overlap => value,
            _ if self.has_loose => TagValue::Loose,
            _ => TagValue::Any,
        };
    }
}
