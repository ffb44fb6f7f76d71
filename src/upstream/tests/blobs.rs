//! Blobs: whole ones, parts, and what a part may follow.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use quinistry_fetch::{Answer, Body, SourceError, Upstream as _, Validator, Wanted};
use quinistry_oci::Digest;

use super::server::{OTHER, PUBLIC, Received, Response, Server, answer, redirect, streamed};
use super::{options, remote, repository};
use crate::RemoteOptions;

const LENGTH: usize = 200_001;

fn blob() -> Bytes {
    (0..LENGTH).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<_>>().into()
}

fn wanted(from: u64, validator: Option<Validator>) -> Wanted {
    Wanted { digest: Digest::sha256(&blob()), length: None, from, validator }
}

/// Answers as a server of files does.
fn file(request: &Received) -> Response {
    let (etag, blob) = ("\"e\"", blob());
    let from = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    match from {
        Some(from) if request.header("if-range") == Some(etag) => {
            let from: usize = from.parse().unwrap();
            let range = format!("bytes {from}-{}/{LENGTH}", LENGTH - 1);
            answer(206, &[("etag", etag), ("content-range", &range)], blob.slice(from..))
        }
        _ => answer(200, &[("etag", etag)], blob),
    }
}

/// Returns a body that breaks behind its first byte.
fn cut() -> impl Stream<Item = std::io::Result<Bytes>> + Send + Sync {
    stream::iter([true, false]).then(async |is_first| {
        if is_first {
            return Ok(Bytes::from("x"));
        }
        // The first byte must have left before.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(std::io::Error::other("cut"))
    })
}

async fn open(source: &dyn quinistry_fetch::Source, wanted: Wanted) -> Result<(Answer, Body), SourceError> {
    source.open(wanted).await
}

async fn read(mut body: Body) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        let Ok(piece) = piece else { return (bytes, false) };
        assert!(!piece.is_empty() && piece.len() <= 64 * 1024);
        bytes.extend_from_slice(&piece);
    }
    (bytes, true)
}

#[tokio::test]
async fn a_transfer_goes_on_where_it_broke() {
    let server = Server::start(PUBLIC, file).await;
    let remote = remote(options(&server));
    let repository = repository("a");
    let source = remote.blobs(&repository);
    assert_eq!(source.name(), "test");
    let (head, body) = open(&*source, wanted(0, None)).await.unwrap();
    assert_eq!((head.from, head.length, head.is_encoded), (0, Some(LENGTH as u64), false));
    assert_eq!(read(body).await, (blob().to_vec(), true));
    let (rest, body) = open(&*source, wanted(70_000, head.validator.clone())).await.unwrap();
    assert_eq!((rest.from, rest.length), (70_000, Some(LENGTH as u64)));
    assert_eq!(rest.validator, head.validator);
    assert_eq!(read(body).await, (blob()[70_000..].to_vec(), true));
    let other = Validator::new(head.validator.unwrap().target(), "\"other\"");
    let (whole, _) = open(&*source, wanted(70_000, other)).await.unwrap();
    assert_eq!(whole.from, 0, "the content has changed");
    assert_eq!(remote.head_blob(&repository, &Digest::sha256(&blob())).await.unwrap(), Some(LENGTH as u64));
    let asked: Vec<_> =
        server.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect();
    assert_eq!(asked[..3], [None, Some("bytes=70000-".into()), Some("bytes=70000-".into())]);
}

#[tokio::test]
async fn a_part_is_asked_for_at_the_target_that_began() {
    let first = Server::start(OTHER, file).await;
    let second = Server::start(OTHER, file).await;
    let urls = [
        first.url("other.test", "/x?n="),
        first.url("other.test", "/x?n="),
        second.url("other.test", "/x?n="),
    ];
    let server = Server::start(PUBLIC, move |request| {
        redirect(&format!("{}{}", urls[request.number], request.number))
    })
    .await;
    let source = remote(options(&server)).blobs(&repository("a"));
    let (head, _) = open(&*source, wanted(0, None)).await.unwrap();
    let validator = head.validator.clone().unwrap();
    assert_eq!(validator.target(), first.url("other.test", "/x"), "without the secrets of its query");
    let (rest, _) = open(&*source, wanted(5, head.validator.clone())).await.unwrap();
    assert_eq!((rest.from, &rest.validator), (5, &head.validator));
    let (whole, _) = open(&*source, wanted(5, head.validator.clone())).await.unwrap();
    assert_eq!(whole.from, 0, "another target may have other bytes");
    assert_ne!(whole.validator, head.validator);
    let has_range = |server: &Server| -> Vec<bool> {
        server.requests().iter().map(|request| request.headers.contains_key("range")).collect()
    };
    assert_eq!(
        (has_range(&server), has_range(&first), has_range(&second)),
        (vec![false; 3], vec![false, true], vec![false])
    );
}

#[tokio::test]
async fn answers_that_are_cut_off_end_in_an_error() {
    let server = Server::start(PUBLIC, |request| match request.number {
        0 => answer(206, &[("content-range", &format!("bytes 5-9/{LENGTH}"))], "56789"),
        1 => answer(206, &[("content-range", &format!("bytes 6-9/{LENGTH}"))], "6789"),
        2 => streamed(&[], cut()),
        3 => answer(200, &[("content-encoding", "gzip")], "x"),
        4 => answer(416, &[], ""),
        _ => answer(404, &[], ""),
    })
    .await;
    let source = remote(options(&server)).blobs(&repository("a"));
    let target = server.url("public.test", &format!("/v2/a/blobs/{}", Digest::sha256(&blob())));
    let validator = Validator::new(&target, "\"e\"");
    let (head, body) = open(&*source, wanted(5, validator.clone())).await.unwrap();
    assert_eq!((head.from, head.length), (5, Some(LENGTH as u64)));
    assert_eq!(read(body).await, (b"56789".to_vec(), false), "the upstream has sent less than was asked for");
    let other = open(&*source, wanted(5, validator.clone())).await.map(drop);
    assert!(matches!(other, Err(SourceError::Invalid(_))), "{other:?}");
    let (head, body) = open(&*source, wanted(0, None)).await.unwrap();
    assert_eq!(head.length, None);
    assert_eq!(read(body).await, (b"x".to_vec(), false));
    assert!(open(&*source, wanted(0, None)).await.unwrap().0.is_encoded);
    assert!(matches!(open(&*source, wanted(5, validator)).await.map(drop), Err(SourceError::Invalid(_))));
    assert!(matches!(open(&*source, wanted(0, None)).await.map(drop), Err(SourceError::NotFound)));
}

#[tokio::test]
async fn blobs_of_all_repositories_wait_for_a_turn() {
    let server = Server::start(PUBLIC, file).await;
    let remote = remote(RemoteOptions { max_connections: 1, ..options(&server) });
    let [source, other] = ["a", "b"].map(|name| remote.blobs(&repository(name)));
    let turn = source.turn().await;
    assert!(other.turn().now_or_never().is_none());
    drop(turn);
    assert!(other.turn().now_or_never().is_some());
}
