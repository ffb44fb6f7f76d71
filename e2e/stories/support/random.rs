//! A small generator of pseudorandom numbers: the same seed gives the same numbers.

/// State of the generator.
pub struct SeededRandom(u64);

impl SeededRandom {
    /// Creates a generator from `QUINISTRY_E2E_SEED` or the clock. Print the returned seed, so that the run
    /// can be repeated.
    pub fn new() -> (Self, u64) {
        let given = std::env::var("QUINISTRY_E2E_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |since| u64::from(since.subsec_nanos()))
        };
        let seed: u64 = given.unwrap_or_else(clock);
        // Zero would give zeros only.
        (Self(seed.max(1)), seed.max(1))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Returns the lowest byte of the next number.
    pub fn byte(&mut self) -> u8 {
        self.below(1 << 8).to_le_bytes()[0]
    }
}
