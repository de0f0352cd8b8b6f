//! The habits of a program: which steps, receives and pools it knows. One that knows few of them
//! comes to rare combinations often.

use crate::bodies::chance::Chance;

/// How many kinds of steps and of receives there are, and how many pools.
pub const STEPS: u32 = 20;
pub const RECEIVES: u32 = 10;
pub const POOLS: u32 = 3;

/// What a program does.
pub struct Habits {
    steps: Vec<u32>,
    receives: Vec<u32>,
    pools: Vec<u32>,
}

impl Habits {
    /// Half of the programs know everything.
    pub fn choose(chance: &mut Chance) -> Self {
        let some = chance.one_in(2);
        let mut subset = |count| {
            let mask = if some { chance.half() } else { u32::MAX };
            let known: Vec<u32> = (0..count).filter(|bit| mask >> bit & 1 == 1).collect();
            if known.is_empty() { (0..count).collect() } else { known }
        };
        Self { steps: subset(STEPS), receives: subset(RECEIVES), pools: subset(POOLS) }
    }

    pub fn step(&self, chance: &mut Chance) -> u32 {
        chance.among(&self.steps)
    }

    pub fn receive(&self, chance: &mut Chance) -> u32 {
        chance.among(&self.receives)
    }

    pub fn pool(&self, chance: &mut Chance) -> usize {
        chance.among(&self.pools) as usize
    }
}
