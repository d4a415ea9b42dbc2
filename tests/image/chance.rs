//! Chance that can be repeated: the same seed is the same choices.

use std::env;

/// The environment variable that names another seed than the usual one.
const SEED: &str = "PREPULL_SEED";

/// xorshift64*.
pub struct Chance(u64);

impl Chance {
    /// Starts from the seed of the environment, or else from the usual one, and prints it.
    pub fn seeded() -> Self {
        let seed = env::var(SEED).map_or(1, |it| {
            it.parse().unwrap_or_else(|err| panic!("{SEED}: `{it}` is no number: {err}"))
        });
        println!("seed {seed}; {SEED}={seed} repeats this run");
        Self(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below the bound.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// True in so many cases of a hundred.
    pub fn percent(&mut self, cases: usize) -> bool {
        self.below(100) < cases
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// So many characters of an alphabet.
    pub fn text(&mut self, alphabet: &str, length: usize) -> String {
        let alphabet: Vec<_> = alphabet.chars().collect();
        (0..length).map(|_| self.one_of(&alphabet)).collect()
    }
}
