//! Behaviours of uploads into a bucket in memory.

mod copies;
mod interrupted;
mod memory;
mod properties;
mod replicas;
mod sessions;
mod whole;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::{Key, NextRequest, StorageError, Upload, UploadId, UploadStart, Uploads as _};
use tokio::runtime::{Handle, Runtime};

use super::{BucketUploads, UploadOptions};
use crate::testing::{FaultPlan, Faulty, Mem, MemOptions, RequestCounts, StoreClock};
use crate::{TransferMemory, TransferOptions};

/// Length of a part in these tests, in bytes.
const PART: usize = 1000;

/// Length of a block of memory in these tests, in bytes.
const BLOCK: usize = 100;

/// Name of the session in these tests.
const ID: &str = "0a1b2c3d-0000-4000-8000-000000000000";

/// Folder of the session in these tests.
const FOLDER: &str = "docker/registry/v2/repositories/a/b/_uploads/0a1b2c3d-0000-4000-8000-000000000000";

/// A bucket in memory, and its replicas.
struct Bench {
    bucket: Arc<Faulty<Mem>>,
    options: UploadOptions,
    memory_bytes: u64,
}

fn runtime() -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap()).handle().clone()
}

impl Bench {
    fn new() -> Self {
        let options = MemOptions { min_part_bytes: PART as u64, ..MemOptions::default() };
        let mem = Mem::new(options, StoreClock::system());
        let transfers = TransferOptions {
            part_bytes: PART as u64,
            copy_threshold_bytes: 5 * PART as u64,
            copy_part_bytes: 2 * PART as u64,
            ..TransferOptions::default()
        };
        Self {
            bucket: Arc::new(Faulty::new(mem, FaultPlan::default())),
            options: UploadOptions {
                transfers,
                parts_may_differ: true,
                copies_parts: true,
                is_exclusive: false,
            },
            memory_bytes: 1 << 20,
        }
    }

    /// Returns a replica that has just started.
    fn replica(&self) -> BucketUploads {
        self.replica_of(&runtime())
    }

    /// Returns a replica whose requests end with a runtime.
    fn replica_of(&self, runtime: &Handle) -> BucketUploads {
        let memory = TransferMemory::with(self.memory_bytes, BLOCK, Duration::from_millis(10));
        BucketUploads::new(self.bucket.clone(), runtime.clone(), memory, self.options)
    }

    fn mem(&self) -> &Mem {
        self.bucket.inner()
    }

    /// Returns the requests since the last call.
    fn requests(&self) -> RequestCounts {
        self.bucket.log().take().iter().collect()
    }

    fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.mem().bytes(key)
    }

    /// Returns the names in the session's folder.
    fn session_names(&self) -> Vec<String> {
        let keys = self.mem().keys();
        keys.iter().filter_map(|key| Some(key.strip_prefix(FOLDER)?[1..].to_owned())).collect()
    }

    /// Waits until the objects of the session are removed, but for the mark of its end.
    fn wait_until_cleared(&self) {
        let begun = std::time::Instant::now();
        let is_mark =
            |name: &str| self.bytes(&format!("{FOLDER}/{name}")).is_some_and(|bytes| bytes.is_empty());
        while self.session_names().iter().any(|name| !is_mark(name)) || self.mem().pending_uploads() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", self.session_names());
            std::thread::yield_now();
        }
    }
}

fn key(path: &str) -> Key {
    Key::of_path(path.into()).unwrap()
}

fn repository() -> RepositoryName {
    "a/b".parse().unwrap()
}

/// Bytes that differ at each place.
fn bytes(length: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(length).collect()
}

/// Begins the session on a replica that knows nothing of it.
fn session(replica: &BucketUploads) -> Box<dyn Upload> {
    let id: UploadId = ID.parse().unwrap();
    let begun = SystemTime::now();
    replica
        .begin(UploadStart::Session { repository: &repository(), id: &id, begun, announced: None })
        .unwrap()
}

/// Sends a chunk to a replica that has the session, as PATCH does. Returns the offset after the chunk.
fn patch(upload: &mut dyn Upload, offset: Option<u64>, chunk: &[u8]) -> Result<u64, StorageError> {
    let next = NextRequest { offset, length: Some(chunk.len() as u64), ..NextRequest::default() };
    let at = upload.continue_with(next)?.expect("the session has not ended");
    if offset.is_some_and(|offset| offset != at) {
        return Err(StorageError::Overtaken);
    }
    upload.persist()?;
    for piece in chunk.chunks(300) {
        upload.append(piece)?;
    }
    let acknowledged = upload.acknowledge();
    upload.release();
    acknowledged
}

/// Sends the last chunk, as PUT does. Returns false if the session has ended.
fn put(upload: &mut dyn Upload, chunk: &[u8], digest: &Digest, to: &str) -> Result<bool, StorageError> {
    let to = key(to);
    let next =
        NextRequest { offset: None, length: Some(chunk.len() as u64), digest: Some(digest), key: Some(&to) };
    if upload.continue_with(next)?.is_none() {
        return Ok(false);
    }
    for piece in chunk.chunks(300) {
        upload.append(piece)?;
    }
    assert_eq!(upload.digest(digest.algorithm())?, *digest);
    upload.finish(&to, &[&[(key("a/link"), b"link")]])?;
    upload.abort()?;
    Ok(true)
}
