//! Fetches with sources that send, lie and break as a script says, into real stores.

mod breaks;
mod interleavings;
mod lies;
mod pass_through;
mod publication;
mod scripted;
mod sharing;
mod stores;

use std::sync::Arc;

use bytes::Bytes;
use quinistry_oci::{Digest, RepositoryName};

use self::scripted::Scripted;
use crate::{FetchError, Fetched, Fetches, Opened, Reader, Request};

/// Longer than a batch and than a piece that a reader gets, so that all of them are cut somewhere.
const LENGTH: usize = 700_001;

/// Bytes that differ at each place.
fn blob(length: usize) -> Bytes {
    (0..length.div_ceil(4)).flat_map(|n| u32::try_from(n).unwrap().to_le_bytes()).take(length).collect()
}

fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

/// Requests bytes by their digest, of unknown length.
fn request(source: &Arc<Scripted>, bytes: &Bytes) -> Request {
    Request {
        digest: Digest::sha256(bytes),
        length: None,
        source: source.clone(),
        repository: repository("cache/a"),
        is_proven: false,
        max_stored_bytes: None,
    }
}

async fn open(fetches: &Fetches, request: &Request) -> Fetched {
    match fetches.open(request.clone()).await.unwrap() {
        Opened::Fetched(found) => found,
        Opened::Stored | Opened::Unproven => panic!("the blob is not fetched"),
    }
}

async fn error(fetches: &Fetches, request: &Request) -> FetchError {
    match fetches.open(request.clone()).await {
        Ok(Opened::Fetched(found)) => {
            let (_, end) = read_all(found.read(0..u64::MAX)).await;
            end.expect("the blob is not sent to its end")
        }
        Ok(Opened::Stored | Opened::Unproven) => panic!("the blob is not fetched"),
        Err(error) => error,
    }
}

/// Reads to the end, or to an error.
async fn read_all(mut reader: Reader) -> (Vec<u8>, Option<FetchError>) {
    let mut all = Vec::new();
    loop {
        match reader.next().await {
            Some(Ok(piece)) => {
                assert!(!piece.is_empty() && piece.len() <= crate::READ_BYTES, "{}", piece.len());
                all.extend_from_slice(&piece);
            }
            Some(Err(error)) => return (all, Some(error)),
            None => return (all, None),
        }
    }
}

/// Reads the next `length` bytes.
async fn read_some(reader: &mut Reader, length: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < length {
        all.extend_from_slice(&reader.next().await.expect("more bytes follow").unwrap());
    }
    all
}

/// Opens a blob and reads all of it.
async fn fetch(fetches: &Fetches, request: &Request) -> Vec<u8> {
    let (bytes, end) = read_all(open(fetches, request).await.read(0..u64::MAX)).await;
    assert!(end.is_none(), "{end:?}");
    bytes
}

/// Waits until no fetch runs, so that blobs are stored.
async fn settled(fetches: &Fetches) {
    while fetches.running_fetches() > 0 {
        tokio::task::yield_now().await;
    }
}
