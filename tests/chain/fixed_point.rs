//! The fixed point: a program that runs from the image serves the image, wherever and however it is started.

mod circumstances;
mod containers;
mod generations;

use crate::support::image::Unpacked;
use crate::support::server::Server;

/// The image that the program under test serves.
fn first_generation() -> Unpacked {
    Unpacked::pull(Server::start().peer)
}

/// Asserts that a running program serves `image`: says so, and hands it out.
#[track_caller]
fn assert_serves(server: &Server, image: &Unpacked) {
    assert_eq!(server.manifest, image.manifest);
    let next = Unpacked::pull(server.peer);
    assert_eq!(next.manifest, image.manifest);
    assert_eq!(next.process, image.process);
}
