//! Tests of the registry on a storage whose content lies on another machine.

mod collection;
pub(crate) mod in_memory;
mod limits;
mod pull_records;
mod redirects;
pub(crate) mod replicas;
mod scarce_room;

use std::io;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use quinistry_oci::{Content, Digest, ReadAt};
use quinistry_store::{Abilities, GcOptions, Key, Memory, ObjectTag, Storage, StorageError, Store};
use tower_service::Service as _;

use self::in_memory::forward_to_memory;
use crate::{Settings, State, router};

/// Returns options by which each cycle of collection goes on where the former one has ended, at once.
pub(crate) fn gc_without_waits() -> GcOptions {
    GcOptions {
        interval: Duration::ZERO,
        grace: Duration::ZERO,
        min_age: Duration::ZERO,
        rate: NonZeroU32::MAX,
        ..GcOptions::default()
    }
}

/// Storage that opens content as if each read of it were a request to another machine.
#[derive(Clone, Debug)]
struct RemoteFake {
    memory: Memory,
    reads: Arc<Reads>,
}

/// Ranges that were read.
#[derive(Debug)]
struct Reads {
    ranges: Mutex<Vec<Range<u64>>>,
    /// Thread that answers requests, on which nothing may block.
    server: ThreadId,
}

impl Reads {
    fn take(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.ranges.lock().unwrap())
    }
}

#[derive(Debug)]
struct RemoteContent {
    content: Content,
    reads: Arc<Reads>,
}

impl ReadAt for RemoteContent {
    fn length(&self) -> u64 {
        self.content.len()
    }

    fn read_at(&self, range: Range<u64>) -> io::Result<Bytes> {
        assert_ne!(thread::current().id(), self.reads.server, "reading blocks the server");
        self.reads.ranges.lock().unwrap().push(range.clone());
        self.content.slice(range).to_bytes()
    }
}

impl Storage for RemoteFake {
    fn abilities(&self) -> Abilities {
        self.memory.abilities()
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        let Some((content, tag)) = self.memory.open(key)? else { return Ok(None) };
        Ok(Some((Content::new(RemoteContent { content, reads: self.reads.clone() }), tag)))
    }

    forward_to_memory!();
}

#[tokio::test]
async fn only_the_needed_bytes_of_remote_content_are_read() {
    let reads = Arc::new(Reads { ranges: Mutex::default(), server: thread::current().id() });
    let storage = RemoteFake { memory: Memory::new(8 << 20), reads: reads.clone() };
    let bytes: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = Digest::sha256(&bytes);
    let store = thread::scope(|scope| {
        let push = || {
            let store = Store::open(storage, false).unwrap();
            let mut receiver = store.receive(&digest, None).unwrap();
            receiver.append(&bytes).unwrap();
            store.commit(&"a/b".parse().unwrap(), &mut receiver, &digest).unwrap();
            store
        };
        scope.spawn(push).join().unwrap()
    });
    reads.take();
    let mut registry = router(State::stored(store, Settings::default()));
    let mut ask = async |method: Method, range: Option<&str>| {
        let mut request = Request::builder().method(method).uri(format!("/v2/a/b/blobs/{digest}"));
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        let response = registry.call(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
    };
    // Links are shorter than a hundred bytes.
    let content = |all: Vec<Range<u64>>| all.into_iter().filter(|range| range.end > 100).collect::<Vec<_>>();

    let (status, headers, _) = ask(Method::HEAD, None).await;
    assert_eq!((status, headers[CONTENT_LENGTH].to_str().unwrap()), (StatusCode::OK, "2000000"));
    assert_eq!(content(reads.take()), []);

    let (status, headers, part) = ask(Method::GET, Some("bytes=1500000-1500099")).await;
    assert_eq!(status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(headers[CONTENT_RANGE], "bytes 1500000-1500099/2000000");
    assert_eq!(part, bytes[1_500_000..1_500_100]);
    assert_eq!(content(reads.take()), std::slice::from_ref(&(1_500_000..1_500_100)));

    let (status, ..) = ask(Method::GET, Some("bytes=200-300,1999999-")).await;
    assert_eq!(status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(content(reads.take()), [200..301, 1_999_999..2_000_000]);

    let (status, _, whole) = ask(Method::GET, None).await;
    assert_eq!((status, whole.len()), (StatusCode::OK, bytes.len()));
    let all = content(reads.take());
    assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start), "each byte is read once");
    assert_eq!((all.first().unwrap().start, all.last().unwrap().end), (0, 2_000_000));
    assert_eq!(whole, bytes);
}
