//! Tests of the room as a whole: the contract of a storage, on a bucket in memory and on versitygw; repetitions; and
//! the probe.

mod contract;
mod foreign_keys;
mod gateway;
mod probing;
mod repetitions;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use quinistry_store::{StorageError, Upload, UploadStart, Uploads};
use tokio::runtime::Runtime;

use crate::{Bucket, Governed, Objects, RepetitionPolicy, StoreAbilities};

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
    Bucket::new(governed(objects), RUNTIME.handle().clone(), StoreAbilities::ALL, Arc::new(NoUploads))
}

/// Uploads of a bucket that is tested without any.
#[derive(Debug)]
struct NoUploads;

impl Uploads for NoUploads {
    fn begin(&self, _: UploadStart<'_>) -> Result<Box<dyn Upload>, StorageError> {
        Err(StorageError::ReadOnly)
    }
}
