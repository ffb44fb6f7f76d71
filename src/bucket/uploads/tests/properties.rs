//! Random chunks on random replicas.

use quinistry_oci::Digest;
use quinistry_store::Upload;

use super::{Bench, FOLDER, PART, bytes, patch, put, session};
use crate::testing::RequestKind;

/// Numbers that look random, of a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// Returns the bytes that the session's records hold beside their lines.
fn piece_bytes(bench: &Bench) -> usize {
    let is_record = |key: &String| key.starts_with(&format!("{FOLDER}/s."));
    let records = bench.mem().keys().into_iter().filter(is_record);
    let lengths = records.map(|key| {
        let record = bench.bytes(&key).unwrap();
        record.len() - 1 - record.iter().position(|byte| *byte == b'\n').unwrap()
    });
    lengths.sum()
}

/// Sends random chunks to replicas that `choose` picks, and checks the blob.
fn run(seed: u64, mut choose: impl FnMut(&Bench, &mut Vec<Box<dyn Upload>>, &mut Random) -> usize) {
    let bench = Bench::new();
    let mut random = Random(seed * 0x9e37_79b9 + 1);
    let mut replicas: Vec<Box<dyn Upload>> = (0..3).map(|_| session(&bench.replica())).collect();
    let all = bytes(random.below(12 * PART));
    // Small, middle and long chunks.
    let longest = [50, 400, 3 * PART][random.below(3)];
    let mut offset = 0;
    while offset < all.len() {
        let end = all.len().min(offset + 1 + random.below(longest));
        let replica = choose(&bench, &mut replicas, &mut random);
        let acknowledged = patch(&mut *replicas[replica], Some(offset as u64), &all[offset..end]).unwrap();
        assert_eq!(acknowledged, end as u64, "seed {seed}");
        offset = end;
        if random.below(12) == 0 {
            break;
        }
    }
    assert!(piece_bytes(&bench) <= offset, "seed {seed}: each byte is in one record at most");
    let parts = bench.bucket.log().counts().of(RequestKind::PutPart);
    assert!(parts <= offset / PART, "seed {seed}: each byte is in one part at most");
    let replica = choose(&bench, &mut replicas, &mut random);
    let digest = Digest::sha256(&all);
    assert!(put(&mut *replicas[replica], &all[offset..], &digest, "a/data").unwrap(), "seed {seed}");
    assert!(bench.bytes("a/data").unwrap() == all, "seed {seed}");
    bench.wait_until_cleared();
}

#[test]
fn chunks_of_any_length_make_the_blob_on_one_replica() {
    (0..100).for_each(|seed| run(seed, |_, _, _| 0));
}

#[test]
fn chunks_of_any_length_make_the_blob_on_many_replicas() {
    (0..150).for_each(|seed| run(seed, |_, replicas, random| random.below(replicas.len())));
}

#[test]
fn chunks_of_any_length_make_the_blob_on_replicas_that_are_restarted() {
    (0..150).for_each(|seed| {
        run(seed, |bench, replicas, random| {
            let replica = random.below(replicas.len());
            if random.below(3) == 0 {
                replicas[replica] = session(&bench.replica());
            }
            replica
        });
    });
}
