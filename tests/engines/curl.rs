//! curl and tar: what one sees of the registry with nothing but a shell.

use crate::machine::Machine;
use crate::program::{lacks, own};

fn layer_listing(layer: &str) -> Option<String> {
    if lacks(&["tar"]) {
        return None;
    }
    let mut machine = Machine::start();
    machine.registry(8080, &["--layer", layer]);
    let manifest: serde_json::Value =
        serde_json::from_str(&own(&["image", "manifest", "--layer", layer])).unwrap();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap();
    let mut curl = machine.command("curl");
    curl.args(["-sSf", &format!("http://localhost:8080/v2/quinistry/blobs/{digest}")]);
    let mut tar = machine.command("tar");
    tar.args(["--numeric-owner", "--utc", "-tv"]).args((layer == "gzip").then_some("-z"));
    Some(Machine::pipe(curl, tar))
}

/// Mode, owner, date and name of each entry; the executable's size differs from build to build.
fn without_sizes(listing: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let line =
        |words: Vec<String>| format!("{} {} {} {} {}", words[0], words[1], words[3], words[4], words[5]);
    listing.lines().map(words).map(line).collect()
}

const CONTENTS: [&str; 9] = [
    "drwxr-xr-x 65532/65532 1970-01-01 00:00 data/",
    "drwxr-xr-x 0/0 1970-01-01 00:00 etc/",
    "-rw-r--r-- 0/0 1970-01-01 00:00 etc/group",
    "-rw-r--r-- 0/0 1970-01-01 00:00 etc/passwd",
    "-rwxr-xr-x 0/0 1970-01-01 00:00 quinistry",
    "drwxrwxrwt 0/0 1970-01-01 00:00 tmp/",
    "drwxr-xr-x 0/0 1970-01-01 00:00 var/",
    "drwxr-xr-x 0/0 1970-01-01 00:00 var/lib/",
    "drwxr-xr-x 65532/65532 1970-01-01 00:00 var/lib/registry/",
];

#[test]
fn the_layer_is_a_tar_of_the_program_and_little_else() {
    let Some(listing) = layer_listing("tar") else { return };
    assert_eq!(without_sizes(&listing), CONTENTS);
}

#[test]
fn the_gzip_layer_holds_the_same() {
    let Some(listing) = layer_listing("gzip") else { return };
    assert_eq!(without_sizes(&listing), CONTENTS);
}
