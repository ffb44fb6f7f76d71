//! SHA-256, as FIPS 180-4 describes it, in safe Rust that needs no standard library and allocates nothing.
//!
//! Not the crate `sha2`, which the library uses: it detects features of the processor with `cpufeatures`,
//! which on aarch64 needs the C library, and the stub has none. Without special instructions of the
//! processor, which would need that detection too: ten megabytes are hashed once, in about 40 ms. Used by the
//! stub; the library compiles it for tests, which compare it with `sha2`.

/// Length of a block in bytes.
const BLOCK_BYTES: usize = 64;

/// The first 32 bits of the fractional parts of the square roots of the first 8 primes.
const INITIAL_STATE: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
const ROUND_CONSTANTS: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5, //
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174, //
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da, //
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967, //
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85, //
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070, //
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3, //
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2, //
];

/// State of a hash computation.
pub(crate) struct Sha256 {
    state: [u32; 8],
    /// Incomplete block: its first `buffered` bytes, fewer than a whole block.
    block: [u8; BLOCK_BYTES],
    buffered: usize,
    /// Number of bytes that were added.
    length: u64,
}

impl Sha256 {
    pub(crate) const fn new() -> Self {
        Self { state: INITIAL_STATE, block: [0; BLOCK_BYTES], buffered: 0, length: 0 }
    }

    /// Returns the number of bytes that were added.
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.length = self.length.wrapping_add(bytes.len() as u64);
        if self.buffered > 0 {
            let (filling, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.buffered));
            self.buffer(filling);
            if self.buffered < BLOCK_BYTES {
                return;
            }
            compress(&mut self.state, &self.block);
            self.buffered = 0;
            bytes = rest;
        }
        let (blocks, rest) = bytes.as_chunks();
        for block in blocks {
            compress(&mut self.state, block);
        }
        self.buffer(rest);
    }

    pub(crate) fn finish(mut self) -> [u8; 32] {
        let bits = self.length.wrapping_mul(8);
        // A single one bit, then zeros up to the length that ends the last block.
        let zeros = (2 * BLOCK_BYTES - 1 - 8 - self.buffered) % BLOCK_BYTES;
        self.update(&[0x80]);
        self.update([0; BLOCK_BYTES].split_at(zeros).0);
        self.update(&bits.to_be_bytes());
        let mut digest = [0; 32];
        for (to, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state) {
            *to = word.to_be_bytes();
        }
        digest
    }

    /// Appends bytes to the incomplete block. The caller makes sure that they fit.
    fn buffer(&mut self, bytes: &[u8]) {
        for (to, from) in self.block.iter_mut().skip(self.buffered).zip(bytes) {
            *to = *from;
        }
        self.buffered += bytes.len();
    }
}

/// FIPS 180-4, section 6.2.2.
#[expect(clippy::many_single_char_names, reason = "the standard's own names")]
fn compress(state: &mut [u32; 8], block: &[u8; BLOCK_BYTES]) {
    // The message schedule needs the last 16 words only.
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (round, constants) in ROUND_CONSTANTS.as_chunks::<16>().0.iter().enumerate() {
        for at in 0..16 {
            if round > 0 {
                let (early, late) = (words[(at + 1) % 16], words[(at + 14) % 16]);
                words[at] = words[at]
                    .wrapping_add(early.rotate_right(7) ^ early.rotate_right(18) ^ (early >> 3))
                    .wrapping_add(words[(at + 9) % 16])
                    .wrapping_add(late.rotate_right(17) ^ late.rotate_right(19) ^ (late >> 10));
            }
            let one = h
                .wrapping_add(e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25))
                .wrapping_add((e & f) ^ (!e & g))
                .wrapping_add(constants[at])
                .wrapping_add(words[at]);
            let two = (a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22))
                .wrapping_add((a & b) ^ (a & c) ^ (b & c));
            (h, g, f, e) = (g, f, e, d.wrapping_add(one));
            (d, c, b, a) = (c, b, a, one.wrapping_add(two));
        }
    }
    for (sum, word) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *sum = sum.wrapping_add(word);
    }
}

#[cfg(test)]
mod tests {
    use sha2::Digest as _;

    use super::Sha256;

    fn ours(pieces: &[&[u8]]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for piece in pieces {
            hash.update(piece);
        }
        assert_eq!(hash.length(), pieces.iter().map(|piece| piece.len() as u64).sum::<u64>());
        hash.finish()
    }

    /// Bytes without a pattern that a mistake in their order could hide behind.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn the_standards_own_example() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(ours(&[b"abc"]).map(|byte| format!("{byte:02x}")).concat(), expected);
    }

    #[test]
    fn equals_the_library_at_every_length_around_the_borders_of_blocks() {
        let bytes = noise(300 * 1024);
        for length in (0..=260).chain([65535, 65536, 65537, bytes.len() - 1, bytes.len()]) {
            let bytes = &bytes[bytes.len() - length..];
            assert_eq!(ours(&[bytes])[..], sha2::Sha256::digest(bytes)[..], "{length} bytes");
        }
    }

    #[test]
    fn where_the_bytes_are_cut_does_not_matter() {
        let bytes = noise(200);
        let expected = sha2::Sha256::digest(&bytes);
        for one in 0..=bytes.len() {
            for other in one..=bytes.len() {
                let pieces = [&bytes[..one], &bytes[one..other], &bytes[other..]];
                assert_eq!(ours(&pieces)[..], expected[..], "cut at {one} and {other}");
            }
        }
    }
}
