//! Every generation, pulled from the one before and run, serves what it was pulled as.

use crate::support::image::Unpacked;
use crate::support::process::command;
use crate::support::server::{PROGRAM, SERVE, Server};

/// The digest of each generation's image, each run from the layer of the one before.
fn generations(form: &str, media_type: &str) {
    let mut server = Server::launch(command(PROGRAM).args(SERVE).args(["--layer", form]));
    let mut digests = vec![server.manifest.clone()];
    for _ in 0..5 {
        let image = Unpacked::pull(server.peer);
        assert_eq!(image.media_type, media_type);
        server = Server::launch(&mut image.command());
        digests.push(server.manifest.clone());
    }
    assert_eq!(Unpacked::pull(server.peer).manifest, digests[0]);
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:#?}");
}

#[test]
fn five_generations_with_plain_layers_are_one_image() {
    generations("tar", "application/vnd.oci.image.layer.v1.tar");
}

#[test]
fn five_generations_with_gzip_layers_are_one_image() {
    generations("gzip", "application/vnd.oci.image.layer.v1.tar+gzip");
}

#[test]
fn the_program_in_the_layer_is_the_program() {
    let image = crate::fixed_point::first_generation();
    assert_eq!(std::fs::read(image.program()).unwrap(), std::fs::read(PROGRAM).unwrap());
}
