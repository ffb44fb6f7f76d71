//! Each way to fail has a code of its own and one line that says what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use quinistry::oci::Digest;
use quinistry::seed::exit;

use crate::stub::pod::Pod;
use crate::support::process::{command, output};

#[test]
fn too_few_arguments() {
    let pod = Pod::of(b"any", 3);
    pod.assert_fails(&mut pod.bare(), exit::USAGE, &["usage: stub sha256:"]);
    pod.assert_fails(pod.bare().arg(pod.digest()), exit::USAGE, &["usage"]);
    pod.assert_fails(pod.bare().arg(pod.digest()).arg(pod.pieces()), exit::USAGE, &["usage"]);
}

#[test]
fn no_digest() {
    let pod = Pod::of(b"any", 3);
    let (good, long) = (pod.digest(), "x".repeat(5000));
    let (upper, other) = (good.to_uppercase().replace("SHA", "sha"), good.replace("256", "512"));
    let (short, longer) = (&good[..good.len() - 1], format!("{good}0"));
    for bad in
        ["", "sha256:", &good[7..], short, &longer, &upper, &other, &good.replace(':', "-"), "a\nb", &long]
    {
        let mut command = pod.bare();
        command.arg(bad).args([pod.pieces(), pod.scratch()]);
        pod.assert_fails(&mut command, exit::NOT_A_DIGEST, &[&bad.replace('\n', "?")[..bad.len().min(1000)]]);
    }
}

#[test]
fn no_pieces() {
    let pod = Pod::of(b"", 1);
    let restore = "the operator, or 'quinistry up', restores it";
    pod.assert_fails(&mut pod.stubbed(), exit::NO_PIECES, &[pod.pieces().to_str().unwrap(), restore]);
    fs::write(pod.piece(1), b"").unwrap();
    pod.assert_fails(&mut pod.stubbed(), exit::NO_PIECES, &["no piece 000"]);
    fs::remove_dir_all(pod.pieces()).unwrap();
    pod.assert_fails(&mut pod.stubbed(), exit::OPEN_FOLDER, &["pieces: errno 2 (ENOENT)"]);
}

#[test]
fn a_piece_that_cannot_be_opened() {
    let pod = Pod::of(b"abc", 1);
    fs::set_permissions(pod.piece(1), fs::Permissions::from_mode(0o000)).unwrap();
    pod.assert_fails(&mut pod.stubbed(), exit::OPEN_PIECE, &["pieces/001: errno 13 (EACCES)"]);
    fs::remove_dir_all(pod.pieces()).unwrap();
    fs::write(pod.pieces(), "").unwrap();
    pod.assert_fails(&mut pod.stubbed(), exit::OPEN_PIECE, &["pieces/000: errno 20 (ENOTDIR)"]);
}

#[test]
fn a_piece_that_cannot_be_read() {
    let pod = Pod::of(b"abc", 1);
    fs::remove_file(pod.piece(2)).unwrap();
    fs::create_dir(pod.piece(2)).unwrap();
    pod.assert_fails(&mut pod.stubbed(), exit::READ_PIECE, &["pieces/002: errno 21 (EISDIR)"]);
}

/// Asserts that the stub refuses the parts and prints the digest that it found instead.
#[track_caller]
fn assert_wrong(pod: &Pod, found: &[u8], pieces: usize) {
    let found = format!("expected {}, found {} in {pieces} pieces of ", pod.digest(), Digest::sha256(found));
    let restore = "; a ConfigMap was altered or is missing; the operator, or 'quinistry up', restores it";
    pod.assert_fails(&mut pod.stubbed(), exit::WRONG_DIGEST, &[&found, restore]);
}

#[test]
fn other_bytes_than_were_asked_for() {
    let pod = Pod::of(b"abcdefghij", 3);
    fs::write(pod.piece(4), "k").unwrap();
    assert_wrong(&pod, b"abcdefghijk", 5);
    pod.assert_fails(&mut pod.stubbed(), exit::WRONG_DIGEST, &[", 11 bytes"]);
    fs::remove_file(pod.piece(4)).unwrap();
    fs::write(pod.piece(1), "dEf").unwrap();
    assert_wrong(&pod, b"abcdEfghij", 4);
    fs::remove_file(pod.piece(1)).unwrap();
    assert_wrong(&pod, b"abc", 1);
    fs::write(pod.piece(0), "").unwrap();
    assert_wrong(&pod, b"", 1);
}

#[test]
fn what_is_no_executable() {
    let pod = Pod::of(&[b'x'; 1000], 300);
    pod.assert_fails(
        &mut pod.stubbed(),
        exit::EXECUTE,
        &["from memory: errno 8 (ENOEXEC); the pieces are no executable"],
    );
    // A script's interpreter could not open the file in memory, which is closed by then.
    let pod = Pod::of(b"#!/bin/sh\ntrue\n", 300);
    pod.assert_fails(&mut pod.stubbed(), exit::EXECUTE, &["from memory: errno 2 (ENOENT)"]);
}

#[test]
fn no_room() {
    let pod = Pod::of(&[b'x'; 10_000], 5000);
    // A file may have one block of 512 bytes, and who ignores the signal gets an error.
    let mut limited = command("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"]);
    limited.arg(pod.stub()).arg(pod.digest()).args([pod.pieces(), pod.scratch()]);
    pod.assert_fails(&mut limited, exit::WRITE, &["errno 27", "memory limit"]);
}

#[test]
fn the_line_is_one_and_ends() {
    let pod = Pod::of(b"abc", 1);
    let folder = pod.pieces().join("a\nb\x1b[0m\u{e9}");
    let long = pod.pieces().join("x".repeat(4090));
    let mut command = pod.bare();
    command.args([pod.digest().as_ref(), folder.as_os_str(), pod.scratch().as_os_str()]);
    pod.assert_fails(&mut command, exit::OPEN_FOLDER, &["pieces/a?b?[0m\u{e9}: errno 2"]);
    let mut command = pod.bare();
    command.args([pod.digest().as_ref(), long.as_os_str(), pod.scratch().as_os_str()]);
    let output = output(&mut command).unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(exit::OPEN_FOLDER), 2048));
    let line = String::from_utf8(output.stderr).unwrap();
    let (_, shown) = line.split_once("folder of pieces ").unwrap();
    assert!(long.to_str().unwrap().starts_with(shown.trim_end()));
}

#[test]
fn no_two_failures_have_the_same_code_nor_one_of_somebody_else() {
    let mut codes = [
        exit::USAGE,
        exit::NOT_A_DIGEST,
        exit::OPEN_FOLDER,
        exit::NO_PIECES,
        exit::OPEN_PIECE,
        exit::READ_PIECE,
        exit::CREATE,
        exit::REMOVE,
        exit::REOPEN,
        exit::WRITE,
        exit::WRONG_DIGEST,
        exit::EXECUTE,
        exit::BUG,
    ];
    codes.sort_unstable();
    assert!(codes.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(codes.iter().all(|code| (80..100).contains(code)));
}
