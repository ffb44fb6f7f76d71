//! Tests of the room as a whole: the contract of a storage, on a bucket in memory and on versitygw; repetitions;
//! stores that contradict themselves; and the probe.

mod azurite;
mod contract;
mod contradictions;
mod empty_pages;
mod expiry;
mod federation;
mod fences;
mod foreign_keys;
mod gateway;
mod hashes;
mod parts;
mod probing;
mod program;
mod reading;
mod repetitions;
mod scripted;
mod settings;
mod substitutes;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::{
    Bucket, BucketUploads, Governed, Objects, RepetitionPolicy, StoreAbilities, TransferMemory,
    TransferOptions, UploadOptions,
};

pub(crate) use self::gateway::client;

/// Runtime of all tests, which themselves block.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
});

/// Repetitions without long pauses.
const HASTY: RepetitionPolicy =
    RepetitionPolicy { max_repetitions: 8, first_pause: Duration::from_millis(1) };

fn governed(objects: Arc<dyn Objects>) -> Arc<Governed> {
    Arc::new(Governed::new(objects, HASTY))
}

fn bucket(objects: Arc<dyn Objects>) -> Bucket {
    able_bucket(objects, StoreAbilities::ALL)
}

fn able_bucket(objects: Arc<dyn Objects>, abilities: StoreAbilities) -> Bucket {
    let objects = Arc::new(Governed::new(objects, HASTY).with_abilities(abilities));
    let transfers = TransferOptions::default();
    let memory = TransferMemory::new(transfers.memory_bytes);
    let options = UploadOptions {
        transfers,
        parts_may_differ: true,
        copies_parts: abilities.copies_parts,
        is_exclusive: false,
    };
    let uploads = BucketUploads::new(objects.clone(), RUNTIME.handle().clone(), memory.clone(), options);
    Bucket::new(objects, RUNTIME.handle().clone(), abilities, memory, uploads)
}
