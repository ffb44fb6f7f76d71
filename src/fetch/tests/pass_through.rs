//! Blobs that are not stored.

use futures_util::FutureExt as _;
use quinistry_oci::Digest;

use super::scripted::{Ending, Script, Scripted, head};
use super::{LENGTH, blob, error, fetch, open, read_all, read_some, request, settled, stores};
use crate::{FetchError, FetchOptions, Fetches, Request};

#[tokio::test]
async fn a_blob_that_is_too_long_is_passed_through_and_not_stored() {
    let bytes = blob(LENGTH);
    let store = stores::in_memory();
    let used = store.used_bytes();
    let options = FetchOptions { max_stored_bytes: Some(LENGTH as u64 - 1), ..stores::options() };
    // The length is known before the first request, or by its answer.
    for (length, answers) in [(Some(LENGTH as u64), 1), (None, 2)] {
        let source = Scripted::new("upstream", (0..answers).map(|_| Script::whole(&bytes)));
        let fetches = Fetches::new(Some(store.store.clone()), options.clone());
        let request = Request { length, ..request(&source, &bytes) };
        assert_eq!(fetch(&fetches, &request).await, bytes);
        settled(&fetches).await;
        assert_eq!(source.asked().len(), answers);
        assert_eq!(store.blob("cache/a", &request.digest).await, None);
        assert_eq!(store.used_bytes(), used);
    }
}

#[tokio::test]
async fn a_blob_that_would_fill_the_store_is_passed_through() {
    let bytes = blob(LENGTH);
    let store = stores::with_capacity(LENGTH as u64 + 1000);
    let source = Scripted::new("upstream", [Script::whole(&bytes), Script::whole(&bytes)]);
    let (fetches, request) = (store.fetches(), request(&source, &bytes));
    assert_eq!(fetch(&fetches, &request).await, bytes);
    settled(&fetches).await;
    assert_eq!(store.blob("cache/a", &request.digest).await, None);
}

#[tokio::test]
async fn blobs_that_come_at_once_do_not_count_on_the_same_room() {
    let (one, other) = (blob(LENGTH), blob(LENGTH - 1));
    let store = stores::with_capacity(LENGTH as u64 * 3 / 2);
    let (script, feed) = Script::fed(&one);
    let held = Scripted::new("upstream", [script]);
    let plain = Scripted::new("upstream", [Script::whole(&other), Script::whole(&other)]);
    let fetches = store.fetches();
    let begun = open(&fetches, &request(&held, &one)).await;
    assert_eq!(fetch(&fetches, &request(&plain, &other)).await, other);
    assert_eq!(plain.asked(), [0, 0]);
    feed.send(Ok(one.clone())).unwrap();
    drop(feed);
    assert_eq!(read_all(begun.read(0..u64::MAX)).await.0, one);
    settled(&fetches).await;
    for (bytes, is_stored) in [(&one, true), (&other, false)] {
        assert_eq!(store.blob("cache/a", &Digest::sha256(bytes)).await.is_some(), is_stored);
    }
}

#[tokio::test]
async fn where_the_store_is_full_in_the_middle_clients_get_the_rest() {
    let bytes = blob(LENGTH);
    let store = stores::with_capacity(2 * LENGTH as u64);
    let (script, feed) = Script::fed(&bytes);
    let source = Scripted::new("upstream", [script]);
    let (fetches, request) = (store.fetches(), request(&source, &bytes));
    let mut reader = open(&fetches, &request).await.read(0..u64::MAX);
    let range = open(&fetches, &request).await.read(500_000..u64::MAX);
    feed.send(Ok(bytes.slice(..300_000))).unwrap();
    assert_eq!(read_some(&mut reader, 300_000).await, bytes[..300_000]);
    // Pushes take the rest of the room.
    let other = blob(2 * LENGTH - 300_000);
    let mut push = store.store.receive(&request.digest, None).unwrap();
    push.append(&other[..other.len() - 100]).unwrap();
    let rest = || Script::Sends(head(&bytes, 300_000), bytes.slice(300_000..), Ending::Complete);
    source.then(rest());
    source.then(rest());
    feed.send(Ok(bytes.slice(300_000..600_000))).unwrap();
    let (read, end) = read_all(reader).await;
    assert!(end.is_none() && read == bytes[300_000..], "{end:?}");
    let (read, end) = read_all(range).await;
    assert!(end.is_none() && read == bytes[500_000..], "{end:?}");
    settled(&fetches).await;
    assert_eq!(source.asked(), [0, 300_000, 300_000]);
    assert_eq!(store.blob("cache/a", &request.digest).await, None);
}

#[tokio::test]
async fn clients_get_a_blob_that_the_store_refuses_in_the_end() {
    let bytes = blob(LENGTH);
    let store = stores::with_capacity(2 * LENGTH as u64);
    let (script, feed) = Script::fed(&bytes);
    let source = Scripted::new("upstream", [script]);
    let (fetches, request) = (store.fetches(), request(&source, &bytes));
    let mut reader = open(&fetches, &request).await.read(0..u64::MAX);
    feed.send(Ok(bytes.clone())).unwrap();
    let visible = LENGTH - LENGTH.div_ceil(16);
    read_some(&mut reader, visible).await;
    // No room remains for the links.
    let mut push = store.store.receive(&request.digest, None).unwrap();
    while push.append(&[0; 100]).is_ok() {}
    drop(feed);
    assert_eq!(read_all(reader).await.0, bytes[visible..]);
    settled(&fetches).await;
    drop(push);
    assert_eq!(store.blob("cache/a", &request.digest).await, None);
}

#[tokio::test]
async fn a_passed_through_range_is_sent_when_it_is_there_and_its_end_when_the_hash_holds() {
    let bytes = blob(LENGTH);
    let fetches = Fetches::new(None, stores::options());
    let (script, feed) = Script::fed(&bytes);
    let source = Scripted::new("upstream", [script]);
    let mut reader = open(&fetches, &request(&source, &bytes)).await.read(1000..u64::MAX);
    feed.send(Ok(bytes.slice(..500))).unwrap();
    assert!(reader.next().now_or_never().is_none());
    feed.send(Ok(bytes.slice(500..))).unwrap();
    let visible = LENGTH - LENGTH.div_ceil(16);
    assert_eq!(read_some(&mut reader, visible - 1000).await, bytes[1000..visible]);
    assert!(reader.next().now_or_never().is_none());
    drop(feed);
    assert_eq!(read_all(reader).await.0, bytes[visible..]);
}

#[tokio::test]
async fn a_range_before_the_withheld_bytes_ends_without_the_rest() {
    let bytes = blob(LENGTH);
    let fetches = Fetches::new(None, stores::options());
    let (script, feed) = Script::fed(&bytes);
    let source = Scripted::new("upstream", [script]);
    let reader = open(&fetches, &request(&source, &bytes)).await.read(10..20);
    feed.send(Ok(bytes.slice(..30))).unwrap();
    assert_eq!(read_all(reader).await.0, bytes[10..20]);
    feed.closed().await;
}

#[tokio::test]
async fn the_end_of_a_verified_range_waits_for_the_hash_of_the_whole_blob() {
    let bytes = blob(LENGTH);
    let options = FetchOptions { verifies_ranges: true, ..stores::options() };
    let fetches = Fetches::new(None, options);
    let (script, feed) = Script::fed(&bytes);
    let source = Scripted::new("upstream", [script]);
    let mut reader = open(&fetches, &request(&source, &bytes)).await.read(1000..1160);
    feed.send(Ok(bytes.slice(..LENGTH - 1))).unwrap();
    assert_eq!(read_some(&mut reader, 150).await, bytes[1000..1150]);
    assert!(reader.next().now_or_never().is_none());
    feed.send(Ok(bytes.slice(LENGTH - 1..))).unwrap();
    drop(feed);
    assert_eq!(read_all(reader).await.0, bytes[1150..1160]);
}

#[tokio::test]
async fn no_verified_range_of_a_wrong_blob_is_whole() {
    let bytes = blob(LENGTH);
    for (wrong_at, range) in [(5, 0..16), (5, 100..200), (LENGTH - 1, 0..1), (10, 10..LENGTH)] {
        let mut wrong = bytes.to_vec();
        wrong[wrong_at] ^= 1;
        let options = FetchOptions { verifies_ranges: true, ..stores::options() };
        let fetches = Fetches::new(None, options);
        let script = Script::Sends(head(&bytes, 0), wrong.into(), Ending::Complete);
        let source = Scripted::new("upstream", [script]);
        let opened = open(&fetches, &request(&source, &bytes)).await;
        let (read, end) = read_all(opened.read(range.start as u64..range.end as u64)).await;
        assert!(matches!(end, Some(FetchError::Lie { .. })), "{range:?}: {end:?}");
        assert!(read.len() < range.len(), "{range:?}");
    }
}

#[tokio::test]
async fn blobs_that_are_passed_through_at_once_are_bounded() {
    let bytes = blob(LENGTH);
    let answer_timeout = std::time::Duration::from_millis(1);
    let options = FetchOptions { max_pass_through: 1, answer_timeout, ..stores::options() };
    let fetches = Fetches::new(None, options);
    let source = Scripted::new("upstream", [Script::whole(&bytes), Script::whole(&bytes)]);
    let request = request(&source, &bytes);
    let held = open(&fetches, &request).await;
    assert!(matches!(error(&fetches, &request).await, FetchError::Busy));
    drop(held);
    assert_eq!(fetch(&fetches, &request).await, bytes);
}
