//! Chance that comes from one number.

/// SplitMix64.
pub struct Chance(u64);

impl Chance {
    /// The seeds begin far from one another: without that, the numbers of one would be those of
    /// the next one from its second number on.
    pub fn of_seed(seed: u64) -> Self {
        Self(Self(seed).next())
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

    /// A number from `least` to `most`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// Whether something comes to pass that does so in `percent` of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
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
