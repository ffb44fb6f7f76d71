//! Starts and lists on a bucket of many objects, whose server answers at once.

use std::fs;
use std::time::Instant;

use quinistry::oci::Digest;

use super::registry::{Program, Pulls, Registry};
use super::store::versitygw::Versitygw;
use super::support;
use super::table::{Goal, Table};

/// Number of tags. Each has two objects.
const TAGS: usize = 100_000;
/// Number of tags of a page.
const PAGE: usize = 1000;
/// Number of measurements.
const ROUNDS: usize = 3;

/// Measures starts on an empty folder and on one of many tags, and the first page of the tags.
pub(crate) fn measure(table: &mut Table, store: &Versitygw) {
    plant(store, "many");
    let program = Program::Quinistry;
    for (root, what) in [("/none", "no object"), ("/many", "200,000 objects")] {
        let mut memory = 0.0;
        let starts = (0..ROUNDS).map(|_| {
            let begin = Instant::now();
            let registry = Registry::start(program, store.address, root, Pulls::Redirected);
            registry.ping();
            let taken = support::milliseconds(begin.elapsed());
            memory = registry.resident();
            taken
        });
        table.add(&format!("start on {what}"), program, starts.collect(), Some(Goal::Milliseconds(1000.0)));
        table.add_figure(&format!("memory after a start on {what}, MB"), program, memory);
    }
    let registry = Registry::start(program, store.address, "/many", Pulls::Redirected);
    let lists = (0..ROUNDS).map(|_| {
        let (taken, count) = registry.list_tags(PAGE);
        assert_eq!(count, PAGE);
        support::milliseconds(taken)
    });
    table.add("1,000 of 100,000 tags", program, lists.collect(), Some(Goal::Milliseconds(2000.0)));
}

/// Puts the objects of many tags into a folder of the bucket, past the server, which shows each file as an object.
fn plant(store: &Versitygw, root: &str) {
    let digest = Digest::sha256(b"{}");
    let manifests = store.objects().join(root).join("docker/registry/v2/repositories/app/_manifests");
    let link = |folder: String| {
        let folder = manifests.join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("link"), digest.as_str()).unwrap();
    };
    link(format!("revisions/sha256/{}", digest.hex()));
    for number in 0..TAGS {
        link(format!("tags/v{number:06}/current"));
        link(format!("tags/v{number:06}/index/sha256/{}", digest.hex()));
    }
}
