//! The executable in `ConfigMaps`: shares that are small enough for the API server, and one more for the
//! stub.
//!
//! Immutable, so that kubelets need not watch them. Named after the executable's digest, so that those of two
//! executables can exist at the same time during an upgrade. Built one at a time, since each is a megabyte.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use quinistry_oci::Content;
use quinistry_oci::{Algorithm, Digest};
use quinistry_quine::Executable;

use super::STUB;
use crate::api::names::APP;
use crate::api::names::annotations::PART_COUNT;
use crate::api::names::labels::{APP_COMPONENT, APP_NAME, NAME, SEED};

/// Length of a share in bytes; the last one may be shorter. A `ConfigMap` is limited to one mebibyte, and
/// base64 makes it a third longer on the wire.
pub const SEED_PART_BYTES: u64 = 768 * 1024;

/// Names of a seed's `ConfigMaps`, derived from the resource and the executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedNames {
    resource: String,
    short: String,
}

/// Content of one of the `ConfigMaps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeedPart {
    /// The program that assembles the shares.
    Stub,
    /// A share of the executable, counted from 0.
    Share(usize),
}

/// Executable that is split into `ConfigMaps`.
#[derive(Clone, Debug)]
pub struct SplitExecutable {
    names: SeedNames,
    executable: Content,
    digest: Digest,
    stub: Bytes,
}

// === impl SeedNames ===

impl SeedNames {
    /// Creates the names for a resource and an executable.
    #[must_use]
    pub fn new(resource: &str, executable: &Digest) -> Self {
        // A quarter of the SHA-256 is enough: after a collision the stub still refuses the wrong bytes by the
        // whole digest.
        Self { resource: resource.into(), short: executable.hex()[..16].into() }
    }

    /// Returns the name of one `ConfigMap`: `RESOURCE-seed-DIGEST-stub` or `RESOURCE-seed-DIGEST-NUMBER`.
    #[must_use]
    pub fn of(&self, part: SeedPart) -> String {
        let Self { resource, short } = self;
        match part {
            SeedPart::Stub => format!("{resource}-seed-{short}-stub"),
            SeedPart::Share(index) => format!("{resource}-seed-{short}-{index:03}"),
        }
    }

    /// Returns true if a `ConfigMap` of this name is a part of a seed of a resource; `seed` is the value of
    /// its label [`SEED`].
    #[must_use]
    pub fn are_of(resource: &str, seed: &str, name: &str) -> bool {
        let part = name.strip_prefix(resource).and_then(|rest| rest.strip_prefix("-seed-"));
        part.and_then(|rest| rest.strip_prefix(seed)).is_some_and(|rest| rest.starts_with('-'))
    }

    /// Returns the value of the label [`SEED`].
    #[must_use]
    pub fn seed(&self) -> &str {
        &self.short
    }

    /// Returns all parts of an executable with that number of shares, the stub first.
    pub fn parts(share_count: usize) -> impl Iterator<Item = SeedPart> {
        std::iter::once(SeedPart::Stub).chain((0..share_count).map(SeedPart::Share))
    }
}

impl SeedPart {
    /// Returns the only key in the data of the `ConfigMap`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Stub => "stub",
            Self::Share(_) => "piece",
        }
    }
}

// === impl SplitExecutable ===

impl SplitExecutable {
    /// Reads the executable once, for its digest.
    pub fn new(resource: &str, executable: Content, stub: Bytes) -> io::Result<Self> {
        let digest = executable.digest(Algorithm::Sha256)?;
        Ok(Self { names: SeedNames::new(resource, &digest), executable, digest, stub })
    }

    /// Splits the executable of this process, whose stub is compiled in.
    pub fn of_this(resource: &str, executable: &Executable) -> io::Result<Self> {
        Self::new(resource, executable.content().clone(), Bytes::from_static(STUB))
    }

    /// Returns this executable, split for a resource of another name.
    #[must_use]
    pub fn of(&self, resource: &str) -> Self {
        Self { names: SeedNames::new(resource, &self.digest), ..self.clone() }
    }

    /// Returns the executable's digest, as in `spec.seed.executable`.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the names of the `ConfigMaps`.
    #[must_use]
    pub const fn names(&self) -> &SeedNames {
        &self.names
    }

    /// Returns the number of shares.
    #[must_use]
    pub fn share_count(&self) -> usize {
        usize::try_from(self.executable.len().div_ceil(SEED_PART_BYTES)).expect("what is cut has an address")
    }

    /// Returns all parts, the stub first.
    pub fn parts(&self) -> impl Iterator<Item = SeedPart> {
        SeedNames::parts(self.share_count())
    }

    /// Returns the bytes of a part; none beyond the last share.
    pub fn bytes(&self, part: SeedPart) -> io::Result<Vec<u8>> {
        match part {
            SeedPart::Stub => Ok(self.stub.to_vec()),
            SeedPart::Share(index) => {
                let begin = (index as u64).saturating_mul(SEED_PART_BYTES).min(self.executable.len());
                let end = begin.saturating_add(SEED_PART_BYTES).min(self.executable.len());
                self.executable.slice(begin..end).to_bytes().map(|bytes| bytes.to_vec())
            }
        }
    }

    /// Builds the `ConfigMap` of a part. The owner is the resource; if `None`, the operator adds it later.
    pub fn config_map(
        &self,
        part: SeedPart,
        namespace: &str,
        owner: Option<OwnerReference>,
    ) -> io::Result<ConfigMap> {
        let labels = [
            (SEED, self.names.seed()),
            (NAME, &self.names.resource),
            (APP_NAME, APP),
            (APP_COMPONENT, "seed"),
        ];
        Ok(ConfigMap {
            metadata: ObjectMeta {
                name: Some(self.names.of(part)),
                namespace: Some(namespace.into()),
                labels: Some(labels.map(|(key, value)| (key.into(), value.into())).into()),
                annotations: Some(BTreeMap::from([(PART_COUNT.into(), self.share_count().to_string())])),
                owner_references: owner.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            immutable: Some(true),
            binary_data: Some(BTreeMap::from([(part.key().into(), ByteString(self.bytes(part)?))])),
            data: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(length: usize) -> (Vec<u8>, SplitExecutable) {
        let bytes: Vec<u8> = (0..length).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
        let split =
            SplitExecutable::new("larder", [bytes.clone().into()].into(), Bytes::from_static(b"stub"))
                .unwrap();
        (bytes, split)
    }

    #[test]
    fn the_pieces_are_the_executable() {
        let piece = usize::try_from(SEED_PART_BYTES).unwrap();
        for (length, pieces) in [(1, 1), (piece - 1, 1), (piece, 1), (piece + 1, 2), (3 * piece + 5, 4)] {
            let (bytes, split) = split(length);
            assert_eq!(split.share_count(), pieces);
            assert_eq!(split.digest(), &Digest::sha256(&bytes));
            let maps =
                (0..pieces).map(|index| split.config_map(SeedPart::Share(index), "pantry", None).unwrap());
            let data: Vec<u8> = maps.flat_map(|map| map.binary_data.unwrap()["piece"].0.clone()).collect();
            assert!(data == bytes, "{length} bytes");
            assert!(split.bytes(SeedPart::Share(pieces)).unwrap().is_empty());
        }
    }

    #[test]
    fn a_config_map_is_immutable_small_enough_and_named_by_content_and_index() {
        let (bytes, split) = split(usize::try_from(SEED_PART_BYTES).unwrap() + 1);
        let digest = Digest::sha256(&bytes);
        let short = &digest.hex()[..16];
        let maps: Vec<_> =
            split.parts().map(|part| split.config_map(part, "pantry", None).unwrap()).collect();
        let names: Vec<_> = maps.iter().map(|map| map.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["stub", "000", "001"].map(|end| format!("larder-seed-{short}-{end}")));
        for map in &maps {
            assert_eq!(map.immutable, Some(true));
            assert_eq!(map.metadata.labels.as_ref().unwrap()[SEED], short);
            assert_eq!(map.metadata.annotations.as_ref().unwrap()[PART_COUNT], "2");
            // In base64, below etcd's limit for one request.
            assert!(serde_json::to_vec(map).unwrap().len() < 1_500_000);
        }
    }
}
