//! Buffer in which bytes gather: those of a part, or those that are read ahead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Block, IdleMemory, Reservation, TransferMemory};
use crate::Payload;

/// Bytes, and the memory for more.
#[derive(Debug, Default)]
pub(crate) struct BlockBuffer {
    /// Blocks that are full.
    full: Payload,
    /// Block that is being filled.
    open: Option<Block>,
    reserved: Option<Reservation>,
}

/// Place of a buffer while its session waits for a request. The budget may take the buffer from there.
#[derive(Debug)]
pub(crate) struct IdleBuffer(Arc<Place>);

#[derive(Debug)]
struct Place(Mutex<Option<BlockBuffer>>);

// === impl BlockBuffer ===

impl BlockBuffer {
    /// Returns the number of bytes.
    pub(crate) fn length(&self) -> u64 {
        self.full.length() + self.open_bytes().len() as u64
    }

    fn open_bytes(&self) -> &[u8] {
        self.open.as_ref().map_or(&[], Block::as_slice)
    }

    /// Returns the number of bytes for which memory was taken and that are not written yet.
    pub(crate) fn room(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, |block| block.room() as u64);
        open + self.reserved.as_ref().map_or(0, Reservation::bytes)
    }

    /// Returns the number of bytes for which memory was taken.
    pub(crate) fn capacity(&self) -> u64 {
        self.length() + self.room()
    }

    pub(crate) fn grow(&mut self, more: Reservation) {
        match &mut self.reserved {
            Some(reserved) => reserved.add(more),
            none => *none = Some(more),
        }
    }

    /// Appends bytes, no more than there is room for.
    pub(crate) fn extend(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let open = match &mut self.open {
                Some(open) => open,
                none => {
                    let block = self.reserved.as_mut().and_then(Reservation::block);
                    none.insert(block.expect("memory was taken for the bytes"))
                }
            };
            let (now, later) = bytes.split_at(bytes.len().min(open.room()));
            open.extend(now);
            bytes = later;
            if open.room() == 0 {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.full.push(open.freeze());
        }
    }

    /// Takes the bytes out. The memory that was not used stays.
    pub(crate) fn take(&mut self) -> Payload {
        self.close();
        std::mem::take(&mut self.full)
    }

    /// Returns the bytes from `start` on, which stay in the buffer, too: full blocks are shared, and the last bytes
    /// are copied into a block of `memory`, or else of the memory that the buffer has not used. `None` if there is none.
    pub(crate) fn share(&mut self, start: u64, memory: &TransferMemory) -> Option<Payload> {
        let mut shared = self.full.clone();
        let length = self.open_bytes().len() as u64;
        if length > 0 {
            let free = memory.try_take(length).and_then(|mut taken| taken.block());
            let mut copy = free.or_else(|| self.reserved.as_mut().and_then(Reservation::block))?;
            copy.extend(self.open_bytes());
            shared.push(copy.freeze());
        }
        shared.advance(start);
        Some(shared)
    }

    /// Returns the bytes, piece by piece.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.full.pieces().map(Bytes::as_ref).chain([self.open_bytes()])
    }

    /// Leaves the buffer where the budget can take it, until the session goes on.
    pub(crate) fn park(self, memory: &TransferMemory) -> IdleBuffer {
        let place = Arc::new(Place(Mutex::new(Some(self))));
        let weak = Arc::downgrade(&place);
        memory.add_idle(weak);
        IdleBuffer(place)
    }
}

// === impl Place ===

impl Place {
    fn buffer(&self) -> MutexGuard<'_, Option<BlockBuffer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdleMemory for Place {
    fn free(&self) -> bool {
        self.buffer().take().is_some()
    }
}

// === impl IdleBuffer ===

impl IdleBuffer {
    /// Takes the buffer back; `None` if the budget has taken it.
    pub(crate) fn take(&self) -> Option<BlockBuffer> {
        self.0.buffer().take()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn buffer(memory: &TransferMemory, bytes: &[u8]) -> BlockBuffer {
        let mut buffer = BlockBuffer::default();
        buffer.grow(memory.try_take(50).unwrap());
        buffer.extend(bytes);
        buffer
    }

    #[test]
    fn bytes_gather_within_the_memory_that_was_taken() {
        let memory = TransferMemory::with(100, 10, Duration::ZERO);
        let mut buffer = buffer(&memory, b"0123456");
        buffer.extend(b"789abcdefghijklm");
        assert_eq!((buffer.length(), buffer.room(), buffer.capacity()), (23, 27, 50));
        assert_eq!(buffer.pieces().collect::<Vec<_>>().concat(), b"0123456789abcdefghijklm");
        let part = buffer.take();
        assert_eq!((part.length(), part.pieces().count()), (23, 3));
        assert_eq!((buffer.length(), buffer.room(), memory.free_bytes()), (0, 20, 50));
        drop(part);
        assert_eq!(memory.free_bytes(), 80, "the memory that was not used stays with the buffer");
    }

    #[test]
    fn bytes_are_shared_and_the_buffer_goes_on() {
        let memory = TransferMemory::with(60, 10, Duration::ZERO);
        let mut buffer = buffer(&memory, b"0123456789abc");
        let shared = buffer.share(4, &memory).unwrap();
        buffer.extend(b"def");
        assert_eq!((&shared.to_vec()[..], buffer.room()), (&b"456789abc"[..], 34));
        let others: Vec<Payload> = (0..3).map(|_| buffer.share(10, &memory).unwrap()).collect();
        assert_eq!((&others[2].to_vec()[..], buffer.room()), (&b"abcdef"[..], 4));
        assert!(buffer.share(4, &memory).is_none(), "no memory for the copy");
        drop((shared, others));
        assert_eq!(buffer.share(12, &memory).unwrap().to_vec(), b"cdef");
        assert_eq!(buffer.take().to_vec(), b"0123456789abcdef");
    }

    #[tokio::test]
    async fn idle_buffers_make_place_and_are_taken_back_until_then() {
        let memory = TransferMemory::with(100, 10, Duration::ZERO);
        let [first, second] = [&b"first"[..], b"second"].map(|bytes| buffer(&memory, bytes).park(&memory));
        let taken = memory.take(40).await.unwrap();
        assert!(first.take().is_none(), "the longest idle buffer makes place");
        assert_eq!(second.take().unwrap().take().to_vec(), b"second");
        drop(taken);
        assert_eq!(memory.free_bytes(), 100);
    }
}
