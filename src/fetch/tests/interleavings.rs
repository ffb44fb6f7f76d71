//! Many clients, of which some leave, in many orders, with a source that breaks or lies at any place.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures_util::{future, stream};
use quinistry_oci::Digest;

use super::{blob, repository, scripted, settled, stores};
use crate::{Answered, Body, Fetches, Opened, Request, Source, Wanted};

/// Numbers that are the same in each run.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    /// Returns a number below `end`.
    fn below(&mut self, end: usize) -> usize {
        // The generator of Knuth's MMIX, whose higher bits are the better ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }

    fn fork(&mut self) -> Self {
        Self(self.below(usize::MAX) as u64)
    }

    async fn pause(&mut self) {
        for _ in 0..self.below(4) {
            tokio::task::yield_now().await;
        }
    }
}

/// Source that has one content, and breaks a number of times.
#[derive(Debug)]
struct Capricious {
    sent: Bytes,
    claimed: Bytes,
    breaks: AtomicUsize,
    random: Mutex<Random>,
}

impl Source for Capricious {
    fn name(&self) -> &'static str {
        "capricious"
    }

    fn open(&self, wanted: Wanted) -> Answered<'_> {
        let mut random = self.random.lock().unwrap().fork();
        let from = usize::try_from(wanted.from).unwrap();
        let breaks =
            self.breaks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let is_broken = breaks.is_ok();
        let end = if is_broken { from + random.below(self.sent.len() - from) } else { self.sent.len() };
        let rest = self.sent.slice(from..end);
        let next = move |(mut rest, mut random): (Bytes, Random)| async move {
            random.pause().await;
            if rest.is_empty() {
                let broken = Err(std::io::ErrorKind::ConnectionReset.into());
                return is_broken.then_some((broken, (rest, random)));
            }
            let piece = rest.split_to((1 + random.below(2000)).min(rest.len()));
            Some((Ok(piece), (rest, random)))
        };
        // A stream that has broken is not read again.
        let body: Body = Box::pin(stream::unfold((rest, random), next));
        Box::pin(future::ready(Ok((scripted::head(&self.claimed, from), body))))
    }
}

/// End of one client.
#[derive(Debug, PartialEq, Eq)]
enum ClientEnd {
    Complete,
    Left,
    Cut,
}

/// Reads a range, or a part of it, and returns what was read.
async fn client(fetches: Fetches, request: Request, mut random: Random) -> (usize, Vec<u8>, ClientEnd) {
    random.pause().await;
    let Ok(opened) = fetches.open(request).await else { return (0, Vec::new(), ClientEnd::Cut) };
    let Opened::Fetched(found) = opened else { return (0, Vec::new(), ClientEnd::Left) };
    let length = usize::try_from(found.length()).unwrap();
    let start = if random.below(2) == 0 { 0 } else { random.below(length) };
    let mut reader = found.read(start as u64..u64::MAX);
    let mut leaves_after = if random.below(3) == 0 { random.below(10) } else { usize::MAX };
    let mut read = Vec::new();
    loop {
        if leaves_after == 0 {
            return (start, read, ClientEnd::Left);
        }
        leaves_after -= 1;
        random.pause().await;
        match reader.next().await {
            Some(Ok(piece)) => read.extend_from_slice(&piece),
            Some(Err(_)) => return (start, read, ClientEnd::Cut),
            None => return (start, read, ClientEnd::Complete),
        }
    }
}

async fn round(seed: u64, is_stored: bool) {
    let mut random = Random(seed);
    let bytes = blob(1 + random.below(60_000));
    let is_liar = random.below(3) == 0;
    let mut sent = BytesMut::from(&bytes[..]);
    if is_liar {
        sent[random.below(bytes.len())] ^= 1;
    }
    let breaks = random.below(4);
    let store = stores::in_memory();
    let fetches = if is_stored { store.fetches() } else { Fetches::new(None, stores::options()) };
    let number = 1 + random.below(6);
    let source = Arc::new(Capricious {
        sent: sent.freeze(),
        claimed: bytes.clone(),
        breaks: AtomicUsize::new(breaks),
        random: Mutex::new(random.fork()),
    });
    let request = Request {
        digest: Digest::sha256(&bytes),
        length: None,
        source,
        repository: repository("cache/a"),
        is_proven: false,
        max_stored_bytes: None,
    };
    let clients = (0..number).map(|_| tokio::spawn(client(fetches.clone(), request.clone(), random.fork())));
    for ended in future::join_all(clients).await {
        let (start, read, end) = ended.unwrap();
        let case = format!("seed {seed}, {} bytes from {start}, {end:?}", read.len());
        if is_liar {
            assert!(end != ClientEnd::Complete && start + read.len() < bytes.len(), "{case}");
        } else {
            // Three breaks are resumed.
            assert!(end != ClientEnd::Cut && bytes[start..].starts_with(&read), "{case}");
            assert!(end != ClientEnd::Complete || start + read.len() == bytes.len(), "{case}");
        }
    }
    settled(&fetches).await;
    let stored = store.blob("cache/a", &request.digest).await;
    assert_eq!(stored.is_some(), is_stored && !is_liar, "seed {seed}");
}

#[tokio::test]
async fn no_client_ends_with_a_wrong_blob_or_waits_for_ever_and_none_is_refused_a_right_one() {
    for seed in 0..300 {
        round(seed, true).await;
        round(seed, false).await;
    }
}
