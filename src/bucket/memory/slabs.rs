//! Blocks of memory, carved from slabs that the system gives and takes back as a whole.
//!
//! Buffers of many megabytes that are allocated and freed one by one by many threads would spread over the arenas of
//! the C library, which keep several times as much as is in use. A slab is so long that the C library always asks the
//! system for it, and its pages are in memory only once they were written.

use bytes::BytesMut;

/// Least length of a slab, in bytes. glibc takes memory of more than 32 MiB from the system, and gives it back, on
/// its own; below that the threshold moves up to the longest piece that was freed (`M_MMAP_THRESHOLD`, mallopt(3)).
const SLAB_BYTES: usize = 40 * 1024 * 1024;

/// Slabs of equal blocks.
#[derive(Debug)]
pub(super) struct Slabs {
    block_bytes: usize,
    /// Slabs by their number; `None` for one that was given back.
    slabs: Vec<Option<Slab>>,
}

#[derive(Debug)]
struct Slab {
    /// Memory that was never a block, so that the system need not have provided it yet.
    fresh: BytesMut,
    free: Vec<BytesMut>,
    /// Number of blocks that are in use.
    used: usize,
}

/// A block, which is empty and has the capacity of a block, and the number of its slab.
pub(super) type NumberedBlock = (usize, BytesMut);

// === impl Slabs ===

impl Slabs {
    pub(super) fn new(block_bytes: usize) -> Self {
        Self { block_bytes, slabs: Vec::new() }
    }

    /// Takes a block: one that was in use before, if there is one, so that few pages are touched.
    pub(super) fn take(&mut self) -> NumberedBlock {
        for (number, slab) in self.slabs.iter_mut().enumerate() {
            if let Some(slab) = slab
                && let Some(block) = slab.free.pop()
            {
                slab.used += 1;
                return (number, block);
            }
        }
        let has_fresh = |slab: &Option<Slab>| slab.as_ref().is_some_and(|slab| slab.fresh.capacity() > 0);
        let number = self.slabs.iter().position(has_fresh);
        let number = number.unwrap_or_else(|| self.add_slab());
        let slab = self.slabs[number].as_mut().expect("the slab was found or added");
        slab.used += 1;
        (number, slab.carve(self.block_bytes))
    }

    fn add_slab(&mut self) -> usize {
        let blocks = SLAB_BYTES.div_ceil(self.block_bytes);
        let slab =
            Slab { fresh: BytesMut::with_capacity(blocks * self.block_bytes), free: Vec::new(), used: 0 };
        let free = self.slabs.iter().position(Option::is_none);
        let number = free.unwrap_or(self.slabs.len());
        if free.is_none() {
            self.slabs.push(None);
        }
        self.slabs[number] = Some(slab);
        number
    }

    /// Gives a block back. A slab without a block in use goes back to the system.
    pub(super) fn give_back(&mut self, (number, mut block): NumberedBlock) {
        block.clear();
        let Some(place) = self.slabs.get_mut(number) else { return };
        let Some(slab) = place else { return };
        slab.used -= 1;
        slab.free.push(block);
        if slab.used == 0 {
            *place = None;
        }
    }

    /// Returns the number of slabs that the system has given.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.slabs.iter().flatten().count()
    }
}

// === impl Slab ===

impl Slab {
    /// Returns the first block of the fresh memory.
    fn carve(&mut self, block_bytes: usize) -> BytesMut {
        let rest = self.fresh.split_off(block_bytes);
        std::mem::replace(&mut self.fresh, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_BYTES: usize = 64 * 1024;

    #[test]
    fn blocks_are_disjoint_and_none_moves_when_it_is_filled() {
        let mut slabs = Slabs::new(BLOCK_BYTES);
        let mut blocks: Vec<NumberedBlock> = (0..1000).map(|_| slabs.take()).collect();
        for (mark, (_, block)) in (0_u32..).zip(&mut blocks) {
            let place = block.as_ptr();
            assert_eq!(block.capacity(), BLOCK_BYTES);
            block.extend(mark.to_le_bytes().iter().cycle().take(BLOCK_BYTES));
            assert_eq!(block.as_ptr(), place);
        }
        for (mark, (_, block)) in (0_u32..).zip(&blocks) {
            assert!(block.chunks(4).all(|bytes| bytes == mark.to_le_bytes()), "{mark}");
        }
        assert_eq!(slabs.count(), 2);
    }

    #[test]
    fn blocks_are_used_again_and_slabs_without_any_are_given_back() {
        let mut slabs = Slabs::new(BLOCK_BYTES);
        let first = slabs.take();
        let place = slabs.take();
        let address = place.1.as_ptr();
        slabs.give_back(place);
        let again = slabs.take();
        assert_eq!(again.1.as_ptr(), address);
        let others: Vec<_> = (0..1000).map(|_| slabs.take()).collect();
        assert_eq!(slabs.count(), 2);
        for block in others {
            slabs.give_back(block);
        }
        assert_eq!(slabs.count(), 1, "the first slab has blocks in use");
        slabs.give_back(first);
        slabs.give_back(again);
        assert_eq!(slabs.count(), 0);
    }
}
