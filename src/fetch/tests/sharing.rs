//! Clients of one fetch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future};
use quinistry_oci::Digest;

use super::scripted::{Script, Scripted};
use super::{LENGTH, blob, fetch, open, read_all, read_some, repository, request, settled, stores};
use crate::hops::with_hops;
use crate::{FetchObserver, Opened, Request};

#[tokio::test(flavor = "multi_thread")]
async fn fifty_cold_clients_get_a_blob_that_the_source_sends_once() {
    for store in stores::all().await {
        let bytes = blob(LENGTH);
        let source = Scripted::new("upstream", [Script::whole(&bytes)]);
        let (fetches, request) = (store.fetches(), request(&source, &bytes));
        let clients = (0..50).map(|_| {
            let (fetches, request, bytes) = (fetches.clone(), request.clone(), bytes.clone());
            tokio::spawn(async move {
                match fetches.open(request).await.unwrap() {
                    Opened::Fetched(found) => {
                        assert_eq!(found.length(), bytes.len() as u64);
                        let (read, end) = read_all(found.read(0..u64::MAX)).await;
                        assert!(end.is_none() && read == bytes, "{} bytes, {end:?}", read.len());
                    }
                    // The client came after the end.
                    Opened::Stored => {}
                    Opened::Unproven => panic!("all clients are of one repository"),
                }
            })
        });
        for client in future::join_all(clients).await {
            client.unwrap();
        }
        settled(&fetches).await;
        assert_eq!(source.asked(), [0], "{}", store.name);
        assert_eq!(store.blob("cache/a", &request.digest).await.unwrap(), bytes, "{}", store.name);
        assert!(matches!(fetches.open(request).await.unwrap(), Opened::Stored));
    }
}

#[tokio::test]
async fn row_166_a_request_that_comes_back_waits_for_no_fetch_that_waits_for_it() {
    for store in stores::all().await {
        let bytes = blob(LENGTH);
        // The first fetch waits for the answer to the second one, as in a circle of caches.
        let source = Scripted::new("upstream", [Script::Silent, Script::whole(&bytes)]);
        let (fetches, request) = (store.fetches(), request(&source, &bytes));
        let mut first = Box::pin(fetches.open(request.clone()));
        while source.asked().is_empty() {
            assert!((&mut first).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        assert_eq!(with_hops(2, fetch(&fetches, &request)).await, bytes);
        // A request of fewer caches joins a fetch of more.
        drop(first);
        settled(&fetches).await;
        let (script, feed) = Script::fed(&bytes);
        let source = Scripted::new("upstream", [script]);
        let request = Request { source: source.clone(), repository: repository("cache/b"), ..request };
        let request = Request { is_proven: true, ..request };
        let _deep = with_hops(3, open(&fetches, &request)).await;
        let _joined = open(&fetches, &request).await;
        assert_eq!(source.asked(), [0]);
        drop(feed);
    }
}

#[tokio::test]
async fn each_byte_is_sent_when_it_is_there_and_the_last_ones_when_the_hash_holds() {
    for store in stores::all().await {
        let bytes = blob(LENGTH);
        let withheld = LENGTH.div_ceil(16);
        let (script, feed) = Script::fed(&bytes);
        let source = Scripted::new("upstream", [script]);
        let (fetches, request) = (store.fetches(), request(&source, &bytes));
        let mut first = open(&fetches, &request).await.read(0..u64::MAX);
        assert!(first.next().now_or_never().is_none());
        feed.send(Ok(bytes.slice(..1000))).unwrap();
        assert_eq!(read_some(&mut first, 1000).await, bytes[..1000]);

        // Later clients read the beginning at once, and ranges once they are there.
        let mut second = open(&fetches, &request).await.read(0..u64::MAX);
        assert_eq!(read_some(&mut second, 1000).await, bytes[..1000]);
        let mut middle = open(&fetches, &request).await.read(300_000..300_100);
        let mut end = open(&fetches, &request).await.read(LENGTH as u64 - 10..u64::MAX);
        assert!(middle.next().now_or_never().is_none());
        feed.send(Ok(bytes.slice(1000..400_000))).unwrap();
        assert_eq!(read_some(&mut middle, 100).await, bytes[300_000..300_100]);
        assert!(middle.next().await.is_none());

        // All bytes are there, but the answer has not ended.
        feed.send(Ok(bytes.slice(400_000..))).unwrap();
        let visible = LENGTH - withheld;
        assert_eq!(read_some(&mut first, visible - 1000).await, bytes[1000..visible]);
        for reader in [&mut first, &mut end] {
            assert!(reader.next().now_or_never().is_none(), "{}", store.name);
        }
        drop(feed);
        assert_eq!(read_all(first).await.0, bytes[visible..]);
        assert_eq!(read_all(end).await.0, bytes[LENGTH - 10..]);
        assert_eq!(read_all(second).await.0, bytes[1000..]);
        settled(&fetches).await;
        assert_eq!(source.asked(), [0]);
        assert_eq!(store.blob("cache/a", &request.digest).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_client_that_leaves_cuts_off_neither_others_nor_the_fetch() {
    let store = stores::in_memory();
    let bytes = blob(LENGTH);
    let (script, feed) = Script::fed(&bytes);
    let source = Scripted::new("upstream", [script]);
    let (fetches, request) = (store.fetches(), request(&source, &bytes));
    let mut first = open(&fetches, &request).await.read(0..u64::MAX);
    let second = open(&fetches, &request).await.read(0..u64::MAX);
    feed.send(Ok(bytes.slice(..10))).unwrap();
    read_some(&mut first, 10).await;
    drop(first);
    feed.send(Ok(bytes.slice(10..20))).unwrap();
    drop(second);
    // The rest is short, so that it is fetched for later clients.
    feed.send(Ok(bytes.slice(20..))).unwrap();
    drop(feed);
    settled(&fetches).await;
    assert_eq!(store.blob("cache/a", &request.digest).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_fetch_without_clients_that_has_much_left_ends_and_keeps_nothing() {
    let store = stores::with_capacity(200 * 1024 * 1024);
    let before = store.used_bytes();
    let length = 100 * 1024 * 1024;
    let bytes = blob(1000);
    let (script, feed) = Script::fed(&bytes);
    let Script::Fed(answer, receiver) = script else { unreachable!() };
    let (long, digest) =
        (crate::Answer { length: Some(length), digest: None, ..answer }, Digest::sha256(b"long"));
    let source = Scripted::new("upstream", [Script::Fed(long, receiver)]);
    let request = Request { digest, ..request(&source, &bytes) };
    let fetches = store.fetches();
    let mut first = open(&fetches, &request).await.read(0..u64::MAX);
    feed.send(Ok(bytes.clone())).unwrap();
    read_some(&mut first, 1000).await;
    drop(first);
    settled(&fetches).await;
    // The connection to the source has ended, too, as soon as the task is gone.
    feed.closed().await;
    assert_eq!(store.used_bytes(), before);
    // A later client begins another fetch.
    source.then(Script::whole(&bytes));
    let honest = Request { digest: Digest::sha256(&bytes), ..request.clone() };
    assert_eq!(fetch(&fetches, &honest).await, bytes);
    assert_eq!(source.asked(), [0, 0]);
}

#[tokio::test]
async fn the_blob_becomes_part_of_every_repository_whose_clients_ask() {
    let store = stores::in_memory();
    let bytes = blob(LENGTH);
    let (script, feed) = Script::fed(&bytes);
    let source = Scripted::new("upstream", [script]);
    let (fetches, first) = (store.fetches(), request(&source, &bytes));
    let second = Request { repository: repository("cache/b"), is_proven: true, ..first.clone() };
    let third = Request { repository: repository("cache/c"), ..first.clone() };
    let readers = [open(&fetches, &first).await, open(&fetches, &second).await];
    // The digest alone opens nothing.
    assert!(matches!(fetches.open(third).await.unwrap(), Opened::Unproven));
    feed.send(Ok(bytes.clone())).unwrap();
    drop(feed);
    for reader in readers {
        assert_eq!(read_all(reader.read(0..u64::MAX)).await.0, bytes);
    }
    settled(&fetches).await;
    for name in ["cache/a", "cache/b"] {
        assert_eq!(store.blob(name, &first.digest).await.unwrap(), bytes, "{name}");
    }
    assert_eq!(store.blob("cache/c", &first.digest).await, None);
}

#[tokio::test]
async fn an_empty_blob_is_verified_before_its_answer() {
    for store in stores::all().await {
        let empty = Bytes::new();
        let source = Scripted::new("upstream", [Script::whole(&empty)]);
        let (fetches, request) = (store.fetches(), request(&source, &empty));
        let found = open(&fetches, &request).await;
        assert_eq!(found.length(), 0);
        assert_eq!(read_all(found.read(0..u64::MAX)).await.0, b"");
        settled(&fetches).await;
        assert_eq!(store.blob("cache/a", &request.digest).await.unwrap(), b"");
    }
}

#[tokio::test]
async fn a_sha512_blob_is_stored_under_its_digest() {
    for store in stores::all().await {
        let bytes = blob(LENGTH);
        let source = Scripted::new("upstream", [Script::whole(&bytes)]);
        let digest = Digest::of(quinistry_oci::Algorithm::Sha512, &bytes);
        let request = Request { digest, ..request(&source, &bytes) };
        let fetches = store.fetches();
        assert_eq!(fetch(&fetches, &request).await, bytes);
        settled(&fetches).await;
        assert_eq!(store.blob("cache/a", &request.digest).await.unwrap(), bytes, "{}", store.name);
    }
}

#[tokio::test]
async fn a_stream_has_all_bytes() {
    let bytes = blob(LENGTH);
    let source = Scripted::new("upstream", [Script::whole(&bytes)]);
    let store = stores::in_memory();
    let found = open(&store.fetches(), &request(&source, &bytes)).await;
    let pieces: Vec<Bytes> = found.read(5..LENGTH as u64).into_stream().map(Result::unwrap).collect().await;
    assert_eq!(pieces.concat(), bytes[5..]);
}

#[derive(Debug, Default)]
struct Joined(AtomicUsize);

impl FetchObserver for Joined {
    fn joined(&self, source: &str) {
        assert_eq!(source, "upstream");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn clients_that_join_are_counted() {
    let (store, joined, bytes) = (stores::in_memory(), Arc::new(Joined::default()), blob(LENGTH));
    let (script, feed) = Script::fed(&bytes);
    let source = Scripted::new("upstream", [script]);
    let fetches = store.fetches().with_observer(joined.clone());
    let request = request(&source, &bytes);
    let readers = [open(&fetches, &request).await, open(&fetches, &request).await];
    feed.send(Ok(bytes.clone())).unwrap();
    drop((feed, readers));
    settled(&fetches).await;
    assert_eq!(joined.0.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_fetch_that_fails_for_one_source_is_begun_with_that_of_another_client() {
    let store = stores::in_memory();
    let bytes = blob(LENGTH);
    let [absent, honest] = [Scripted::new("absent", []), Scripted::new("honest", [Script::whole(&bytes)])];
    let fetches = store.fetches();
    let (one, other) = (request(&absent, &bytes), request(&honest, &bytes));
    let other = Request { repository: repository("cache/b"), is_proven: true, ..other };
    let (failed, read) = future::join(fetches.open(one), fetch(&fetches, &other)).await;
    assert!(failed.is_err());
    assert_eq!(read, bytes);
}
