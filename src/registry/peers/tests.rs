//! Peers that lie, stall or lack content: what a client gets from the others.

mod scripted;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use quinistry_fetch::{FetchError, Peer};
use quinistry_oci::{Digest, RepositoryName};
use serde_json::{Value, json};

use self::scripted::{Script, ScriptedPeer};
use super::Peers;
use crate::upstreams::clock::Clock;

const CONFIG: &[u8] = b"{}";
const LAYER: &[u8] = &[7; 200_000];

/// Clock that a test moves, in seconds.
#[derive(Clone, Default)]
struct Seconds(Arc<AtomicU64>);

impl Seconds {
    fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }

    fn clock(&self) -> Clock {
        let (start, seconds) = (Instant::now(), self.0.clone());
        Clock::new(move || start + Duration::from_secs(seconds.load(Ordering::Relaxed)))
    }
}

fn name() -> RepositoryName {
    "ghcr.io/acme/shop".parse().unwrap()
}

fn peers(all: &[&Arc<ScriptedPeer>], seconds: &Seconds) -> Arc<Peers> {
    let all = all.iter().map(|peer| Arc::clone(peer) as Arc<dyn Peer>).collect();
    Arc::new(Peers::with_clock(all, None, seconds.clock()))
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len() })
}

fn image(layer: &[u8]) -> Bytes {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", CONFIG),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    manifest.to_string().into()
}

fn index(children: &[&Bytes]) -> Bytes {
    let children: Vec<Value> = children
        .iter()
        .map(|child| descriptor("application/vnd.oci.image.manifest.v1+json", child))
        .collect();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": children,
    });
    index.to_string().into()
}

/// Returns a peer that holds an image, its clock, the peers that serve the image, and its manifest.
async fn serving() -> (Arc<ScriptedPeer>, Seconds, Arc<Peers>, Bytes) {
    let (peer, seconds, manifest) = (ScriptedPeer::new("peer"), Seconds::default(), image(LAYER));
    let peers = peers(&[&peer], &seconds);
    for content in [&manifest[..], CONFIG, LAYER] {
        peer.holds(content);
    }
    assert!(is_served(&peers, &manifest).await);
    (peer, seconds, peers, manifest)
}

async fn is_served(peers: &Arc<Peers>, manifest: &Bytes) -> bool {
    let found = peers.complete_manifest(None, &name(), &Digest::sha256(manifest)).await.unwrap();
    found.is_some_and(|found| found.bytes == *manifest)
}

/// Reads a blob as a client does: its bytes, and the error that cuts it off, if any; `None` if no peer has it.
async fn read(peers: &Arc<Peers>, blob: &[u8]) -> Option<(Vec<u8>, Option<FetchError>)> {
    let digest = Digest::sha256(blob);
    let opened = peers.open_blob(&name(), &digest).await.unwrap()?;
    let observer = opened.observer(peers);
    let length = opened.fetched.length();
    let mut pieces = Box::pin(opened.fetched.read(0..length).into_stream());
    let mut read = Vec::new();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => read.extend_from_slice(&piece),
            Err(error) => {
                observer(&error);
                return Some((read, Some(error)));
            }
        }
    }
    Some((read, None))
}

async fn reads_whole(peers: &Arc<Peers>, blob: &[u8]) -> bool {
    read(peers, blob).await.is_some_and(|(bytes, error)| bytes == blob && error.is_none())
}

#[tokio::test]
async fn an_image_is_served_once_all_of_it_is_somewhere() {
    let (first, second, seconds) =
        (ScriptedPeer::new("first"), ScriptedPeer::new("second"), Seconds::default());
    let peers = peers(&[&first, &second], &seconds);
    let manifest = image(LAYER);
    first.holds(CONFIG);
    second.holds(&manifest);
    assert!(!is_served(&peers, &manifest).await);
    // Other bytes under the digest have another length.
    first.scripts(LAYER, Script::Claims(5));
    seconds.pass(2);
    assert!(!is_served(&peers, &manifest).await);
    second.holds(LAYER);
    seconds.pass(2);
    assert!(is_served(&peers, &manifest).await);
}

#[tokio::test]
async fn an_index_needs_the_children_that_are_there_and_one_at_least() {
    let (peer, seconds) = (ScriptedPeer::new("peer"), Seconds::default());
    let peers = peers(&[&peer], &seconds);
    let (here, elsewhere) = (image(LAYER), image(b"other"));
    let index = index(&[&elsewhere, &here]);
    peer.holds(&index);
    assert!(!is_served(&peers, &index).await, "no child is there");
    peer.holds(&here);
    peer.holds(CONFIG);
    seconds.pass(2);
    assert!(!is_served(&peers, &index).await, "the only child is not complete");
    peer.holds(LAYER);
    seconds.pass(2);
    assert!(is_served(&peers, &index).await, "a child may be missing");
    peer.holds(&elsewhere);
    seconds.pass(10);
    assert!(!is_served(&peers, &index).await, "a child that is there is not complete");
}

#[tokio::test]
async fn a_result_holds_for_ten_seconds() {
    let (peer, seconds, peers, manifest) = serving().await;
    assert_eq!(peer.take_asked(), 3);
    seconds.pass(9);
    assert!(is_served(&peers, &manifest).await);
    assert_eq!(peer.take_asked(), 0);
    seconds.pass(1);
    assert!(is_served(&peers, &manifest).await);
    assert_eq!(peer.take_asked(), 3);
}

#[tokio::test]
async fn a_manifest_of_other_bytes_is_asked_of_the_next_peer() {
    let (liar, honest, seconds) =
        (ScriptedPeer::new("liar"), ScriptedPeer::new("honest"), Seconds::default());
    let peers = peers(&[&liar, &honest], &seconds);
    let manifest = image(LAYER);
    liar.scripts(&manifest, Script::Sends(image(b"other")));
    for content in [&manifest[..], CONFIG, LAYER] {
        honest.holds(content);
    }
    assert!(is_served(&peers, &manifest).await);
}

#[tokio::test]
async fn a_peer_that_does_not_send_what_it_claims_makes_the_manifest_absent() {
    let (liar, seconds) = (ScriptedPeer::new("liar"), Seconds::default());
    let peers = peers(&[&liar], &seconds);
    let manifest = image(LAYER);
    liar.holds(&manifest);
    liar.holds(CONFIG);
    liar.scripts(LAYER, Script::Claims(LAYER.len() as u64));
    assert!(is_served(&peers, &manifest).await);
    assert!(read(&peers, LAYER).await.is_none());
    assert!(!is_served(&peers, &manifest).await);
    // The peer is believed again after ten seconds.
    liar.holds(LAYER);
    seconds.pass(10);
    assert!(is_served(&peers, &manifest).await && reads_whole(&peers, LAYER).await);
}

#[tokio::test]
async fn wrong_bytes_never_become_a_whole_blob_and_the_next_request_goes_to_another_peer() {
    let (liar, honest, seconds) =
        (ScriptedPeer::new("liar"), ScriptedPeer::new("honest"), Seconds::default());
    for wrong_at in [0, LAYER.len() / 2, LAYER.len() - 1] {
        let peers = peers(&[&liar, &honest], &seconds);
        honest.holds(LAYER);
        let mut wrong = LAYER.to_vec();
        wrong[wrong_at] ^= 1;
        liar.scripts(LAYER, Script::Sends(wrong.into()));
        let (bytes, error) = read(&peers, LAYER).await.unwrap();
        assert!(matches!(error, Some(FetchError::Lie { .. })), "{error:?}");
        assert!(bytes.len() < LAYER.len(), "{wrong_at}");
        assert!(reads_whole(&peers, LAYER).await, "{wrong_at}");
    }
}

#[tokio::test]
async fn an_honest_peer_is_not_blamed_for_the_bytes_of_another_one_that_has_gone_on() {
    let (honest, liar, seconds) =
        (ScriptedPeer::new("honest"), ScriptedPeer::new("liar"), Seconds::default());
    let peers = peers(&[&honest, &liar], &seconds);
    honest.scripts(LAYER, Script::CutThenDenies(100_000, 3, Arc::default()));
    let mut wrong = LAYER.to_vec();
    wrong[150_000] ^= 1;
    liar.scripts(LAYER, Script::Sends(wrong.into()));
    let (_, error) = read(&peers, LAYER).await.unwrap();
    assert!(matches!(error, Some(FetchError::Lie { .. })), "{error:?}");
    // A transfer that breaks then goes on at the same peer alone.
    honest.scripts(LAYER, Script::CutThenDenies(100_000, 3, Arc::default()));
    assert!(reads_whole(&peers, LAYER).await);
    // After a minute, it may go on at another one again.
    seconds.pass(60);
    liar.holds(LAYER);
    honest.scripts(LAYER, Script::CutAfter(100_000));
    assert!(reads_whole(&peers, LAYER).await);
}

#[tokio::test]
async fn a_lie_of_one_store_behind_an_address_does_not_take_the_others_away() {
    let (service, seconds) = (ScriptedPeer::new("service"), Seconds::default());
    let peers = peers(&[&service], &seconds);
    let mut wrong = LAYER.to_vec();
    wrong[150_000] ^= 1;
    service.scripts(LAYER, Script::Sends(wrong.clone().into()));
    assert!(matches!(read(&peers, LAYER).await, Some((_, Some(FetchError::Lie { .. })))));
    service.take_connections();
    service.holds(LAYER);
    assert!(reads_whole(&peers, LAYER).await);
    assert_eq!(service.take_connections(), 1, "the next attempt is a connection of its own");
    service.scripts(LAYER, Script::Sends(wrong.into()));
    while read(&peers, LAYER).await.is_some() {}
    service.holds(LAYER);
    assert!(read(&peers, LAYER).await.is_none(), "after three lies the address is not asked for a minute");
    seconds.pass(60);
    assert!(reads_whole(&peers, LAYER).await);
}

#[tokio::test]
async fn a_busy_peer_is_waited_for_and_else_the_client_comes_again() {
    let (busy, seconds) = (ScriptedPeer::new("busy"), Seconds::default());
    let peers = peers(&[&busy], &seconds);
    let manifest = image(LAYER);
    for content in [&manifest[..], CONFIG, LAYER] {
        busy.scripts(content, Script::Busy(2, content.to_vec().into(), Arc::default()));
    }
    assert!(is_served(&peers, &manifest).await);
    busy.scripts(LAYER, Script::Busy(2, LAYER.to_vec().into(), Arc::default()));
    assert!(reads_whole(&peers, LAYER).await);
    // A result that busy peers have prevented is not remembered.
    seconds.pass(10);
    busy.scripts(LAYER, Script::Busy(usize::MAX, LAYER.to_vec().into(), Arc::default()));
    let digest = Digest::sha256(&manifest);
    assert!(peers.complete_manifest(None, &name(), &digest).await.is_err());
    assert!(peers.open_blob(&name(), &Digest::sha256(LAYER)).await.is_err());
    busy.holds(LAYER);
    assert!(is_served(&peers, &manifest).await);
}

#[tokio::test]
async fn a_transfer_that_is_cut_off_goes_on_at_another_peer() {
    let (weak, strong, seconds) =
        (ScriptedPeer::new("weak"), ScriptedPeer::new("strong"), Seconds::default());
    let peers = peers(&[&weak, &strong], &seconds);
    weak.scripts(LAYER, Script::CutAfter(100_000));
    strong.holds(LAYER);
    assert!(reads_whole(&peers, LAYER).await);
}

#[tokio::test]
async fn a_silent_peer_is_passed_over() {
    let (silent, other, seconds) =
        (ScriptedPeer::new("silent"), ScriptedPeer::new("other"), Seconds::default());
    let peers = peers(&[&silent, &other], &seconds);
    let manifest = image(LAYER);
    for script in [Script::Silent, Script::SilentBody] {
        for content in [&manifest[..], CONFIG, LAYER] {
            silent.scripts(content, script.clone());
            other.holds(content);
        }
        assert!(is_served(&peers, &manifest).await && reads_whole(&peers, LAYER).await, "{script:?}");
        seconds.pass(60);
    }
}

#[tokio::test]
async fn a_slow_first_byte_is_waited_for_if_no_other_peer_has_the_blob() {
    let (slow, seconds) = (ScriptedPeer::new("slow"), Seconds::default());
    let peers = peers(&[&slow], &seconds);
    slow.scripts(LAYER, Script::SlowOnce(LAYER.to_vec().into(), Arc::default()));
    assert!(reads_whole(&peers, LAYER).await);
}

#[tokio::test]
async fn a_peer_that_refuses_connections_is_asked_last_for_some_seconds() {
    let (gone, other, seconds) = (ScriptedPeer::new("gone"), ScriptedPeer::new("other"), Seconds::default());
    let peers = peers(&[&gone, &other], &seconds);
    gone.scripts(LAYER, Script::Refuses);
    other.holds(LAYER);
    for _ in 0..5 {
        assert!(reads_whole(&peers, LAYER).await);
    }
    assert_eq!(gone.take_asked(), 3);
    seconds.pass(10);
    assert!(reads_whole(&peers, LAYER).await);
    assert_eq!(gone.take_asked(), 1);
}

#[tokio::test]
async fn an_address_whose_connections_fail_is_asked_six_times() {
    let (service, seconds) = (ScriptedPeer::new("service"), Seconds::default());
    let peers = peers(&[&service], &seconds);
    service.scripts(LAYER, Script::Refuses);
    for _ in 0..2 {
        assert!(read(&peers, LAYER).await.is_none());
    }
    assert_eq!(service.take_asked(), 6 + 6, "the first time, and while it is left out");
}

#[tokio::test]
async fn a_connection_that_fails_is_tried_once_more() {
    let (service, seconds) = (ScriptedPeer::new("service"), Seconds::default());
    let peers = peers(&[&service], &seconds);
    let manifest = image(LAYER);
    for content in [&manifest[..], CONFIG, LAYER] {
        service.scripts(content, Script::RefusesOnce(content.to_vec().into(), Arc::default()));
    }
    assert!(is_served(&peers, &manifest).await);
    service.scripts(LAYER, Script::RefusesOnce(LAYER.to_vec().into(), Arc::default()));
    assert!(reads_whole(&peers, LAYER).await);
}

/// Returns a script for content that some stores behind an address lack.
fn denied(times: usize, content: &[u8]) -> Script {
    Script::Denies(times, content.to_vec().into(), Arc::default())
}

#[tokio::test]
async fn a_denial_of_one_store_behind_an_address_is_asked_again_on_new_connections() {
    let (service, seconds) = (ScriptedPeer::new("service"), Seconds::default());
    let peers = peers(&[&service], &seconds);
    let manifest = image(LAYER);
    for content in [&manifest[..], CONFIG, LAYER] {
        service.scripts(content, denied(5, content));
    }
    assert!(is_served(&peers, &manifest).await);
    assert_eq!((service.take_asked(), service.take_connections()), (18, 15));
    // The address is still believed about the blob.
    service.scripts(LAYER, denied(5, LAYER));
    assert!(reads_whole(&peers, LAYER).await);
    assert!(is_served(&peers, &manifest).await);
    assert_eq!((service.take_asked(), service.take_connections()), (6, 5));
}

#[tokio::test]
async fn content_that_is_nowhere_takes_six_questions_and_then_none() {
    let (service, seconds) = (ScriptedPeer::new("service"), Seconds::default());
    let peers = peers(&[&service], &seconds);
    let manifest = image(LAYER);
    for _ in 0..2 {
        assert!(!is_served(&peers, &manifest).await);
    }
    assert_eq!(service.take_asked(), 6, "the result is remembered");
    assert!(read(&peers, LAYER).await.is_none());
    assert_eq!(service.take_asked(), 6);
}

#[tokio::test]
async fn a_peer_at_another_address_is_asked_before_a_denial_is_asked_again() {
    let (lacking, other, seconds) =
        (ScriptedPeer::new("lacking"), ScriptedPeer::new("other"), Seconds::default());
    let peers = peers(&[&lacking, &other], &seconds);
    other.holds(LAYER);
    assert!(reads_whole(&peers, LAYER).await);
    assert_eq!((lacking.take_asked(), lacking.take_connections()), (1, 0));
}

#[tokio::test]
async fn a_transfer_that_is_cut_off_goes_on_at_another_store_behind_the_address() {
    let (service, seconds) = (ScriptedPeer::new("service"), Seconds::default());
    let peers = peers(&[&service], &seconds);
    service.scripts(LAYER, Script::CutThenDenies(100_000, 3, Arc::default()));
    assert!(reads_whole(&peers, LAYER).await);
}

#[tokio::test]
async fn a_peer_that_is_left_out_is_asked_if_no_other_one_has_the_content() {
    let (peer, _, peers, manifest) = serving().await;
    peer.scripts(b"other", Script::Refuses);
    for _ in 0..3 {
        assert!(read(&peers, b"other").await.is_none());
    }
    assert!(is_served(&peers, &manifest).await && reads_whole(&peers, LAYER).await);
}

#[tokio::test]
async fn what_a_peer_says_of_one_repository_is_no_claim_about_another() {
    let (peer, _, peers, manifest) = serving().await;
    peer.scripts(LAYER, Script::Claims(LAYER.len() as u64));
    let elsewhere: RepositoryName = "another/name".parse().unwrap();
    assert!(peers.open_blob(&elsewhere, &Digest::sha256(LAYER)).await.unwrap().is_none());
    assert!(is_served(&peers, &manifest).await);
}

#[tokio::test]
async fn a_blob_of_unknown_length_is_not_there() {
    let (peer, seconds) = (ScriptedPeer::new("peer"), Seconds::default());
    let peers = peers(&[&peer], &seconds);
    peer.scripts(LAYER, Script::NoLength(LAYER.to_vec().into()));
    assert_eq!(peers.blob_length(&name(), &Digest::sha256(LAYER), None).await, Ok(None));
    assert!(read(&peers, LAYER).await.is_none());
}

#[tokio::test]
async fn an_empty_blob_is_served() {
    let (peer, seconds) = (ScriptedPeer::new("peer"), Seconds::default());
    let peers = peers(&[&peer], &seconds);
    peer.holds(b"");
    assert!(reads_whole(&peers, b"").await);
}
