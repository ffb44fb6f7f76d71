//! Manifests that are pushed without some of their parts, by what the store accepts.

use std::time::Duration;

use super::collection::online::{Scene, index_of};
use super::*;
use crate::{AbsentParts, Memory, StoreOptions};

/// Returns stores of one process and of several, with these options.
fn stores(absent_parts: AbsentParts) -> [Store; 2] {
    let options = StoreOptions { absent_parts, coherence: None };
    let scene = Scene::new();
    let lifetime = Duration::from_mins(1);
    [
        Store::open_with(Memory::new(1 << 20), options).unwrap(),
        Store::open_collected(scene.storage.view(), options, scene.clock(), lifetime, |_| {}).unwrap(),
    ]
}

/// Pushes an image whose blobs are there.
fn push_image(store: &Store) -> Bytes {
    push_blob(store, "a", b"{}").unwrap();
    push_blob(store, "a", b"layer").unwrap();
    let image = manifest(b"layer", "image");
    put(store, "a", &image, &[]).unwrap();
    image
}

fn missing(result: Result<Digest, StoreError>) -> Vec<Digest> {
    match result {
        Err(StoreError::Missing(missing)) => missing,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_index_is_accepted_without_its_other_children_but_not_without_all() {
    for store in stores(AbsentParts::OtherChildren) {
        let absent: Vec<Bytes> = (0..100).map(|at| manifest(b"layer", &format!("absent {at}"))).collect();
        let alone = index_of(&absent.iter().collect::<Vec<_>>());
        assert_eq!(missing(put(&store, "a", &alone, &["v1"])).len(), 64);
        let image = push_image(&store);
        // The child that is there is the last one.
        let index = index_of(&absent.iter().chain([&image]).collect::<Vec<_>>());
        put(&store, "a", &index, &["v1"]).unwrap();
        assert_eq!(missing(put(&store, "a", &alone, &["v1"])).len(), 64);
    }
}

#[test]
fn an_image_without_a_layer_is_refused_unless_any_part_may_be_absent() {
    for (absent, is_accepted) in
        [(AbsentParts::Refused, false), (AbsentParts::OtherChildren, false), (AbsentParts::Any, true)]
    {
        for store in stores(absent) {
            push_blob(&store, "a", b"{}").unwrap();
            let pushed = put(&store, "a", &manifest(b"layer", "image"), &["v1"]);
            if is_accepted {
                pushed.unwrap();
            } else {
                assert_eq!(missing(pushed), [Digest::sha256(b"layer")], "{absent:?}");
            }
        }
    }
}

#[test]
fn by_default_an_index_needs_all_of_its_children() {
    for store in stores(AbsentParts::default()) {
        let (image, absent) = (push_image(&store), manifest(b"layer", "absent"));
        let pushed = put(&store, "a", &index_of(&[&image, &absent]), &["v1"]);
        assert_eq!(missing(pushed), [Digest::sha256(&absent)]);
    }
}
