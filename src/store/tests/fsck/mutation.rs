//! Random bytes in random files: each examination ends, and says the same twice.

use std::fs;

use super::healthy::Healthy;
use super::{copy, files, folder, look_at, names, repair};

/// Number of damaged stores.
const ROUNDS: u64 = 60;

/// Generator of numbers that is the same everywhere (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 11).unwrap() % bound.max(1)
    }
}

#[test]
fn random_damage_is_examined_and_repaired_without_an_end() {
    let healthy = Healthy::new();
    let all: Vec<_> = files(healthy.path()).into_iter().collect();
    for round in 1..=ROUNDS {
        let mut random = Random(round);
        let copied = healthy.copy();
        for _ in 0..=random.below(6) {
            let (key, bytes) = &all[random.below(all.len())];
            let mut bytes = bytes.clone();
            match random.below(5) {
                0 => bytes.truncate(random.below(bytes.len())),
                1 => bytes.extend((0..random.below(3000)).map(|_| random.next().to_le_bytes()[0])),
                2 => bytes = all[random.below(all.len())].1.clone(),
                _ => {
                    for _ in 0..=random.below(4) {
                        let at = random.below(bytes.len());
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte = random.next().to_le_bytes()[0];
                        }
                    }
                }
            }
            let path = copied.path().join(key);
            if random.below(10) == 0 {
                let _ = fs::remove_file(path);
            } else {
                fs::write(path, bytes).unwrap();
            }
        }
        let found = names(&look_at(copied.path()));
        assert_eq!(found, names(&look_at(copied.path())), "round {round}");
        let changed = files(copied.path()).into_iter().any(|(key, bytes)| {
            let is_content = key.contains("/blobs/");
            is_content && all.iter().any(|(other, was)| *other == key && *was != bytes)
        });
        assert!(!changed || !found.is_empty(), "round {round}: damaged content is not named");
        let again = folder();
        copy(copied.path(), again.path());
        repair(again.path());
        let left = look_at(again.path());
        repair(again.path());
        assert_eq!(
            names(&left),
            names(&look_at(again.path())),
            "round {round}: a second repair changes something"
        );
    }
}
