//! Reader of an object: the first MiB comes from one request as the reader takes it, what follows is read ahead by
//! several requests at once.
//!
//! Read-ahead is memory that is only useful: where none is free, the reader goes on with one request after the other,
//! and an upload that needs memory takes that of a reader, which asks for the bytes again.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{BoxStream, StreamExt as _};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::memory::{BlockBuffer, IdleMemory, Reservation};
use crate::{Object, ObjectError, ObjectErrorKind, Objects, Payload, TransferMemory};

/// Bytes of the first request of a reader, which are not read ahead: most clients that read ranges want fewer.
const FIRST_BYTES: u64 = 1024 * 1024;

/// Bytes of each request that reads ahead.
const WINDOW_BYTES: u64 = 4 * 1024 * 1024;

/// Number of requests that read ahead for one reader at the same time.
const WINDOWS: usize = 4;

/// Bytes of a request of a reader for which no memory is free.
const UNBUFFERED_BYTES: u64 = 16 * 1024 * 1024;

/// An object, and means to read it.
pub(super) struct Source {
    pub(super) objects: Arc<dyn Objects>,
    pub(super) runtime: Handle,
    pub(super) memory: TransferMemory,
    pub(super) key: String,
    /// Version of the object. Bytes of another one are an error.
    pub(super) version: String,
}

/// Place of a reading between two calls. The budget may take the memory from there.
#[derive(Default)]
pub(super) struct ReadingPlace(Mutex<Place>);

#[derive(Default)]
struct Place {
    reading: Option<Reading>,
    /// The budget knows that there is memory.
    is_listed: bool,
}

/// State of a reader.
struct Reading {
    begin: u64,
    /// Offset of the next byte.
    next: u64,
    end: u64,
    /// Bytes that follow, in memory.
    ready: Payload,
    /// Body of a request, whose bytes follow those in memory.
    body: Option<BoxStream<'static, Result<Bytes, ObjectError>>>,
    body_end: u64,
    /// Requests whose bytes follow those of the body, in order.
    windows: VecDeque<Window>,
    /// Offset up to which bytes have been asked for.
    requested: u64,
}

/// Range that is read ahead; given up when dropped.
struct Window(JoinHandle<Result<Payload, ObjectError>>);

impl Drop for Window {
    fn drop(&mut self) {
        self.0.abort();
    }
}

// === impl Source ===

impl Source {
    async fn request(&self, range: Range<u64>) -> Result<Object, ObjectError> {
        let object = self.objects.get(&self.key, Some(range.clone()), None).await?;
        if object.meta.version != self.version || object.range != range {
            let message = format!("GET {}: the object was replaced while it was read", self.key);
            return Err(ObjectError::new(ObjectErrorKind::Refused, message));
        }
        Ok(object)
    }

    /// Reads a range into memory.
    async fn read_ahead(&self, range: Range<u64>, memory: Reservation) -> Result<Payload, ObjectError> {
        let mut body = self.request(range.clone()).await?.body;
        let mut buffer = BlockBuffer::default();
        buffer.grow(memory);
        let mut left = range.end - range.start;
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| self.other_length())?;
            buffer.extend(&chunk);
        }
        if left == 0 { Ok(buffer.take()) } else { Err(self.other_length()) }
    }

    fn other_length(&self) -> ObjectError {
        let message = format!("GET {}: the answer has another length than the range", self.key);
        ObjectError::new(ObjectErrorKind::Unknown, message)
    }
}

// === impl ReadingPlace ===

impl ReadingPlace {
    /// Reads the first bytes of a range, one at least, for a reader that goes on up to `end`.
    pub(super) async fn read(
        self: &Arc<Self>,
        source: &Arc<Source>,
        range: Range<u64>,
        end: u64,
    ) -> Result<Bytes, ObjectError> {
        let known = self.place().reading.take();
        let known = known.filter(|known| known.next == range.start && known.end == end);
        let mut reading = known.unwrap_or_else(|| Reading::new(range.start, end));
        reading.read_ahead(source);
        reading.fill(source).await?;
        let bytes = reading.take(range.end - range.start);
        self.keep(source, reading);
        Ok(bytes)
    }

    /// Reads the first bytes of a range, if they are there.
    pub(super) fn try_read(self: &Arc<Self>, source: &Arc<Source>, range: Range<u64>) -> Option<Bytes> {
        let reading = self.place().reading.take();
        let mut reading = reading.filter(|known| known.next == range.start)?;
        let _runtime = source.runtime.enter();
        reading.read_ahead(source);
        // The call that waits asks again for bytes whose request failed.
        let is_there = matches!(reading.receive(source).now_or_never(), Some(Ok(true)));
        let bytes = is_there.then(|| reading.take(range.end - range.start));
        self.keep(source, reading);
        bytes
    }

    /// Keeps the state for the next call.
    fn keep(self: &Arc<Self>, source: &Source, reading: Reading) {
        let mut place = self.place();
        let must_list = !place.is_listed && reading.holds_memory();
        place.is_listed |= must_list;
        place.reading = Some(reading);
        drop(place);
        if must_list {
            let weak: Weak<Self> = Arc::downgrade(self);
            source.memory.add_idle(weak);
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdleMemory for ReadingPlace {
    /// Gives up what was read ahead. The reader asks for the bytes again.
    fn free(&self) -> bool {
        let mut place = self.place();
        place.is_listed = false;
        let reading = place.reading.take_if(|reading| reading.holds_memory());
        drop(place);
        reading.is_some()
    }
}

// === impl Reading ===

impl Reading {
    fn new(begin: u64, end: u64) -> Self {
        Self {
            begin,
            next: begin,
            end,
            ready: Payload::default(),
            body: None,
            body_end: begin,
            windows: VecDeque::new(),
            requested: begin,
        }
    }

    fn holds_memory(&self) -> bool {
        !self.windows.is_empty() || !self.ready.is_empty()
    }

    /// Asks for the bytes after those that were asked for, as far as there is memory.
    fn read_ahead(&mut self, source: &Arc<Source>) {
        // A reader that takes nothing gets nothing read ahead.
        if self.next == self.begin {
            return;
        }
        while self.windows.len() < WINDOWS && self.requested < self.end {
            let range = self.requested..self.end.min(self.requested + WINDOW_BYTES);
            let Some(memory) = source.memory.take_free(range.end - range.start) else { return };
            self.requested = range.end;
            let source = source.clone();
            let runtime = source.runtime.clone();
            let read = async move { source.read_ahead(range, memory).await };
            self.windows.push_back(Window(runtime.spawn(read)));
        }
    }

    /// Waits until the next bytes are in memory.
    async fn fill(&mut self, source: &Source) -> Result<(), ObjectError> {
        while !self.receive(source).await? {
            let length = if self.next == self.begin { FIRST_BYTES } else { UNBUFFERED_BYTES };
            let range = self.next..self.end.min(self.next + length);
            self.body = Some(source.request(range.clone()).await?.body);
            self.requested = range.end;
            self.body_end = range.end;
        }
        Ok(())
    }

    /// Waits for the next bytes that were asked for. Returns false if none were. May be given up at any time. After an
    /// error, nothing is asked for.
    async fn receive(&mut self, source: &Source) -> Result<bool, ObjectError> {
        let received = self.receive_next(source).await;
        if received.is_err() {
            (self.body, self.requested) = (None, self.next);
            self.windows.clear();
        }
        received
    }

    async fn receive_next(&mut self, source: &Source) -> Result<bool, ObjectError> {
        while self.ready.is_empty() {
            if let Some(body) = &mut self.body {
                match body.next().await {
                    Some(chunk) => self.ready.push(chunk?),
                    None if self.next == self.body_end => self.body = None,
                    None => return Err(source.other_length()),
                }
            } else if let Some(window) = self.windows.front_mut() {
                let read = (&mut window.0).await;
                self.windows.pop_front();
                self.ready = read.unwrap_or_else(|_| Err(source.other_length()))?;
            } else {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes the next bytes out, `most` at most.
    fn take(&mut self, most: u64) -> Bytes {
        let bytes = self.ready.take_piece(most);
        self.next += bytes.len() as u64;
        bytes
    }
}
