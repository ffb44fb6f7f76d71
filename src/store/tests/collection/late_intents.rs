//! Intent of a replica that stopped for good, which another one carries out while a collector removes the manifest.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use quinistry_oci::{Digest, Tag};

use super::super::shared::storage::SharedMemory;
use super::super::{manifest, name, push_blob, put};
use super::online::{GRACE, KeepTagged, NAME, Scene, has_bytes, has_link, has_revision, options};
use crate::layout::{RepositoryKeys, intents};
use crate::{Cycle, Safeguard, Storage as _, Store};

/// Tags of the push that is cut off.
const TAGS: [&str; 2] = ["v1", "v2"];

/// Step of a sweep right before which another replica carries out the intent. The first one is early enough for the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Doom,
    Decision,
    Removal,
}

const MOMENTS: [Moment; 3] = [Moment::Doom, Moment::Decision, Moment::Removal];

/// State of the tags when the sweep is over.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// They lead to a whole image.
    Whole,
    /// No tag was written.
    Untagged,
    /// A tag leads to content that is gone.
    Lost,
}

fn call_at(moment: Moment, view: &SharedMemory, hook: impl FnOnce() + Send + 'static) {
    match moment {
        Moment::Doom => view.before_create("/doom/r-0", hook),
        Moment::Decision => view.before_create("/doomed/r-0", hook),
        Moment::Removal => view.before_removal(hook),
    }
}

fn has_intents(scene: &Scene) -> bool {
    scene.storage.bytes().exists(&intents()).unwrap()
}

/// Pushes tags by a replica that stops for good right after it has written the intent.
fn stop_in_push(scene: &Scene) -> Digest {
    let view = scene.storage.view();
    let stopping = scene.replica_on(view.clone(), |_| {});
    push_blob(&stopping, NAME, b"{}").unwrap();
    push_blob(&stopping, NAME, b"layer").unwrap();
    view.after_write("/intents/", || panic!("the replica stops here"));
    let image = manifest(b"layer", "late");
    let pushed = catch_unwind(AssertUnwindSafe(|| put(&stopping, NAME, &image, &TAGS)));
    let digest = Digest::sha256(&image);
    assert!(pushed.is_err() && has_intents(scene) && has_revision(&stopping, &digest));
    digest
}

fn outcome(store: &Store, digest: &Digest) -> Outcome {
    let repository = name(NAME);
    let has_tag =
        |tag: &Tag| store.storage().head(&RepositoryKeys(&repository).tag_link(tag)).unwrap().is_some();
    let layer_is_there = has_link(store, &Digest::sha256(b"layer")) && has_bytes(store, b"layer");
    match TAGS.map(|tag| has_tag(&tag.parse().unwrap())) {
        [false, false] => Outcome::Untagged,
        [true, true] if has_revision(store, digest) && layer_is_there => Outcome::Whole,
        _ => Outcome::Lost,
    }
}

/// Has a replica carry out an intent while another one sweeps, by a store without a safeguard if one is named.
fn replayed_at(moment: Moment, removed: Option<Safeguard>) -> Outcome {
    let scene = Scene::new();
    let view = scene.storage.view();
    let (collector, mut replaying) = (scene.replica_on(view.clone(), |_| {}), scene.replica());
    if let Some(removed) = removed {
        replaying = replaying.without_safeguard(removed);
    }
    let digest = stop_in_push(&scene);
    assert_eq!(scene.cycle(&collector).revisions.condemned, 1);
    scene.advance(GRACE);
    let lead = scene.lead(&collector);
    let (replayed, is_replayed) = mpsc::channel();
    call_at(moment, &view, move || {
        replaying.join().unwrap();
        replayed.send(()).unwrap();
    });
    let swept = collector.collect_online(&options(), &KeepTagged, &lead).unwrap();
    assert!(matches!(swept, Cycle::Done(_)), "{swept:?}");
    is_replayed.try_recv().expect("the sweep has the moment");
    assert!(!has_intents(&scene));
    outcome(&collector, &digest)
}

#[test]
fn an_intent_that_is_carried_out_during_a_sweep_leaves_no_tag_without_its_image() {
    let [early, late @ ..] = MOMENTS;
    assert_eq!(replayed_at(early, None), Outcome::Whole, "{early:?}");
    for moment in late {
        assert_eq!(replayed_at(moment, None), Outcome::Untagged, "{moment:?}");
    }
}

/// Returns true if a tag loses its image at each moment, by a store without a safeguard.
pub(in crate::tests) fn loses_an_image_without(removed: Safeguard) -> bool {
    MOMENTS.into_iter().all(|moment| replayed_at(moment, Some(removed)) == Outcome::Lost)
}

#[test]
fn without_the_touch_of_an_intent_a_tag_loses_its_image() {
    assert!(loses_an_image_without(Safeguard::TagTouch));
}
