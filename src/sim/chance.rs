//! Random numbers from a seed: every decision of a simulated kernel.
//!
//! SplitMix64: each number is a hash of how many came before it, and each question has a number of
//! its own. A stream for each concern, so that
//! one more decision of one kind does not change all those of the others.

use std::collections::BTreeSet;
use std::time::Duration;

/// A stream of random numbers, and of answers.
#[derive(Debug)]
pub(super) struct Chance {
    answers: u64,
    numbers: u64,
    key: u64,
    /// How many questions were asked, and which had the answer yes.
    asked: u32,
    taken: BTreeSet<u32>,
    /// Those that may have it, if not all.
    only: Option<BTreeSet<u32>>,
}

/// The next number of a stream.
fn next_of(stream: &mut u64) -> u64 {
    *stream = stream.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*stream ^ (*stream >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Chance {
    /// The stream that `seed` and the number of a concern name. If `only` names questions, no other
    /// one has the answer yes.
    pub(super) fn new(seed: u64, concern: u64, only: Option<BTreeSet<u32>>) -> Self {
        let mut key = seed.wrapping_mul(0xd134_2543_de82_ef95) ^ concern.rotate_left(32);
        let answers = next_of(&mut key);
        Self { answers, numbers: key, key, asked: 0, taken: BTreeSet::new(), only }
    }

    /// The questions that had the answer yes.
    pub(super) fn taken(&self) -> &BTreeSet<u32> {
        &self.taken
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        next_of(&mut self.numbers)
    }

    /// One of the numbers below `count`, which is not 0.
    pub(super) fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    /// One of the numbers below `count`, which is not 0.
    pub(super) fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).expect("below a usize")
    }

    /// True in `mille` of a thousand calls, on average. No question for 0. The numbers that follow
    /// a yes depend on the number of the question, and not on what was asked before.
    pub(super) fn hits(&mut self, mille: u16) -> bool {
        if mille == 0 {
            return false;
        }
        self.asked += 1;
        let says = next_of(&mut self.answers) % 1000 < u64::from(mille);
        let may = self.only.as_ref().is_none_or(|only| only.contains(&self.asked));
        if says && may {
            self.taken.insert(self.asked);
            self.numbers = self.key ^ u64::from(self.asked).rotate_left(40);
        }
        says && may
    }

    /// A span from 1 ns to `most`.
    pub(super) fn span(&mut self, most: Duration) -> u64 {
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        1 + self.below(most.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_concern_name_one_stream() {
        let three = |seed, concern| {
            let mut chance = Chance::new(seed, concern, None);
            [chance.next(), chance.next(), chance.next()]
        };
        assert_eq!(three(1, 2), three(1, 2));
        assert_ne!(three(1, 2), three(1, 3));
        assert_ne!(three(1, 2), three(2, 2));
        assert!((0..1000).all(|_| !Chance::new(7, 7, None).hits(0)));
        assert!(Chance::new(7, 7, None).hits(1000));
    }

    #[test]
    fn what_follows_a_yes_does_not_depend_on_those_that_were_left_out() {
        let drawn = |only: Option<BTreeSet<u32>>| {
            let mut chance = Chance::new(3, 2, only);
            let each = |at: u32| chance.hits(500).then(|| (at, chance.next()));
            (1..=40).filter_map(each).collect::<Vec<_>>()
        };
        let all = drawn(None);
        let half: Vec<(u32, u64)> = all.iter().copied().step_by(2).collect();
        assert!(all.len() > 10);
        assert_eq!(drawn(Some(half.iter().map(|&(at, _)| at).collect())), half);
    }
}
