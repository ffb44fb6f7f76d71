//! Caches that ask each other.

use std::sync::{Arc, OnceLock};

use quinistry_fetch::hops::{MAX_HOPS, hops_of, with_hops};
use quinistry_fetch::{SourceError, Upstream as _, Wanted};
use quinistry_oci::Digest;

use super::server::{Connected, PUBLIC, Server, answer};
use super::{options, remote, repository, tag};
use crate::Remote;

#[tokio::test]
async fn row_166_a_cache_that_asks_itself_comes_to_an_end() {
    let own = Arc::new(OnceLock::<Remote>::new());
    let upstream = own.clone();
    let accept = async |stream| Some(Box::pin(stream) as Connected);
    let cache = Server::start_with(PUBLIC, accept, move |request| {
        let upstream = upstream.clone();
        async move {
            let hops = hops_of(request.header("quinistry-hops").map(str::as_bytes));
            let upstream = upstream.get().unwrap();
            let asked = with_hops(hops, upstream.get_manifest(&repository("a"), &tag("1"))).await;
            answer(if asked.is_ok() { 200 } else { 502 }, &[], "")
        }
    })
    .await;
    own.set(remote(options(&cache))).unwrap();
    let error = own.get().unwrap().get_manifest(&repository("a"), &tag("1")).await.unwrap_err();
    assert!(matches!(error, SourceError::Unavailable(_)), "{error}");
    let hops: Vec<_> = cache
        .requests()
        .iter()
        .map(|request| hops_of(request.header("quinistry-hops").map(str::as_bytes)))
        .collect();
    assert_eq!(hops, (1..=MAX_HOPS).collect::<Vec<_>>());
}

#[tokio::test]
async fn blobs_count_the_hops_of_the_request_that_made_their_source() {
    let server = Server::start(PUBLIC, |_| answer(200, &[], "")).await;
    let remote = remote(options(&server));
    let wanted = || Wanted { digest: Digest::sha256(b""), length: None, from: 0, validator: None };
    let source = with_hops(3, async { remote.blobs(&repository("a")) }).await;
    // A fetch is a task of its own.
    tokio::spawn(async move { source.open(wanted()).await.map(drop) }).await.unwrap().unwrap();
    assert_eq!(server.requests()[0].header("quinistry-hops"), Some("4"));
    let source = with_hops(MAX_HOPS, async { remote.blobs(&repository("a")) }).await;
    assert!(matches!(source.open(wanted()).await.map(drop), Err(SourceError::Unavailable(_))));
    assert_eq!(server.requests().len(), 1);
}
