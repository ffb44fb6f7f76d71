//! Uploads in parts that two writers continue: an object has the bytes of the parts that the request for its end names.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::azurite::Azurite;
use super::gateway::Gateway;
use super::{RUNTIME, governed};
use crate::testing::Mem;
use crate::{Condition, Multipart, ObjectErrorKind, Objects};

/// Length of a part that is not the last, in bytes.
const PART_BYTES: usize = 5 << 20;

async fn read(objects: &dyn Objects, key: &str) -> Option<Vec<u8>> {
    let object = match objects.get(key, None, None).await {
        Err(error) if error.kind == ObjectErrorKind::NotFound => return None,
        object => object.unwrap(),
    };
    let chunks: Vec<Bytes> = object.body.try_collect().await.unwrap();
    Some(chunks.concat())
}

/// Runs a check on each store.
fn on_each_store(check: &impl AsyncFn(&dyn Objects)) {
    RUNTIME.block_on(check(&*governed(Arc::new(Mem::default()))));
    if let Some(gateway) = Gateway::start() {
        RUNTIME.block_on(check(&*governed(Arc::new(gateway.bucket()))));
    }
    if let Some(azurite) = Azurite::start() {
        RUNTIME.block_on(check(&*governed(Arc::new(azurite.container("")))));
    }
}

#[test]
fn a_part_that_another_writer_has_sent_again_is_not_taken_for_the_first() {
    on_each_store(&async |objects: &dyn Objects| {
        let id = objects.create_multipart("k").await.unwrap();
        let upload = Multipart { key: "k", id: &id };
        let first = objects.put_part(upload, 1, vec![1; PART_BYTES].into()).await.unwrap();
        let mine = objects.put_part(upload, 2, "mine".into()).await.unwrap();
        let theirs = objects.put_part(upload, 2, "late".into()).await.unwrap();
        assert_ne!(mine.tag, theirs.tag);
        let completed = objects.complete(upload, &[first, mine], Condition::Always).await;
        let found = read(objects, "k").await;
        match completed {
            Ok(_) => assert!(found.unwrap().ends_with(b"mine")),
            Err(error) => assert_eq!((error.kind, found), (ObjectErrorKind::NotFound, None)),
        }
    });
}

#[test]
fn an_upload_that_has_ended_is_not_ended_again_with_other_parts() {
    on_each_store(&async |objects: &dyn Objects| {
        let id = objects.create_multipart("k").await.unwrap();
        let upload = Multipart { key: "k", id: &id };
        let first = objects.put_part(upload, 1, vec![1; PART_BYTES].into()).await.unwrap();
        let mine = objects.put_part(upload, 2, "mine".into()).await.unwrap();
        objects.complete(upload, &[first.clone(), mine], Condition::Always).await.unwrap();
        let late = match objects.put_part(upload, 2, "late".into()).await {
            Ok(late) => late,
            Err(error) => return assert_eq!(error.kind, ObjectErrorKind::NotFound),
        };
        let again = objects.complete(upload, &[first, late], Condition::Always).await.unwrap_err();
        assert_eq!(again.kind, ObjectErrorKind::NotFound);
        assert!(read(objects, "k").await.unwrap().ends_with(b"mine"));
    });
}

#[test]
fn an_upload_that_has_ended_with_other_parts_tells_so() {
    on_each_store(&async |objects: &dyn Objects| {
        let id = objects.create_multipart("k").await.unwrap();
        let upload = Multipart { key: "k", id: &id };
        let mut parts = Vec::new();
        for (number, bytes) in [(1, vec![1; PART_BYTES]), (2, vec![2; 3])] {
            parts.push(objects.put_part(upload, number, bytes.into()).await.unwrap());
        }
        // The last part is still on its way when another writer ends the upload.
        let late = objects.put_part(upload, 2, "abc".into()).await.unwrap();
        let theirs = [parts[0].clone(), late];
        objects.complete(upload, &theirs, Condition::Always).await.unwrap();
        let lost = objects.complete(upload, &parts, Condition::Always).await;
        assert!(read(objects, "k").await.unwrap().ends_with(b"abc"), "{lost:?}");
        match lost {
            // versitygw answers with the tag of the parts that it was told.
            Ok(put) => assert_ne!(put.version.unwrap(), objects.head("k").await.unwrap().version),
            Err(error) => assert_eq!(error.kind, ObjectErrorKind::NotFound),
        }
    });
}
