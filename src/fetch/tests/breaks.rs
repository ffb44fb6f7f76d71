//! Transfers that are cut off, and sources that are silent.

use std::time::Duration;

use bytes::Bytes;

use super::scripted::{Ending, Script, Scripted, head};
use super::{LENGTH, blob, error, fetch, open, read_all, read_some, request, settled, stores};
use crate::{FetchError, FetchOptions, Fetches, SourceError};

/// An honest answer from an offset that breaks before another.
fn broken(bytes: &Bytes, from: usize, to: usize) -> Script {
    Script::Sends(head(bytes, from), bytes.slice(from..to), Ending::Broken)
}

fn rest(bytes: &Bytes, from: usize) -> Script {
    Script::Sends(head(bytes, from), bytes.slice(from..), Ending::Complete)
}

#[tokio::test]
async fn a_broken_transfer_goes_on_behind_what_is_there() {
    let bytes = blob(LENGTH);
    for store in stores::all().await {
        let source = Scripted::new(
            "upstream",
            [
                broken(&bytes, 0, 100_000),
                Script::Fails(SourceError::Silent),
                broken(&bytes, 100_000, 650_000),
                rest(&bytes, 650_000),
            ],
        );
        let (fetches, request) = (store.fetches(), request(&source, &bytes));
        assert_eq!(fetch(&fetches, &request).await, bytes);
        assert_eq!(source.last_asked().validator, head(&bytes, 0).validator);
        assert_eq!(source.asked(), [0, 100_000, 100_000, 650_000]);
        settled(&fetches).await;
        assert_eq!(store.blob("cache/a", &request.digest).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn after_three_resumptions_the_transfer_starts_again_without_repeating_bytes() {
    let bytes = blob(LENGTH);
    let script = || {
        [
            broken(&bytes, 0, 10),
            broken(&bytes, 10, 20),
            broken(&bytes, 20, 30),
            broken(&bytes, 30, 40),
            Script::whole(&bytes),
        ]
    };
    let store = stores::in_memory();
    for fetches in [store.fetches(), Fetches::new(None, stores::options())] {
        let source = Scripted::new("upstream", script());
        assert_eq!(fetch(&fetches, &request(&source, &bytes)).await, bytes);
        assert_eq!(source.asked(), [0, 10, 20, 30, 0]);
    }
}

#[tokio::test]
async fn a_transfer_that_breaks_too_often_cuts_its_clients_and_is_no_lie() {
    let bytes = blob(LENGTH);
    let store = stores::in_memory();
    let used = store.used_bytes();
    let script = || (0..5).map(|n| broken(&bytes, if n == 4 { 0 } else { n * 10 }, n * 10 + 10));
    let source = Scripted::new("upstream", script());
    let (fetches, request) = (store.fetches(), request(&source, &bytes));
    let (read, end) = read_all(open(&fetches, &request).await.read(0..u64::MAX)).await;
    assert!(bytes.starts_with(&read) && matches!(end, Some(FetchError::Broken { .. })), "{end:?}");
    settled(&fetches).await;
    assert_eq!(store.used_bytes(), used);
    // The source is asked again at once.
    source.then(Script::whole(&bytes));
    assert_eq!(fetch(&fetches, &request).await, bytes);
}

#[tokio::test]
async fn a_source_that_cuts_each_connection_after_a_mebibyte_sends_all_of_twenty() {
    const CUT: usize = 1 << 20;
    let bytes = blob(20 * CUT);
    let script = || (0..20).map(|n| broken(&bytes, n * CUT, (n + 1) * CUT));
    let store = stores::in_memory();
    for fetches in [store.fetches(), Fetches::new(None, stores::options())] {
        let source = Scripted::new("upstream", script());
        assert!(fetch(&fetches, &request(&source, &bytes)).await == bytes);
        assert_eq!(source.asked(), (0..20).map(|n| n * CUT as u64).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_source_that_is_away_in_the_midst_is_waited_for_as_long_as_the_options_say() {
    let bytes = blob(LENGTH);
    let script = || {
        let away = (0..40).map(|_| Script::Fails(SourceError::NotFound));
        [broken(&bytes, 0, 100_000)].into_iter().chain(away).chain([rest(&bytes, 100_000)])
    };
    let store = stores::in_memory();
    for store in [Some(store.store.clone()), None] {
        let patient = FetchOptions { away_patience: Duration::from_mins(10), ..stores::options() };
        let source = Scripted::new("upstream", script());
        assert_eq!(fetch(&Fetches::new(store, patient), &request(&source, &bytes)).await, bytes);
        assert_eq!(source.asked().len(), 42);
    }
    let patient = FetchOptions { away_patience: Duration::from_nanos(1), ..stores::options() };
    let source = Scripted::new("upstream", script());
    let failed = error(&Fetches::new(None, patient), &request(&source, &bytes)).await;
    assert!(matches!(failed, FetchError::Broken { .. }), "{failed:?}");
    assert_eq!(source.asked(), [0, 100_000]);
}

#[tokio::test]
async fn a_mixture_of_two_contents_does_not_pass() {
    let (one, other) = (blob(LENGTH), Bytes::from(vec![7; LENGTH]));
    let store = stores::in_memory();
    let plain = crate::Answer { digest: None, ..head(&one, 0) };
    let source = Scripted::new(
        "upstream",
        [
            Script::Sends(plain.clone(), other.slice(..1000), Ending::Broken),
            Script::Sends(crate::Answer { from: 1000, ..plain }, one.slice(1000..), Ending::Complete),
        ],
    );
    let (fetches, request) = (store.fetches(), request(&source, &one));
    assert!(matches!(error(&fetches, &request).await, FetchError::Lie { .. }));
    assert_eq!(store.blob("cache/a", &request.digest).await, None);
}

#[tokio::test]
async fn a_silent_source_holds_no_client_for_ever() {
    let bytes = blob(LENGTH);
    let silence_timeout = Duration::from_millis(1);
    let options = FetchOptions { silence_timeout, answer_timeout: silence_timeout, ..stores::options() };
    let store = stores::in_memory();
    for fetches in [Fetches::new(Some(store.store.clone()), options.clone()), Fetches::new(None, options)] {
        let silent =
            |from: usize| Script::Sends(head(&bytes, from), bytes.slice(from..=from), Ending::Silent);
        let source = Scripted::new("upstream", [silent(0), Script::Silent, silent(1), silent(2)]);
        let failed = error(&fetches, &request(&source, &bytes)).await;
        assert!(matches!(failed, FetchError::Broken { .. }), "{failed:?}");
        assert_eq!(source.asked(), [0, 1, 1, 2, 0]);
        let unheard = Scripted::new("unheard", [Script::Silent]);
        let failed = error(&fetches, &request(&unheard, &bytes)).await;
        assert!(
            matches!(failed, FetchError::Source { reason, .. } if matches!(*reason, SourceError::Silent))
        );
    }
}

#[tokio::test]
async fn a_source_that_never_ends_a_whole_answer_refuses_no_blob() {
    let bytes = blob(LENGTH);
    let options = FetchOptions { silence_timeout: Duration::from_millis(1), ..stores::options() };
    let source = Scripted::new("upstream", [Script::Sends(head(&bytes, 0), bytes.clone(), Ending::Silent)]);
    let store = stores::in_memory();
    let fetches = Fetches::new(Some(store.store.clone()), options);
    assert_eq!(fetch(&fetches, &request(&source, &bytes)).await, bytes);
}

#[tokio::test]
async fn the_error_of_a_source_is_that_of_its_clients() {
    let store = stores::in_memory();
    let source = Scripted::new("upstream", [Script::Fails(SourceError::Limited { retry_after: None })]);
    let failed = error(&store.fetches(), &request(&source, &blob(10))).await;
    assert!(
        matches!(failed, FetchError::Source { reason, .. } if matches!(*reason, SourceError::Limited { .. }))
    );
    let unsized_answer = crate::Answer { length: None, ..head(&blob(10), 0) };
    let source = Scripted::new("upstream", [Script::Sends(unsized_answer, blob(10), Ending::Complete)]);
    let failed = error(&store.fetches(), &request(&source, &blob(10))).await;
    assert!(matches!(failed, FetchError::LengthUnknown { .. }));
}

#[tokio::test]
async fn clients_are_cut_off_when_the_task_ends_with_its_runtime() {
    let bytes = blob(LENGTH);
    let (script, feed) = Script::fed(&bytes);
    let source = Scripted::new("upstream", [script]);
    let store = stores::in_memory();
    let (fetches, request) = (store.fetches(), request(&source, &bytes));
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let begun = (fetches.clone(), request.clone());
    let mut reader =
        other.spawn(async move { open(&begun.0, &begun.1).await.read(0..u64::MAX) }).await.unwrap();
    feed.send(Ok(bytes.slice(..10))).unwrap();
    assert_eq!(read_some(&mut reader, 10).await, bytes[..10]);
    other.shutdown_background();
    assert!(matches!(reader.next().await, Some(Err(FetchError::Interrupted))));
    assert_eq!(fetches.running_fetches(), 0);
}
