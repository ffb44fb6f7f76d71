use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::*;
use crate::{Condition, Listing, ListingQuery, Multipart, Objects, Part, SignedMethod, StoreTime};

/// A bucket whose clock stands at 1,000 s, and whose least part has 4 bytes.
fn bucket(options: MemOptions) -> Mem {
    Mem::new(
        MemOptions { min_part_bytes: 4, ..options },
        StoreClock::stopped(UNIX_EPOCH + Duration::from_secs(1_000)),
    )
}

/// Runs a request, which waits for nothing.
fn run<T>(request: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(request)
}

async fn put(
    mem: &Mem,
    key: &str,
    text: &'static str,
    condition: Condition<'_>,
) -> Result<String, ObjectErrorKind> {
    let put = mem.put(key, text.into(), condition).await.map_err(|error| error.kind)?;
    Ok(put.version.unwrap())
}

async fn read(mem: &Mem, key: &str, range: Option<std::ops::Range<u64>>) -> Result<Vec<u8>, ObjectErrorKind> {
    let object = mem.get(key, range, None).await.map_err(|error| error.kind)?;
    let chunks: Vec<Bytes> = object.body.try_collect().await.map_err(|error| error.kind)?;
    Ok(chunks.concat())
}

fn keys(listing: &Listing) -> Vec<&str> {
    listing.entries.iter().map(|(key, _)| key.as_str()).collect()
}

fn query<'a>(prefix: &'a str, after: Option<&'a str>, limit: usize) -> ListingQuery<'a> {
    ListingQuery { prefix, after, limit }
}

#[test]
fn an_object_is_read_as_it_was_written() {
    run(async {
        let mem = bucket(MemOptions::default());
        assert_eq!(mem.now(), None);
        let version = put(&mem, "a/b", "content", Condition::Always).await.unwrap();
        // The MD5 that S3 answers for these bytes.
        assert_eq!(version, "\"9a0364b9e99bb480dd25e1f0284c8555\"");
        assert_eq!(read(&mem, "a/b", None).await.unwrap(), b"content");
        assert_eq!(read(&mem, "a/b", Some(2..4)).await.unwrap(), b"nt");
        assert_eq!(read(&mem, "a/b", Some(5..99)).await.unwrap(), b"nt");
        assert_eq!(read(&mem, "a/b", Some(7..9)).await, Err(ObjectErrorKind::OutOfRange));
        assert_eq!(read(&mem, "a", None).await, Err(ObjectErrorKind::NotFound));
        let unchanged = mem.get("a/b", None, Some(&version)).await.unwrap_err();
        assert_eq!(unchanged.kind, ObjectErrorKind::Unchanged);
        let meta = mem.head("a/b").await.unwrap();
        assert_eq!((meta.length, meta.version), (7, version));
        assert_eq!(mem.now(), Some(StoreTime(UNIX_EPOCH + Duration::from_secs(1_000))));
    });
}

#[test]
fn the_same_bytes_have_the_same_etag_but_another_generation() {
    run(async {
        for (versions, is_same) in [(Versions::Etags, true), (Versions::Generations, false)] {
            let mem = bucket(MemOptions { versions, ..MemOptions::default() });
            let first = put(&mem, "k", "x", Condition::Always).await.unwrap();
            let second = put(&mem, "k", "x", Condition::Always).await.unwrap();
            assert_eq!(first == second, is_same, "{versions:?}");
        }
    });
}

#[test]
fn a_change_whose_condition_does_not_hold_changes_nothing() {
    run(async {
        let mem = bucket(MemOptions::default());
        let version = put(&mem, "k", "one", Condition::Absent).await.unwrap();
        let refused = Err(ObjectErrorKind::Precondition);
        assert_eq!(put(&mem, "k", "two", Condition::Absent).await, refused);
        assert_eq!(put(&mem, "k", "two", Condition::Version("\"0\"")).await, refused);
        assert_eq!(put(&mem, "none", "two", Condition::Version(&version)).await, refused);
        let removal = mem.delete("k", Condition::Version("\"0\""), None).await.unwrap_err();
        assert_eq!(removal.kind, ObjectErrorKind::Precondition);
        assert_eq!(mem.bytes("k").unwrap(), b"one");
        let second = put(&mem, "k", "two", Condition::Version(&version)).await.unwrap();
        mem.delete("k", Condition::Version(&second), None).await.unwrap();
        mem.delete("k", Condition::Always, None).await.unwrap();
        assert!(mem.keys().is_empty());
    });
}

#[test]
fn of_racing_creates_exactly_one_wins() {
    let mem = bucket(MemOptions::default());
    let wins = std::thread::scope(|scope| {
        let create = || run(put(&mem, "k", "x", Condition::Absent)).is_ok();
        let tries: Vec<_> = (0..16).map(|_| scope.spawn(create)).collect();
        tries.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(wins, 1);
}

#[test]
fn a_store_that_ignores_conditions_overwrites() {
    run(async {
        let mem = bucket(MemOptions { conditions: HonoredConditions::Writes, ..MemOptions::default() });
        put(&mem, "k", "one", Condition::Always).await.unwrap();
        assert!(put(&mem, "k", "two", Condition::Absent).await.is_err());
        mem.delete("k", Condition::Version("\"0\""), None).await.unwrap();
        assert_eq!(mem.bytes("k"), None);
        let mem = bucket(MemOptions { conditions: HonoredConditions::Nothing, ..MemOptions::default() });
        put(&mem, "k", "one", Condition::Always).await.unwrap();
        put(&mem, "k", "two", Condition::Absent).await.unwrap();
        assert_eq!(mem.bytes("k").unwrap(), b"two");
    });
}

#[test]
fn lists_are_in_the_order_of_bytes_and_come_in_pages() {
    run(async {
        let mem = bucket(MemOptions::default());
        for key in ["t/v1/x", "t/v1-rc/x", "t/v1.0/x", "t0", "s/a"] {
            put(&mem, key, "", Condition::Always).await.unwrap();
        }
        let page = mem.list(query("t/", None, 2)).await.unwrap();
        assert_eq!((keys(&page), page.is_truncated), (vec!["t/v1-rc/x", "t/v1.0/x"], true));
        let page = mem.list(query("t/", Some("t/v1.0/x"), 2)).await.unwrap();
        assert_eq!((keys(&page), page.is_truncated), (vec!["t/v1/x"], false));
        // The key after which a page begins need not exist, nor have the prefix.
        assert_eq!(keys(&mem.list(query("t/", Some("a"), 9)).await.unwrap()).len(), 3);
        assert_eq!(keys(&mem.list(query("t/", Some("t/v1/"), 9)).await.unwrap()), ["t/v1/x"]);
        assert!(keys(&mem.list(query("t/", Some("z"), 9)).await.unwrap()).is_empty());
    });
}

#[test]
fn lists_that_lag_show_changes_later() {
    run(async {
        let lag = Duration::from_secs(2);
        let mem = bucket(MemOptions { list_lag: lag, ..MemOptions::default() });
        put(&mem, "k", "x", Condition::Always).await.unwrap();
        assert!(mem.list(query("", None, 9)).await.unwrap().entries.is_empty());
        mem.clock().advance(lag);
        assert_eq!(keys(&mem.list(query("", None, 9)).await.unwrap()), ["k"]);
        mem.delete("k", Condition::Always, None).await.unwrap();
        assert_eq!(keys(&mem.list(query("", None, 9)).await.unwrap()), ["k"]);
        mem.clock().advance(lag);
        assert!(mem.list(query("", None, 9)).await.unwrap().entries.is_empty());
    });
}

async fn send_parts(mem: &Mem, upload: Multipart<'_>, texts: &[&'static str]) -> Vec<Part> {
    let mut parts = Vec::new();
    for (number, text) in (1..).zip(texts) {
        parts.push(mem.put_part(upload, number, (*text).into()).await.unwrap());
    }
    parts
}

#[test]
fn an_upload_in_parts_is_seen_when_it_is_complete() {
    run(async {
        let mem = bucket(MemOptions::default());
        put(&mem, "from", "0123456789", Condition::Always).await.unwrap();
        let id = mem.create_multipart("k").await.unwrap();
        let upload = Multipart { key: "k", id: &id };
        send_parts(&mem, upload, &["lost", "efgh"]).await;
        // A part replaces an earlier one of its number.
        let mut parts = send_parts(&mem, upload, &["abcd", "efgh"]).await;
        parts.push(mem.copy_part(upload, 3, "from", 4..6).await.unwrap());
        assert_eq!(mem.list_parts(upload).unwrap(), parts);
        assert_eq!(mem.list_uploads("k").await.unwrap()[0].id, id);
        assert_eq!(mem.bytes("k"), None);
        let put = mem.complete(upload, &parts, Condition::Absent).await.unwrap();
        assert!(put.version.unwrap().ends_with("-3\""));
        assert_eq!(mem.bytes("k").unwrap(), b"abcdefgh45");
        assert_eq!(mem.pending_uploads(), 0);
        let again = mem.complete(upload, &parts, Condition::Absent).await.unwrap_err();
        assert_eq!(again.kind, ObjectErrorKind::NotFound);
    });
}

#[test]
fn an_upload_with_wrong_parts_is_not_completed() {
    run(async {
        let mem = bucket(MemOptions::default());
        put(&mem, "k", "old", Condition::Always).await.unwrap();
        let id = mem.create_multipart("k").await.unwrap();
        let upload = Multipart { key: "k", id: &id };
        let parts = send_parts(&mem, upload, &["abcd", "ef", "gh"]).await;
        let complete = async |parts: &[Part], condition| {
            mem.complete(upload, parts, condition).await.unwrap_err().message
        };
        assert!(complete(&parts, Condition::Always).await.contains("EntityTooSmall"));
        assert!(complete(&[], Condition::Always).await.contains("MalformedXML"));
        let reversed = [parts[1].clone(), parts[0].clone()];
        assert!(complete(&reversed, Condition::Always).await.contains("InvalidPartOrder"));
        let other = Part { tag: "\"0\"".into(), ..parts[0].clone() };
        assert!(complete(&[other], Condition::Always).await.contains("InvalidPart"));
        assert!(complete(&parts[..2], Condition::Absent).await.contains("PreconditionFailed"));
        assert_eq!(mem.bytes("k").unwrap(), b"old");
        mem.abort(upload).await.unwrap();
        mem.abort(upload).await.unwrap();
        let late = mem.put_part(upload, 1, "late".into()).await.unwrap_err();
        assert_eq!((late.kind, mem.pending_uploads()), (ObjectErrorKind::NotFound, 0));
    });
}

#[test]
fn a_store_may_demand_equal_parts() {
    run(async {
        let mem = bucket(MemOptions { requires_equal_parts: true, ..MemOptions::default() });
        let id = mem.create_multipart("k").await.unwrap();
        let upload = Multipart { key: "k", id: &id };
        let parts = send_parts(&mem, upload, &["abcd", "efghi", "j"]).await;
        assert!(mem.complete(upload, &parts, Condition::Always).await.is_err());
        let parts = send_parts(&mem, upload, &["abcd", "efgh", "i"]).await;
        mem.complete(upload, &parts, Condition::Always).await.unwrap();
    });
}

#[test]
fn a_removal_that_was_signed_long_ago_is_refused() {
    run(async {
        let mem = bucket(MemOptions::default());
        put(&mem, "k", "x", Condition::Always).await.unwrap();
        let signed_at = mem.now();
        mem.clock().advance(Duration::from_secs(11));
        let late = mem.delete("k", Condition::Always, signed_at).await.unwrap_err();
        assert_eq!((late.kind, mem.keys().len()), (ObjectErrorKind::Denied, 1));
        mem.delete("k", Condition::Always, mem.now()).await.unwrap();
        assert!(mem.keys().is_empty());
    });
}

#[test]
fn long_parts_may_be_forgotten_and_keep_their_length_and_other_objects_stay() {
    run(async {
        let mem = bucket(MemOptions { forgets_parts_from: 5, ..MemOptions::default() });
        put(&mem, "record", "long enough", Condition::Always).await.unwrap();
        assert_eq!(mem.bytes("record").unwrap(), b"long enough");
        let id = mem.create_multipart("k").await.unwrap();
        let upload = Multipart { key: "k", id: &id };
        let parts = send_parts(&mem, upload, &["abcd", "efghi"]).await;
        mem.complete(upload, &parts, Condition::Absent).await.unwrap();
        assert_eq!(mem.bytes("k").unwrap(), b"abcd\0\0\0\0\0");
    });
}

#[test]
fn a_signed_url_tells_method_key_and_expiry() {
    let mem = bucket(MemOptions::default());
    let url = mem.sign(SignedMethod::Head, "a/b", Duration::from_mins(1));
    assert_eq!(url.as_deref(), Some("mem://a/b?method=head&expires=1060"));
    let mem = bucket(MemOptions { signs: false, ..MemOptions::default() });
    assert_eq!(mem.sign(SignedMethod::Get, "a/b", Duration::from_mins(1)), None);
}
