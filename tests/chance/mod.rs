//! Chance that comes from one number: the same number is the same choices.

use std::env;

/// The environment variable that names another seed than the usual one.
const SEED: &str = "PREPULL_SEED";

/// The seed that the environment names, if any.
pub fn seed_of_environment() -> Option<u64> {
    let text = env::var(SEED).ok()?;
    Some(text.parse().unwrap_or_else(|err| panic!("{SEED}: `{text}` is no number: {err}")))
}

/// SplitMix64.
pub struct Chance(u64);

impl Chance {
    /// The seeds begin far from one another: without that, the numbers of one would be those of
    /// the next one from its second number on.
    pub fn of_seed(seed: u64) -> Self {
        Self(Self(seed).next())
    }

    /// Starts from the seed of the environment, or else from the usual one, and prints it.
    pub fn from_environment(usual: u64) -> Self {
        let seed = seed_of_environment().unwrap_or(usual);
        println!("seed {seed}; {SEED}={seed} repeats this run");
        Self::of_seed(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// The same for places and lengths.
    pub fn size_below(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    /// A number from `least` to `most`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// Whether something comes to pass that does so in `percent` of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.size_below(from.len())].clone()
    }

    /// So many characters of an alphabet.
    pub fn text(&mut self, alphabet: &str, length: usize) -> String {
        let alphabet: Vec<_> = alphabet.chars().collect();
        (0..length).map(|_| self.pick(&alphabet)).collect()
    }

    /// One of these, each as likely as its weight says.
    pub fn weighed<T: Clone>(&mut self, from: &[(u64, T)]) -> T {
        let mut left = self.below(from.iter().map(|it| it.0).sum());
        for (weight, it) in from {
            match left.checked_sub(*weight) {
                None => return it.clone(),
                Some(rest) => left = rest,
            }
        }
        unreachable!("what is left is below the sum of the weights")
    }
}
