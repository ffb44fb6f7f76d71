//! Keys of online collection, under `_quinistry/gc` and `_quinistry/trash`.

use std::fmt;

use quinistry_oci::{Digest, RepositoryName};

use super::{Key, ROOT};

/// Number of digits of an epoch's number in keys, so that the order of keys is that of numbers.
const EPOCH_DIGITS: usize = 10;

/// The folder of collection: a folder for each epoch, then `edges`.
pub(crate) fn collection() -> Key {
    Key(format!("{ROOT}/_quinistry/gc"))
}

/// Returns a key behind all keys of an epoch, and before those of the next one: `0` follows `/`.
pub(crate) fn behind_epoch(number: u64) -> Key {
    Key(format!("{}0", EpochKeys(number).folder()))
}

/// Returns the number of the epoch that a key of collection belongs to.
pub(crate) fn epoch_number(key: &Key) -> Option<u64> {
    let (number, _) = key.beneath(&collection())?;
    let is_number = number.len() == EPOCH_DIGITS && number.bytes().all(|digit| digit.is_ascii_digit());
    number.parse().ok().filter(|_| is_number)
}

/// The folder of the edges of all repositories.
pub(crate) fn all_edges() -> Key {
    collection().child("edges")
}

/// Returns the file of the edges of a repository: what each of its manifests refers to.
pub(crate) fn edges(repository: &RepositoryName) -> Key {
    let hash = Digest::sha256(repository.as_str().as_bytes());
    Key(format!("{}/{}/{}", all_edges(), &hash.hex()[..2], hash.hex()))
}

/// The folder of removed bytes: a folder for each epoch.
pub(crate) fn trash() -> Key {
    Key(format!("{ROOT}/_quinistry/trash"))
}

/// Returns the folder of the bytes that were removed because of an epoch.
pub(crate) fn trash_of(epoch: u64) -> Key {
    Key(format!("{}/{epoch:0EPOCH_DIGITS$}", trash()))
}

/// Returns the key of removed bytes.
pub(crate) fn trashed(epoch: u64, canonical: &Digest) -> Key {
    Key(format!("{}/{}", trash_of(epoch), canonical.hex()))
}

/// Returns the key whose time is that of the last removal to the trash because of an epoch.
pub(crate) fn trash_time(epoch: u64) -> Key {
    Key(format!("{}/moved", trash_of(epoch)))
}

/// Keys of an epoch. A shard is named `<kind>-<number>`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EpochKeys(pub(crate) u64);

impl EpochKeys {
    fn key(self, rest: impl fmt::Display) -> Key {
        Key(format!("{}/{rest}", self.folder()))
    }

    /// The folder of the epoch.
    pub(crate) fn folder(self) -> Key {
        Key(format!("{}/{:0EPOCH_DIGITS$}", collection(), self.0))
    }

    /// The register of the replica that marks.
    pub(crate) fn owner(self) -> Key {
        self.key("owner")
    }

    /// A list of condemned subjects.
    pub(crate) fn list(self, nonce: &str, shard: impl fmt::Display) -> Key {
        self.key(format_args!("list-{nonce}-{shard}"))
    }

    /// The hashes of all condemned subjects.
    pub(crate) fn hashes(self, nonce: &str) -> Key {
        self.key(format_args!("hashes-{nonce}"))
    }

    /// The register that closes the epoch.
    pub(crate) fn sealed(self) -> Key {
        self.key("sealed")
    }

    /// The folder of the revived subjects of a shard.
    pub(crate) fn alive(self, shard: impl fmt::Display) -> Key {
        self.key(format_args!("alive/{shard}"))
    }

    /// The register that begins the decision on a shard.
    pub(crate) fn doom(self, shard: impl fmt::Display) -> Key {
        self.key(format_args!("doom/{shard}"))
    }

    /// The register of the subjects of a shard that are removed.
    pub(crate) fn doomed(self, shard: impl fmt::Display) -> Key {
        self.key(format_args!("doomed/{shard}"))
    }

    /// The register that says that the doomed subjects of a shard are removed.
    pub(crate) fn done(self, shard: impl fmt::Display) -> Key {
        self.key(format_args!("done/{shard}"))
    }

    /// The folder of the terms of leaders that repeat the removals of a shard.
    pub(crate) fn again(self, shard: impl fmt::Display) -> Key {
        self.key(format_args!("again/{shard}"))
    }

    /// The register that says that the leader of a term has repeated the removals of a shard.
    pub(crate) fn ended(self, shard: impl fmt::Display, term: &str) -> Key {
        self.key(format_args!("ended/{shard}/{term}"))
    }

    /// The register that says that all shards are done.
    pub(crate) fn swept(self) -> Key {
        self.key("swept")
    }

    /// The report of the cycle.
    pub(crate) fn report(self) -> Key {
        self.key("report")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_an_epoch_are_found_by_its_number_and_lie_before_those_behind_it() {
        for number in [1, 9, 10, 4_000_000_000] {
            let keys = EpochKeys(number);
            for key in [keys.owner(), keys.swept(), keys.alive("r-0").child("ab"), keys.list("n", "b-3")] {
                assert_eq!(epoch_number(&key), Some(number), "{key}");
                assert!(key < behind_epoch(number) && behind_epoch(number) < EpochKeys(number + 1).owner());
            }
        }
        assert_eq!(epoch_number(&edges(&"a/b".parse().unwrap())), None);
    }
}
