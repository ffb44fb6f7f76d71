//! Peers that lie: no client ever gets a complete wrong blob, and an honest peer makes up for them.

use quinistry::oci::Digest;

use super::cluster::{Download, Generation, Store, path, until};
use crate::support::images::{Image, Packing};
use crate::support::scripted_registry::{Answer, Gate, Request, ScriptedRegistry};

/// Answers to a request for a layer.
#[derive(Clone, Copy, Debug)]
enum Lie {
    WrongFirstByte,
    WrongMiddle,
    WrongLastByte,
    /// A part of the layer, with its own length.
    Short,
    /// The layer and more.
    Long,
    /// The announced length does not come.
    Cut,
    /// A page in the place of a registry.
    Html,
    /// No answer.
    Stalls,
    /// 200 for HEAD, and 404 for GET.
    HeadAlone,
    /// An error with the bytes of the layer.
    Unavailable,
}

const LIES: [Lie; 10] = [
    Lie::WrongFirstByte,
    Lie::WrongMiddle,
    Lie::WrongLastByte,
    Lie::Short,
    Lie::Long,
    Lie::Cut,
    Lie::Html,
    Lie::Stalls,
    Lie::HeadAlone,
    Lie::Unavailable,
];

/// An image whose layer takes several writes and reads.
fn image() -> Image {
    let noise: Vec<u8> =
        (0_u32..300_000).map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    Image::of_tars("amd64", &[noise], Packing::Plain)
}

/// Starts a peer that has an image, and lies about its layer.
fn liar(image: &Image, lie: Lie) -> ScriptedRegistry {
    let (image, never) = (image.clone(), Gate::of(usize::MAX));
    ScriptedRegistry::start(move |request| {
        let (layer, bytes) = &image.layers[0];
        let content =
            [(&image.descriptor, &image.manifest), (&image.config.0, &image.config.1), (layer, bytes)];
        let found =
            content.into_iter().find(|(descriptor, _)| request.path().ends_with(descriptor.digest.as_str()));
        let Some((descriptor, content)) = found else { return Answer::new(404) };
        let answer = |content: &[u8]| {
            Answer::ok(content)
                .with("Content-Type", &descriptor.media_type)
                .with("Docker-Content-Digest", &descriptor.digest)
        };
        if descriptor.digest == layer.digest {
            lying(lie, request, bytes, &never, answer)
        } else {
            answer(content)
        }
    })
}

fn lying(
    lie: Lie,
    request: &Request,
    bytes: &[u8],
    never: &Gate,
    answer: impl Fn(&[u8]) -> Answer,
) -> Answer {
    let wrong_at = |place: usize| {
        let mut wrong = bytes.to_vec();
        wrong[place] ^= 1;
        answer(&wrong)
    };
    match lie {
        Lie::WrongFirstByte => wrong_at(0),
        Lie::WrongMiddle => wrong_at(bytes.len() / 2),
        Lie::WrongLastByte => wrong_at(bytes.len() - 1),
        Lie::Short => answer(&bytes[..bytes.len() - 1000]),
        Lie::Long => answer(&[bytes, &b"more"[..]].concat()),
        Lie::Cut => answer(bytes).cut_after(bytes.len() / 2),
        Lie::Html => Answer::ok("<html>Log in to the network</html>").with("Content-Type", "text/html"),
        Lie::Stalls => answer(bytes).behind(never),
        Lie::HeadAlone if request.method == "GET" => Answer::new(404),
        Lie::HeadAlone => answer(bytes),
        Lie::Unavailable => Answer::new(503).body(bytes),
    }
}

#[test]
fn no_lie_becomes_a_whole_blob_and_an_honest_peer_makes_up_for_it() {
    let image = image();
    let store = Store::start(&[]);
    store.push(&image);
    let (layer, bytes) = &image.layers[0];
    let address = store.address();
    std::thread::scope(|scope| {
        for lie in LIES {
            let (image, address) = (&image, &address);
            scope.spawn(move || {
                let liar = liar(image, lie);
                let peers = format!("http://{},{address}", liar.host);
                let generation = Generation::start(&[&peers], &[]);
                // A client may be cut off once; what it tries next succeeds.
                let first = generation.download(&path("blobs", &layer.digest));
                let is_right = first == Download::Whole(bytes.clone());
                assert!(is_right || first == Download::Cut, "{lie:?}: {first:?}");
                if !is_right {
                    generation.pulls(image);
                }
                generation.pulls(image);
                assert!(
                    liar.asked().iter().all(|asked| asked.starts_with("GET ") || asked.starts_with("HEAD "))
                );
            });
        }
    });
}

#[test]
fn a_peer_that_has_no_right_bytes_gives_no_blob() {
    let image = image();
    let layer = &image.layers[0].0;
    // The others take the patience for stalls, which the test above has.
    for lie in [Lie::WrongLastByte, Lie::Short, Lie::Long, Lie::Html, Lie::HeadAlone, Lie::Unavailable] {
        let liar = liar(&image, lie);
        let generation = Generation::start(&[&format!("http://{}", liar.host)], &[]);
        let manifest = path("manifests", &image.descriptor.digest);
        // Served if the peer claims the layer.
        generation.head(&manifest);
        // The peer is not believed for some seconds, and then again, on a machine that is as slow as that.
        until("the manifest is not served", || {
            let download = generation.download(&path("blobs", &layer.digest));
            assert!(!matches!(download, Download::Whole(_)), "{lie:?}");
            generation.get(&manifest).status == 404
        });
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let image = image();
    let store = Store::start(&[]);
    store.push(&image);
    let target = store.address();
    let peer = ScriptedRegistry::start(move |request| {
        Answer::new(307).with("Location", format!("{target}{}", request.target))
    });
    let generation = Generation::start(&[&format!("http://{}", peer.host)], &[]);
    generation.get(&path("manifests", &image.descriptor.digest)).assert_refused(404, "MANIFEST_UNKNOWN");
    generation.get(&path("blobs", &image.layers[0].0.digest)).assert_refused(404, "BLOB_UNKNOWN");
}

#[test]
fn a_wrong_manifest_is_not_served() {
    let image = image();
    let (manifest, digest) = (image.manifest.clone(), Digest::sha256(b"another manifest"));
    let named = digest.clone();
    let peer = ScriptedRegistry::start(move |_| {
        Answer::ok(manifest.clone())
            .with("Content-Type", "application/vnd.oci.image.manifest.v1+json")
            .with("Docker-Content-Digest", &named)
    });
    let generation = Generation::start(&[&format!("http://{}", peer.host)], &[]);
    generation.get(&path("manifests", &digest)).assert_refused(404, "MANIFEST_UNKNOWN");
    generation.server().log_line("peer sent a wrong manifest");
}
