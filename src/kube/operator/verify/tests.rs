//! Pods on loopback addresses of their own.

use std::net::Ipv4Addr;
use std::sync::mpsc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{StatusCode, Uri};
use quinistry_http::{Limits, serve};
use quinistry_oci::Digest;
use quinistry_quine::{Executable, LayerForm, Quine};
use tokio::net::TcpListener;

use super::*;

/// Each test has addresses that no other has.
const fn pod(test: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 88, test, number)
}

fn request(ip: Ipv4Addr) -> VerifyRequest {
    VerifyRequest { start: PodStart { uid: ip.to_string(), ..PodStart::default() }, ip: ip.to_string() }
}

fn silent() -> Tell {
    Arc::new(|_, _| {})
}

/// Answers as a registry does that holds an image and nothing else.
async fn answer(State(quine): State<Quine>, uri: Uri) -> Response {
    let (path, last) = uri.path().rsplit_once('/').unwrap();
    let all = [quine.manifest(), quine.config(), quine.layer()];
    let found = match path {
        "/v2/quinistry/manifests" => Some(quine.manifest()),
        "/v2/quinistry/blobs" => all.into_iter().find(|blob| blob.digest().to_string() == last),
        _ => None,
    };
    let Some(blob) = found else { return StatusCode::NOT_FOUND.into_response() };
    ([(CONTENT_TYPE, blob.descriptor.media_type.clone())], blob.content.to_bytes().unwrap()).into_response()
}

async fn serve_self_on(ip: Ipv4Addr) -> Digest {
    let quine = Quine::new(&Executable::current().unwrap(), LayerForm::Tar).unwrap();
    let listener = TcpListener::bind((ip, 8080)).await.unwrap();
    let app = Router::new().fallback(answer).with_state(quine.clone());
    tokio::spawn(serve(listener, app, Limits::default(), std::future::pending()));
    quine.digest().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_is_hashed_and_each_start_is_asked_once() {
    let eyes = Arc::new(Eyes::new().unwrap());
    let digest = serve_self_on(pod(1, 1)).await;
    let requests = [request(pod(1, 1))];
    assert!(eyes.look(&requests, silent()).await);
    // An executable for tests is large; wait until it is hashed.
    let found = loop {
        let found = eyes.found(requests.iter().map(|request| &request.start));
        if !found.is_empty() {
            break found;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(found[&requests[0].start], Fetched::Whole(digest));
    assert!(!eyes.look(&requests, silent()).await, "it cannot change while it runs");
    assert_eq!(eyes.next(&requests), None);
    let restarted = VerifyRequest {
        start: PodStart { restarts: 1, ..requests[0].start.clone() },
        ip: requests[0].ip.clone(),
    };
    assert!(eyes.look(&[restarted], silent()).await, "another start is another question");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_reached_is_asked_later_and_later() {
    let eyes = Arc::new(Eyes::new().unwrap());
    let requests = [request(pod(2, 1))];
    assert_eq!(eyes.next(&requests), Some(Duration::ZERO), "who was never asked is due");
    assert!(eyes.look(&requests, silent()).await);
    let found = eyes.found(requests.iter().map(|request| &request.start));
    assert!(
        matches!(&found[&requests[0].start], Fetched::Failed(why) if why.contains("refused")),
        "{found:?}"
    );
    assert!(!eyes.look(&requests, silent()).await, "not at once again");
    let first = eyes.next(&requests).unwrap();
    assert!(first <= RETRY);
    for _ in 0..12 {
        eyes.end(&requests[0], Fetched::Failed("again".into()));
    }
    let later = eyes.next(&requests).unwrap();
    assert!(later > RETRY * 2 && later <= LONGEST_RETRY, "{later:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_holds_nobody_up_and_is_told_of_when_it_is_known() {
    let eyes = Arc::new(Eyes::new().unwrap());
    // Takes connections in its queue and never answers.
    let listener = TcpListener::bind((pod(3, 1), 8080)).await.unwrap();
    let digest = serve_self_on(pod(3, 2)).await;
    let requests = [request(pod(3, 1)), request(pod(3, 2))];
    let (told, tells) = mpsc::channel();
    let tell: Tell = Arc::new(move |fetched, late| told.send((fetched.clone(), late)).unwrap());
    assert!(eyes.look(&requests, tell).await);
    assert!(!eyes.look(&requests, silent()).await, "they are being asked");
    let starts = || requests.iter().map(|request| &request.start);
    assert!(!eyes.found(starts()).contains_key(&requests[0].start));
    drop(listener);
    let end =
        tokio::task::spawn_blocking(move || [tells.recv().unwrap(), tells.recv().unwrap()]).await.unwrap();
    assert!(end.iter().any(|(fetched, _)| *fetched == Fetched::Whole(digest.clone())), "{end:?}");
    assert!(end.iter().any(|(fetched, late)| matches!(fetched, Fetched::Failed(_)) && *late), "{end:?}");
    eyes.keep(&BTreeSet::new());
    assert_eq!(eyes.remembered(), 0);
}
