//! How often each thing was tried, on names that are references and on names that are none.

use std::collections::BTreeMap;

#[derive(Default)]
pub struct Counts {
    by_thing: BTreeMap<&'static str, Count>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    accepted: usize,
    refused: usize,
}

impl Counts {
    pub fn add(&mut self, things: &[&'static str], accepted: bool) {
        for thing in things {
            let count = self.by_thing.entry(thing).or_default();
            match accepted {
                true => count.accepted += 1,
                false => count.refused += 1,
            }
        }
    }

    /// Prints the counts, and panics unless each thing was on so many names of either kind.
    pub fn assert_each(
        &self,
        kind: &str,
        things: impl Iterator<Item = &'static str>,
        least: usize,
    ) {
        self.assert_all(kind, things, least, |it| it.accepted.min(it.refused));
    }

    /// Prints the counts, and panics unless each thing was on so many names, and made each of
    /// them one that is refused.
    pub fn assert_each_refused(
        &self,
        kind: &str,
        things: impl Iterator<Item = &'static str>,
        least: usize,
    ) {
        self.assert_all(kind, things, least, |it| match it.accepted {
            0 => it.refused,
            _ => 0,
        });
    }

    fn assert_all(
        &self,
        kind: &str,
        things: impl Iterator<Item = &'static str>,
        least: usize,
        worth: fn(Count) -> usize,
    ) {
        println!("{kind}, each at least {least} times: accepted, refused");
        let mut rare = vec![];
        for thing in things {
            let count = self.by_thing.get(thing).copied().unwrap_or_default();
            println!("{:8} {:8}  {thing}", count.accepted, count.refused);
            if worth(count) < least {
                rare.push(thing);
            }
        }
        assert!(rare.is_empty(), "{kind} that were tried too rarely: {rare:?}");
    }
}
