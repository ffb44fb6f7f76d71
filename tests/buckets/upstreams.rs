//! A registry that pulls through is killed again and again, while copies are fetched and while they are evicted: on a
//! folder, and on a bucket. No client ends with a wrong byte, and what clients have pushed stays.

use std::io;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tempfile::TempDir;

use crate::attempt::{Attempts, Outcome, Replicas};
use crate::client::{Client, MANIFEST, Way};
use crate::stores::{Replica, ReplicaSettings};
use crate::support::http::{Connection, Peer, TEST_TIMEOUT, request};
use crate::support::images::{Image, Packing, tar_of};
use crate::support::process::isolated_command;
use crate::support::server::{PROGRAM, SERVE, Server};
use crate::support::versitygw::{Versitygw, section};

/// Length of the layer of each image, in bytes.
const LAYER_BYTES: usize = 2 << 20;

/// Images that the upstream gets for each life of the registry.
const IMAGES: usize = 3;

/// Most pushes of one life: each is pulled after every death that follows.
const MOST_PUSHES: usize = 24;

/// Repository of the upstream, and its name at the registry.
const APP: &str = "team/app";
const COPIED: &str = "hub/team/app";

/// Times after which a copy goes, and after which the bytes that nothing needs go.
const SHORT: [(&str, &str); 2] = [("QUINISTRY_GC_MIN_GRACE", "1"), ("QUINISTRY_GC_VIEW_LIFETIME", "1")];

/// Event at which the registry is killed.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// A client has read this number of pieces.
    Pieces(usize),
    /// An eviction has removed its first copy.
    Eviction,
}

/// Registry that is asked for what the other one lacks; it does not die.
struct Origin {
    server: Server,
    _folder: TempDir,
}

/// Images of the upstream, and those that clients have pushed to the registry by an acknowledged push.
#[derive(Default)]
struct Images {
    of_upstream: Vec<(String, Image)>,
    pushed: Vec<(String, Image)>,
}

impl Origin {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut start = isolated_command(PROGRAM);
        start.args(SERVE).arg("--storage").arg(folder.path());
        Self { server: Server::launch(&mut start), _folder: folder }
    }

    /// Makes images, and pushes them.
    fn publish(&self, life: usize, images: &mut Images) {
        let client = Client::new(&[self.server.peer], APP);
        for number in 0..IMAGES {
            let tag = format!("{life}-{number}");
            let image = image(&tag);
            client.push(Way::Put, &tag, &image);
            images.of_upstream.push((tag, image));
        }
    }

    /// Starts the registry on a storage.
    fn mirror(&self, section: &str) -> Replica {
        let sections = format!(
            "quinistry:\n  gc: {{writers: ours, interval: 1s, grace: 1s}}\n  upstreams:\n  - {{prefix: hub, remoteurl: \
             'http://{}', insecure: true, keep: 1s}}\n",
            self.server.peer.0
        );
        let settings = ReplicaSettings {
            storage: ", redirect: {disable: true}",
            sections: &sections,
            variables: &SHORT,
            ..ReplicaSettings::default()
        };
        Replica::with(section, settings)
    }
}

/// Returns an image whose layer has bytes that no other one has.
fn image(tag: &str) -> Image {
    let line = format!("{tag}\n");
    let text = line.repeat(LAYER_BYTES / line.len());
    Image::of_tars("amd64", &[tar_of("file", text.as_bytes())], Packing::Plain)
}

/// Reads content of the upstream, and compares it. Fails if the registry dies before the end.
fn read(peer: Peer, rest: &str, expected: &[u8], pieces: &Sender<()>) -> io::Result<()> {
    let mut connection = Connection::over(TcpStream::connect(peer.0)?, TEST_TIMEOUT, 8 << 10);
    let target = format!("/v2/{COPIED}/{rest}");
    connection.send(&request("GET", &target, &[("Accept", MANIFEST)], b""))?;
    let (status, headers) = connection.head()?;
    let mut body = Vec::new();
    connection.body(&headers, |piece| {
        body.extend_from_slice(piece);
        // The test may have seen enough.
        let _ = pieces.send(());
    })?;
    assert_eq!(status, 200, "{target}: {}", String::from_utf8_lossy(&body));
    assert!(body == expected, "{target}: other bytes");
    Ok(())
}

/// Pulls images until the registry dies.
fn pull_until_death(peer: Peer, images: &[(String, Image)], pieces: &Sender<()>) {
    let pull = |(tag, image): &(String, Image)| -> io::Result<()> {
        read(peer, &format!("manifests/{tag}"), &image.manifest, pieces)?;
        for (descriptor, bytes) in image.blobs() {
            read(peer, &format!("blobs/{}", descriptor.digest), bytes, pieces)?;
        }
        Ok(())
    };
    while images.iter().all(|image| pull(image).is_ok()) {}
}

/// Pushes images until the registry dies, and returns those whose pushes were acknowledged. Copies share their bytes.
fn push_until_death(peer: Peer, life: usize, images: &[(String, Image)]) -> Vec<(String, Image)> {
    let replicas = Replicas::new(&[peer]);
    let attempts = Attempts { replicas: &replicas, repository: APP };
    let mut acknowledged = Vec::new();
    for number in 0..MOST_PUSHES {
        let (_, image) = &images[number % images.len()];
        if !image.blobs().all(|(_, bytes)| attempts.push_blob(Way::Patch, bytes)) {
            break;
        }
        let tag = format!("pushed-{life}-{number}");
        match attempts.put_manifest(&tag, &image.manifest) {
            Outcome::Lost(_) => break,
            // The collection may be faster than the client.
            Outcome::Answered(answer) if answer.status == 404 => {}
            Outcome::Answered(answer) => {
                assert_eq!(answer.status, 201, "{answer:?}");
                acknowledged.push((tag, image.clone()));
            }
        }
    }
    acknowledged
}

/// Lets the registry live until an event, under pulls and pushes.
fn live(registry: Replica, life: usize, images: &mut Images, death: Death) {
    let (peer, fresh) = (registry.peer(), images.of_upstream.len() - IMAGES);
    let fresh = &images.of_upstream[fresh..];
    let (sender, pieces) = channel();
    let pushed = thread::scope(|scope| {
        let pusher = scope.spawn(|| push_until_death(peer, life, fresh));
        let puller = scope.spawn(move || pull_until_death(peer, fresh, &sender));
        match death {
            Death::Pieces(count) => wait(&pieces, count),
            Death::Eviction => {
                registry.server.log_line("eviction of copies of upstream hub");
            }
        }
        drop(registry);
        puller.join().unwrap();
        pusher.join().unwrap()
    });
    images.pushed.extend(pushed);
}

/// Waits for pieces, at most until their sender has failed.
fn wait(pieces: &Receiver<()>, count: usize) {
    let _ = pieces.iter().take(count).count();
}

fn check_pushed(registry: &Replica, images: &Images) {
    let client = Client::new(&[registry.peer()], APP);
    for (tag, image) in &images.pushed {
        client.assert_image(tag, image);
    }
}

fn deaths(usual: usize) -> usize {
    if std::env::var_os("QUINISTRY_TESTS_KILLS").is_some() { 100 } else { usual }
}

/// Kills the registry, and checks after each death what clients have pushed, and in the end all copies.
fn kill_again_and_again(section: &str, deaths: impl Iterator<Item = Death>) {
    let (origin, mut images) = (Origin::start(), Images::default());
    for (life, death) in deaths.enumerate() {
        origin.publish(life, &mut images);
        let registry = origin.mirror(section);
        check_pushed(&registry, &images);
        live(registry, life, &mut images, death);
    }
    let registry = origin.mirror(section);
    check_pushed(&registry, &images);
    assert!(!images.pushed.is_empty(), "pushes are acknowledged");
    let client = Client::new(&[registry.peer()], COPIED);
    for (tag, image) in &images.of_upstream {
        client.assert_image(tag, image);
    }
    // What clients have pushed needs no upstream.
    drop(origin);
    check_pushed(&registry, &images);
}

/// Returns a number of pieces that differs from life to life, up to that of all images.
fn pieces(life: usize) -> Death {
    const PIECE_BYTES: usize = 8 << 10;
    Death::Pieces((life + 1) * 37 * 8 % (IMAGES * LAYER_BYTES / PIECE_BYTES))
}

#[test]
fn row_165_a_registry_on_a_folder_that_is_killed_while_it_fetches_and_evicts_loses_no_push() {
    let folder = tempfile::tempdir().unwrap();
    let section = format!("filesystem: {{rootdirectory: '{}'}}", folder.path().display());
    let death = |life: usize| if life % 2 == 1 { Death::Eviction } else { pieces(life) };
    kill_again_and_again(&section, (0..deaths(6)).map(death));
}

#[test]
fn a_registry_on_a_bucket_that_is_killed_while_it_fetches_loses_no_push() {
    let Some(store) = Versitygw::start() else { return };
    // Another leader evicts only when the term of the killed one is over.
    kill_again_and_again(&section(store.address, ""), (0..deaths(4)).map(pieces));
}
