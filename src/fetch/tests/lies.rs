//! Sources that send other content than they were asked for: no client ends with success, and nothing is stored.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::future;
use quinistry_oci::Digest;

use super::scripted::{Ending, Script, Scripted, head};
use super::{LENGTH, blob, error, fetch, open, read_all, request, settled, stores};
use crate::{Answer, FetchError, FetchObserver, Fetches, Lie, Request};

/// Returns bytes of which the one at an offset is wrong.
fn wrong_at(bytes: &Bytes, offset: usize) -> Bytes {
    let mut wrong = BytesMut::from(&bytes[..]);
    wrong[offset] ^= 1;
    wrong.freeze()
}

/// Returns the answers of lying sources: with the lie that is found, and whether it lies in the headers.
fn lies(bytes: &Bytes) -> Vec<(&'static str, Script, Lie)> {
    let honest = head(bytes, 0);
    let sends = |answer: &Answer, bytes: Bytes| Script::Sends(answer.clone(), bytes, Ending::Complete);
    // Without a length in the headers, as in a chunked answer: a manifest has named it.
    let chunked = Answer { length: None, ..honest.clone() };
    let longer = Bytes::from([&bytes[..], b"x"].concat());
    let with_length = |length| Answer { length: Some(length as u64), ..honest.clone() };
    let html = Bytes::from_static(b"<html><body>Please log in to the network.</body></html>");
    let other = Answer { digest: Some(Digest::sha256(b"other")), ..honest.clone() };
    vec![
        ("wrong first byte", sends(&honest, wrong_at(bytes, 0)), Lie::Digest),
        ("wrong byte in the middle", sends(&honest, wrong_at(bytes, LENGTH / 2)), Lie::Digest),
        ("wrong last byte", sends(&honest, wrong_at(bytes, LENGTH - 1)), Lie::Digest),
        ("short", sends(&chunked, bytes.slice(..LENGTH - 1)), Lie::Short),
        ("without a byte", sends(&chunked, Bytes::new()), Lie::Short),
        (
            "short by its headers",
            sends(&with_length(LENGTH - 1), bytes.slice(..LENGTH - 1)),
            Lie::LengthHeader,
        ),
        ("long", sends(&chunked, longer.clone()), Lie::Long),
        ("long without an end", Script::Sends(chunked.clone(), longer.clone(), Ending::Silent), Lie::Long),
        ("long by its headers", sends(&with_length(LENGTH + 1), longer), Lie::LengthHeader),
        ("wrong digest in the headers", sends(&other, bytes.clone()), Lie::DigestHeader),
        ("encoded", sends(&Answer { is_encoded: true, ..honest.clone() }, bytes.clone()), Lie::Encoded),
        ("HTML with its length", sends(&with_length(html.len()), html.clone()), Lie::LengthHeader),
        ("HTML in chunks", sends(&chunked, html), Lie::Short),
    ]
}

#[derive(Debug, Default)]
struct Poisoned(Mutex<Vec<(String, Lie)>>);

impl FetchObserver for Poisoned {
    fn poisoned(&self, source: &str, lie: Lie) {
        self.0.lock().unwrap().push((source.into(), lie));
    }
}

async fn check(fetches: Fetches, request: Request, case: &str, expected: Lie, bytes: &Bytes) {
    let clients = (0..5).map(|_| async {
        match fetches.open(request.clone()).await {
            Ok(crate::Opened::Fetched(found)) => read_all(found.read(0..u64::MAX)).await,
            Ok(_) => panic!("{case}: the blob is not fetched"),
            Err(error) => (Vec::new(), Some(error)),
        }
    });
    for (read, end) in future::join_all(clients).await {
        let is_lie = matches!(&end, Some(FetchError::Lie { lie, .. }) if *lie == expected);
        assert!(is_lie || matches!(end, Some(FetchError::Poisoned { .. })), "{case}: {end:?}");
        assert!(read.len() <= LENGTH - LENGTH.div_ceil(16), "{case}: {} of {}", read.len(), bytes.len());
    }
    settled(&fetches).await;
}

#[tokio::test]
async fn no_client_of_a_lying_source_ends_with_success_and_nothing_is_stored() {
    let bytes = blob(LENGTH);
    for store in stores::all().await {
        for (case, script, lie) in lies(&bytes) {
            let used = store.used_bytes();
            let poisoned = Arc::new(Poisoned::default());
            let source = Scripted::new("liar", [script]);
            let request = Request { length: Some(LENGTH as u64), ..request(&source, &bytes) };
            let fetches = store.fetches().with_observer(poisoned.clone());
            check(fetches.clone(), request.clone(), case, lie, &bytes).await;
            assert_eq!(source.asked(), [0], "{case}");
            // A length that differs from the claimed one may be right.
            let expected: &[_] = if lie == Lie::LengthHeader { &[] } else { &[("liar".to_owned(), lie)] };
            assert_eq!(poisoned.0.lock().unwrap()[..], *expected, "{case}");
            assert_eq!(store.blob("cache/a", &request.digest).await, None, "{case} in {}", store.name);
            assert_eq!(store.used_bytes(), used, "{case}");
            // Another source is asked at once.
            let honest = Scripted::new("honest", [Script::whole(&bytes)]);
            let other = Request { source: honest, repository: super::repository("cache/honest"), ..request };
            match fetches.open(other).await.unwrap() {
                crate::Opened::Fetched(found) => {
                    assert_eq!(read_all(found.read(0..u64::MAX)).await.0, bytes, "{case}");
                }
                crate::Opened::Stored | crate::Opened::Unproven => {}
            }
            settled(&fetches).await;
        }
    }
}

#[tokio::test]
async fn no_client_of_a_lying_source_ends_with_success_where_blobs_are_passed_through() {
    let bytes = blob(LENGTH);
    for (case, _, lie) in lies(&bytes) {
        // A source whose length differs from the claimed one is asked by each of the five clients.
        let asked = vec![0; if lie == Lie::LengthHeader { 5 } else { 1 }];
        let script = |_: &u64| lies(&bytes).into_iter().find(|(of, ..)| *of == case).unwrap().1;
        let source = Scripted::new("liar", asked.iter().map(script));
        let request = Request { length: Some(LENGTH as u64), ..request(&source, &bytes) };
        check(Fetches::new(None, stores::options()), request, case, lie, &bytes).await;
        assert_eq!(source.asked(), asked, "{case}");
    }
}

#[tokio::test]
async fn a_range_of_a_wrong_blob_never_has_the_withheld_bytes() {
    let bytes = blob(LENGTH);
    let store = stores::in_memory();
    let source =
        Scripted::new("liar", [Script::Sends(head(&bytes, 0), wrong_at(&bytes, 0), Ending::Complete)]);
    let found = open(&store.fetches(), &request(&source, &bytes)).await;
    let (read, end) = read_all(found.read(LENGTH as u64 - 1..u64::MAX)).await;
    assert!(read.is_empty() && matches!(end, Some(FetchError::Lie { .. })), "{end:?}");
}

#[tokio::test]
async fn a_wrong_empty_blob_is_not_answered() {
    let empty = Bytes::new();
    for fetches in [stores::in_memory().fetches(), Fetches::new(None, stores::options())] {
        let answer = Answer { length: Some(0), ..Answer::default() };
        let source = Scripted::new("liar", [Script::Sends(answer, empty.clone(), Ending::Complete)]);
        let opened = fetches.open(request(&source, &blob(10))).await;
        assert!(matches!(opened, Err(FetchError::Lie { lie: Lie::Digest, .. })));
    }
}

#[tokio::test]
async fn a_liar_is_asked_again_after_a_minute() {
    let bytes = blob(LENGTH);
    let (start, seconds) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let now = seconds.clone();
    let store = stores::in_memory();
    let fetches =
        store.fetches().with_clock(move || start + Duration::from_secs(now.load(Ordering::Relaxed)));
    let lie = Script::Sends(head(&bytes, 0), wrong_at(&bytes, 9), Ending::Complete);
    let source = Scripted::new("liar", [lie, Script::whole(&bytes)]);
    let request = request(&source, &bytes);
    assert!(matches!(error(&fetches, &request).await, FetchError::Lie { lie: Lie::Digest, .. }));
    seconds.store(59, Ordering::Relaxed);
    assert!(matches!(error(&fetches, &request).await, FetchError::Poisoned { .. }));
    assert_eq!(source.asked(), [0]);
    seconds.store(60, Ordering::Relaxed);
    assert_eq!(fetch(&fetches, &request).await, bytes);
}
