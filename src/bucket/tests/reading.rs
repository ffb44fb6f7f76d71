//! Reading of long objects: ranges, read-ahead, and its memory.

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use quinistry_oci::{Algorithm, Content, Digest};
use quinistry_store::{Key, Storage as _};

use super::RUNTIME;
use crate::testing::{Fault, FaultPlan, Faulty, Mem, RequestKind};
use crate::{Bucket, BucketUploads, Objects, StoreAbilities, TransferMemory, TransferOptions, UploadOptions};

const MIB: u64 = 1 << 20;

/// A bucket with one object of 21 MiB, and a memory for transfers.
struct Bench {
    objects: Arc<Faulty<Mem>>,
    bucket: Bucket,
    memory: TransferMemory,
    bytes: Bytes,
}

fn bench(memory_bytes: u64) -> Bench {
    let bytes: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(21 << 20).collect();
    let objects = Arc::new(Faulty::new(Mem::default(), FaultPlan::default()));
    objects.inner().plant("a/long", bytes.clone(), SystemTime::now());
    let memory = TransferMemory::new(memory_bytes);
    let options = UploadOptions {
        transfers: TransferOptions::default(),
        parts_may_differ: true,
        copies_parts: true,
        is_exclusive: false,
    };
    let shared: Arc<dyn Objects> = objects.clone();
    let handle = RUNTIME.handle();
    let uploads = BucketUploads::new(shared.clone(), handle.clone(), memory.clone(), options);
    let bucket = Bucket::new(shared, handle.clone(), StoreAbilities::ALL, memory.clone(), uploads);
    Bench { objects, bucket, memory, bytes: bytes.into() }
}

impl Bench {
    /// Returns the content, of which nothing was read.
    fn content(&self) -> Content {
        let key = Key::of_path("a/long".into()).unwrap();
        let meta = self.bucket.head(&key).unwrap().unwrap();
        self.objects.log().take();
        self.bucket.open_known(&key, &meta).unwrap().unwrap()
    }

    fn reads(&self) -> usize {
        self.objects.log().take().iter().filter(|request| request.kind == RequestKind::Get).count()
    }

    fn wait_until_free(&self) {
        let begun = Instant::now();
        while self.memory.free_bytes() < self.memory.size() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{:?} bytes are free",
                self.memory.free_bytes()
            );
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_long_object_is_read_ahead_and_whole() {
    let bench = bench(256 * MIB);
    let content = bench.content();
    assert_eq!(content.digest(Algorithm::Sha256).unwrap(), Digest::sha256(&bench.bytes));
    assert_eq!(bench.reads(), 6, "a MiB, and five times 4 MiB");
    drop(content);
    bench.wait_until_free();
}

#[test]
fn a_range_asks_for_no_byte_beyond_its_end() {
    let bench = bench(256 * MIB);
    let content = bench.content();
    for (range, reads) in [(5..6, 1), (MIB..2 * MIB, 1), (7..2 * MIB, 2), (20 * MIB - 3..21 * MIB, 2)] {
        let slice = content.slice(range.clone());
        let read: Vec<u8> = slice.chunks().flat_map(|chunk| chunk.unwrap().to_vec()).collect();
        let [begin, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
        assert!(read == bench.bytes[begin..end], "{range:?}");
        assert_eq!(bench.reads(), reads, "{range:?}");
    }
    assert_eq!(content.slice(0..0).chunks().count(), 0);
}

#[test]
fn memory_of_a_reader_that_leaves_is_free() {
    let bench = bench(256 * MIB);
    let mut chunks = bench.content().chunks();
    for _ in 0..20 {
        chunks.next().unwrap().unwrap();
    }
    assert!(bench.memory.free_bytes() < bench.memory.size(), "bytes are read ahead");
    drop(chunks);
    bench.wait_until_free();
}

#[test]
fn a_reader_without_memory_reads_on_and_gives_way_to_uploads() {
    let bench = bench(5 * MIB);
    let all = bench.memory.take_free(5 * MIB).unwrap();
    assert_eq!(bench.content().to_bytes().unwrap(), bench.bytes, "without any memory");
    drop(all);
    let mut read = Vec::new();
    for (number, chunk) in bench.content().chunks().enumerate() {
        read.extend_from_slice(&chunk.unwrap());
        if number == 30 {
            // The memory is that of the reader, which has read ahead.
            let taken = RUNTIME.block_on(bench.memory.take(5 * MIB));
            assert!(taken.is_ok());
        }
    }
    assert!(read == bench.bytes);
}

#[test]
fn bytes_that_are_there_are_read_without_a_wait() {
    let bench = bench(256 * MIB);
    let mut chunks = bench.content().chunks();
    assert!(chunks.try_next().is_pending(), "nothing was asked for");
    let mut read = chunks.next().unwrap().unwrap().to_vec();
    let mut waits = 0;
    loop {
        match chunks.try_next() {
            Poll::Ready(Some(chunk)) => read.extend_from_slice(&chunk.unwrap()),
            Poll::Ready(None) => break,
            Poll::Pending => {
                waits += 1;
                read.extend_from_slice(&chunks.next().unwrap().unwrap());
            }
        }
    }
    assert!(read == bench.bytes);
    assert!(waits <= 6, "{waits} waits: one for each request at most");
}

#[test]
fn an_object_that_was_replaced_or_a_request_that_fails_is_an_error() {
    let bench = bench(256 * MIB);
    let content = bench.content();
    bench.objects.plan().spoil(RequestKind::Get, "long", Fault::Unavailable, 1);
    assert!(content.to_bytes().is_err());
    assert_eq!(content.to_bytes().unwrap(), bench.bytes);
    bench.objects.inner().plant("a/long", vec![7; 21 << 20], SystemTime::now());
    assert!(content.to_bytes().is_err());
}
