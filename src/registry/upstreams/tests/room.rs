//! Prefetch on a storage that has too little room, or does not tell its room.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use bytes::Bytes;
use quinistry_oci::media_type;
use quinistry_store::{Space, StorageError, Store};

use super::prefetch::{APP, INTERVAL};
use super::scripted::Scripted;
use super::{Mirror, hub_settings, image};
use crate::Settings;
use crate::tests::in_memory::Roomy;
use crate::upstreams::{PrefetchRule, UpstreamSettings};

/// Answer to the question for the room of the storage.
#[derive(Clone, Copy, Debug)]
enum Room {
    Scarce,
    Unknown,
}

impl Room {
    fn space(self) -> Result<Space, StorageError> {
        match self {
            Self::Scarce => Ok(Space { free_bytes: Some(0), total_bytes: Some(1 << 20), ..Space::default() }),
            Self::Unknown => Err(StorageError::Io {
                what: "read the free room of",
                key: "/srv/registry".into(),
                source: io::Error::from_raw_os_error(5),
            }),
        }
    }
}

/// Returns a registry that fetches one tag in advance, and the threads that ask for the room.
fn mirror(room: Room) -> (Mirror, Arc<Mutex<Vec<ThreadId>>>) {
    let rule =
        PrefetchRule { repository: APP.parse().unwrap(), tags: vec!["latest".into()], interval: INTERVAL };
    let settings = UpstreamSettings { prefetch: vec![rule], ..hub_settings() };
    let asked_on = Arc::<Mutex<Vec<ThreadId>>>::default();
    let noted = asked_on.clone();
    let storage = Roomy::new(move || {
        noted.lock().unwrap().push(std::thread::current().id());
        room.space()
    });
    let store = Store::open(storage, false).unwrap();
    let mirror = Mirror::on(store, settings, Settings::default(), Scripted::new());
    for blob in ["layer", "{}"] {
        mirror.upstream.add_blob(APP, &Bytes::from_static(blob.as_bytes()));
    }
    mirror.upstream.tag(APP, "latest", &image(b"layer"), media_type::OCI_MANIFEST);
    (mirror, asked_on)
}

#[tokio::test]
async fn a_tag_is_fetched_although_the_storage_does_not_tell_its_room() {
    let (mirror, _) = mirror(Room::Unknown);
    let result = mirror.rounds().await;
    assert_eq!((result.tags, result.failed, result.is_interrupted), (1, 0, false));
}

#[tokio::test]
async fn too_little_room_ends_a_round_and_no_thread_of_the_event_loop_asks_for_it() {
    let (mirror, asked_on) = mirror(Room::Scarce);
    let result = mirror.rounds().await;
    assert_eq!((result.tags, result.failed, result.is_interrupted), (0, 0, true));
    let asked_on = asked_on.lock().unwrap();
    // The event loop of this test runs on its own thread.
    assert!(!asked_on.is_empty() && !asked_on.contains(&std::thread::current().id()));
}
