//! Verification of pods that listen on loopback addresses.

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

/// Returns a pod's address; each test has its own range.
const fn pod(test: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 88, test, number)
}

fn request(ip: Ipv4Addr) -> VerifyRequest {
    VerifyRequest { start: PodStart { uid: ip.to_string(), ..PodStart::default() }, ip: ip.to_string() }
}

fn no_callback() -> OnVerified {
    Arc::new(|_, _| {})
}

/// Responds as a registry does that holds one image.
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
    let verifier = Arc::new(Verifier::new().unwrap());
    let digest = serve_self_on(pod(1, 1)).await;
    let requests = [request(pod(1, 1))];
    assert!(verifier.verify(&requests, no_callback()).await);
    // The test executable is large; wait until it is hashed.
    let found = loop {
        let found = verifier.results(requests.iter().map(|request| &request.start));
        if !found.is_empty() {
            break found;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(found[&requests[0].start], FetchResult::Whole(digest));
    assert!(!verifier.verify(&requests, no_callback()).await, "it cannot change while it runs");
    assert_eq!(verifier.next_due(&requests), None);
    let restarted = VerifyRequest {
        start: PodStart { restarts: 1, ..requests[0].start.clone() },
        ip: requests[0].ip.clone(),
    };
    assert!(verifier.verify(&[restarted], no_callback()).await, "another start is another question");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_pod_is_retried_after_growing_pauses() {
    let verifier = Arc::new(Verifier::new().unwrap());
    let requests = [request(pod(2, 1))];
    assert_eq!(verifier.next_due(&requests), Some(Duration::ZERO), "who was never asked is due");
    assert!(verifier.verify(&requests, no_callback()).await);
    let found = verifier.results(requests.iter().map(|request| &request.start));
    assert!(
        matches!(&found[&requests[0].start], FetchResult::Failed(why) if why.contains("refused")),
        "{found:?}"
    );
    assert!(!verifier.verify(&requests, no_callback()).await, "not at once again");
    let first = verifier.next_due(&requests).unwrap();
    assert!(first <= FIRST_RETRY_DELAY);
    for _ in 0..12 {
        verifier.record(&requests[0], FetchResult::Failed("again".into()));
    }
    let later = verifier.next_due(&requests).unwrap();
    assert!(later > FIRST_RETRY_DELAY * 2 && later <= MAX_RETRY_DELAY, "{later:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_pod_blocks_no_caller_and_its_late_result_is_reported() {
    let verifier = Arc::new(Verifier::new().unwrap());
    // The listener queues connections and never responds.
    let listener = TcpListener::bind((pod(3, 1), 8080)).await.unwrap();
    let digest = serve_self_on(pod(3, 2)).await;
    let requests = [request(pod(3, 1)), request(pod(3, 2))];
    let (told, tells) = mpsc::channel();
    let tell: OnVerified = Arc::new(move |fetched, late| told.send((fetched.clone(), late)).unwrap());
    assert!(verifier.verify(&requests, tell).await);
    assert!(!verifier.verify(&requests, no_callback()).await, "they are being asked");
    let starts = || requests.iter().map(|request| &request.start);
    assert!(!verifier.results(starts()).contains_key(&requests[0].start));
    drop(listener);
    let end =
        tokio::task::spawn_blocking(move || [tells.recv().unwrap(), tells.recv().unwrap()]).await.unwrap();
    assert!(end.iter().any(|(fetched, _)| *fetched == FetchResult::Whole(digest.clone())), "{end:?}");
    assert!(end.iter().any(|(fetched, late)| matches!(fetched, FetchResult::Failed(_)) && *late), "{end:?}");
    verifier.retain(&BTreeSet::new());
    assert_eq!(verifier.len(), 0);
}
