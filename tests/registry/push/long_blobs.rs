//! Long blobs on a disk, which the kernel sends from their files.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use quinistry::oci::Digest;

use crate::push::registry::Registry;
use crate::support::http::request;

/// Bytes of which no two pages are equal.
fn bytes(length: usize) -> Vec<u8> {
    (1_u32..).flat_map(u32::to_le_bytes).take(length).collect()
}

#[test]
fn every_answer_on_one_connection_has_the_bytes_that_were_pushed() {
    let registry = Registry::on_disk();
    let repository = registry.repository("long");
    let bytes = bytes(1_500_003);
    let path = repository.path(&format!("blobs/{}", repository.push_blob(&bytes)));
    let mut connection = repository.peer.connect();
    let mut get = |range: &str| connection.ask(&request("GET", &path, &[("Range", range)], b""));
    for _ in 0..2 {
        let whole = get("none");
        assert!(whole.status == 200 && whole.body == bytes);
        for (first, end) in [(0, 1), (0, 262_144), (262_143, 524_289), (4097, 69_633), (1_490_000, 1_500_003)]
        {
            let part = get(&format!("bytes={first}-{}", end - 1));
            assert!(part.status == 206 && part.body == bytes[first..end], "{first}..{end}");
        }
        let many = get("bytes=10-300000,1000000-1499999,5-6");
        assert_eq!(many.status, 206);
        for part in [&bytes[10..=300_000], &bytes[1_000_000..1_500_000]] {
            let first = many.body.windows(64).position(|window| *window == part[..64]);
            assert!(first.is_some_and(|first| many.body[first..].starts_with(part)));
        }
    }
    let requests = [request("HEAD", &path, &[], b""), request("GET", &path, &[], b"")].concat();
    connection.send(&requests).unwrap();
    let head = connection.answer(true).unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("1500003")));
    assert!(connection.answer(false).unwrap().body == bytes);
}

#[test]
fn an_answer_is_cut_off_when_its_file_is_written_to() {
    let registry = Registry::on_disk();
    let repository = registry.repository("long");
    let writes: [fn(&std::fs::File, u64); 2] = [
        |file, length| file.set_len(length - 1).unwrap(),
        |file, length| file.write_all_at(b"x", length - 1).unwrap(),
    ];
    for (number, write) in (0..).zip(writes) {
        let mut bytes = bytes(32 << 20);
        bytes[0] = number;
        let digest = repository.push_blob(&bytes);
        let mut connection = repository.peer.connect();
        let path = repository.path(&format!("blobs/{digest}"));
        connection.send(&request("GET", &path, &[], b"")).unwrap();
        let (status, headers) = connection.head().unwrap();
        assert_eq!(status, 200);
        write(&OpenOptions::new().write(true).open(data(&registry, &digest)).unwrap(), bytes.len() as u64);
        let mut received = Vec::new();
        let whole = connection.body(&headers, |piece| received.extend_from_slice(piece));
        assert!(whole.is_err() && bytes.starts_with(&received), "{} bytes", received.len());
    }
}

fn data(registry: &Registry, digest: &Digest) -> std::path::PathBuf {
    let hex = digest.hex();
    registry.folder().join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
}
