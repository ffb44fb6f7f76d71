//! Faults that repetitions hide, and those that they do not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use quinistry_store::{Key, ObservedStorage, ReadOnlyStorage, Storage as _, StorageAction, StorageObserver};

use super::{HASTY, RUNTIME, bucket};
use crate::testing::{Fault, FaultPlan, Faulty, Mem, RequestKind};
use crate::{Condition, Governed, Multipart, ObjectErrorKind, Objects};

fn faulty() -> (Arc<Faulty<Mem>>, Governed) {
    let faulty = Arc::new(Faulty::new(Mem::default(), FaultPlan::default()));
    (faulty.clone(), Governed::new(faulty, HASTY))
}

async fn read(objects: &dyn Objects, key: &str) -> Bytes {
    let object = objects.get(key, None, None).await.unwrap();
    let chunks: Vec<Bytes> = object.body.try_collect().await.unwrap();
    chunks.concat().into()
}

#[test]
fn row_222_a_creation_whose_answer_was_lost_is_its_own_success() {
    let (faulty, objects) = faulty();
    RUNTIME.block_on(async {
        let lost = [Fault::ErrorAfterSuccess, Fault::ConflictAfterSuccess, Fault::UnavailableAfterSuccess];
        for (i, fault) in lost.into_iter().enumerate() {
            let key = format!("k/{i}");
            faulty.plan().spoil(RequestKind::Put, &key, fault, 1);
            objects.put(&key, "mine".into(), Condition::Absent).await.unwrap();
            let again = objects.put(&key, "mine".into(), Condition::Absent).await.unwrap_err();
            assert_eq!(again.kind, ObjectErrorKind::Precondition, "an answer that came is believed");
        }
    });
}

#[test]
fn a_creation_that_another_writer_has_won_is_lost() {
    let (faulty, objects) = faulty();
    RUNTIME.block_on(async {
        objects.put("k", "theirs".into(), Condition::Always).await.unwrap();
        for fault in [Fault::Conflict, Fault::Unavailable] {
            faulty.plan().spoil(RequestKind::Put, "k", fault, 2);
            let lost = objects.put("k", "mine".into(), Condition::Absent).await.unwrap_err();
            assert_eq!(lost.kind, ObjectErrorKind::Precondition);
        }
        assert_eq!(read(&objects, "k").await, "theirs");
    });
}

#[test]
fn row_222_a_removal_whose_answer_was_lost_is_its_own_success() {
    let (faulty, objects) = faulty();
    RUNTIME.block_on(async {
        for fault in [Fault::ErrorAfterSuccess, Fault::UnavailableAfterSuccess] {
            let version = objects.put("k", "x".into(), Condition::Always).await.unwrap().version.unwrap();
            faulty.plan().spoil(RequestKind::Delete, "k", fault, 1);
            objects.delete("k", Condition::Version(&version), None).await.unwrap();
            assert!(faulty.inner().keys().is_empty());
        }
    });
}

#[test]
fn row_222_the_end_of_an_upload_whose_answer_was_lost_is_unknown() {
    let (faulty, objects) = faulty();
    RUNTIME.block_on(async {
        let id = objects.create_multipart("k").await.unwrap();
        let upload = Multipart { key: "k", id: &id };
        let parts = [objects.put_part(upload, 1, "bytes".into()).await.unwrap()];
        for fault in [Fault::ErrorInSuccess, Fault::ErrorAfterSuccess] {
            faulty.plan().spoil(RequestKind::Complete, "k", fault, 1);
        }
        // Another writer may have ended the upload with other parts.
        let unknown = objects.complete(upload, &parts, Condition::Absent).await.unwrap_err();
        assert_eq!(unknown.kind, ObjectErrorKind::Unknown);
        assert_eq!(read(&objects, "k").await, "bytes");
        let again = objects.complete(upload, &parts, Condition::Absent).await.unwrap_err();
        assert_eq!(again.kind, ObjectErrorKind::NotFound);
    });
}

#[test]
fn row_223_a_body_that_is_cut_off_is_continued() {
    let (faulty, objects) = faulty();
    RUNTIME.block_on(async {
        let bytes = Bytes::from((0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
        objects.put("k", bytes.clone().into(), Condition::Always).await.unwrap();
        faulty.plan().spoil(RequestKind::Get, "k", Fault::CutBody, 3);
        assert_eq!(read(&objects, "k").await, bytes);
    });
}

#[test]
fn row_223_a_body_whose_object_was_replaced_is_an_error() {
    let (faulty, objects) = faulty();
    RUNTIME.block_on(async {
        objects.put("k", vec![1; 300_000].into(), Condition::Always).await.unwrap();
        faulty.plan().spoil(RequestKind::Get, "k", Fault::CutBody, 1);
        let object = objects.get("k", None, None).await.unwrap();
        objects.put("k", vec![2; 300_000].into(), Condition::Always).await.unwrap();
        let read: Result<Vec<Bytes>, _> = object.body.try_collect().await;
        assert!(read.unwrap_err().to_string().ends_with("the object was replaced while it was read"));
    });
}

#[test]
fn row_224_a_store_in_trouble_gets_few_repetitions() {
    let (faulty, objects) = faulty();
    RUNTIME.block_on(async {
        faulty.plan().spoil(RequestKind::Head, "k", Fault::Unavailable, usize::MAX);
        for _ in 0..1000 {
            assert_eq!(objects.head("k").await.unwrap_err().kind, ObjectErrorKind::Throttled);
        }
        // A hundred from the full budget, and a tenth of the requests.
        let sent = faulty.log().counts().of(RequestKind::Head);
        assert!((1150..=1210).contains(&sent), "{sent}");
    });
}

/// Observer of calls that needs none of them.
#[derive(Debug)]
struct NoObserver;

impl StorageObserver for NoObserver {
    fn called(&self, _: StorageAction, _: Duration) {}

    fn flushed(&self, _: Duration) {}
}

#[test]
fn a_storage_tells_how_often_its_store_asked_for_fewer_requests() {
    let faulty = Arc::new(Faulty::new(Mem::default(), FaultPlan::default()));
    let storage = ReadOnlyStorage::new(ObservedStorage::new(bucket(faulty.clone()), Arc::new(NoObserver)));
    let key = Key::of_path("k".to_owned()).unwrap();
    assert_eq!((storage.head(&key).unwrap(), storage.throttlings()), (None, 0));
    faulty.plan().spoil(RequestKind::Head, "k", Fault::Unavailable, 2);
    faulty.plan().spoil(RequestKind::Head, "k", Fault::Held(Duration::ZERO), 1);
    assert_eq!((storage.head(&key).unwrap(), storage.throttlings()), (None, 2));
}
