//! Chance that can be repeated.

/// The seed where none is given: one that is known to reach everything.
const SEED: u64 = 3;

/// xorshift64*.
pub struct Chance(u64);

impl Chance {
    /// From `PREPULL_SEED`, which is printed so that a failure can be repeated.
    pub fn from_environment() -> Self {
        let seed = std::env::var("PREPULL_SEED").map_or(SEED, |it| {
            it.parse().unwrap_or_else(|err| panic!("PREPULL_SEED `{it}` is no number: {err}"))
        });
        println!("PREPULL_SEED={seed}");
        // A seed of zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    pub fn percent(&mut self, likelihood: usize) -> bool {
        self.below(100) < likelihood
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}
