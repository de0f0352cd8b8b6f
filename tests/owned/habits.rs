//! The habits of a program: which steps it knows, how often it takes each, and which operations it
//! likes best. One that does little else comes to rare combinations often.
//!
//! A seed's program knows all steps, a fuzzer's chooses among them first.

use super::chance::Chance;
use super::program::{Program, STEPS};

/// The step that takes outputs by their type.
const BY_TYPE: &str = "take outputs by type";
/// How many kinds of operations `submit` chooses from.
pub const KINDS: u32 = 9;

/// What a program does.
#[derive(Debug, Clone)]
pub struct Habits {
    /// How often it takes each step.
    weights: [u32; STEPS.len()],
    /// The operation that it submits in every other case.
    favourite: Option<u32>,
    /// One operation in so many has no ticket.
    pub unticketed: u32,
}

impl Default for Habits {
    fn default() -> Self {
        Self { weights: STEPS.map(|(weight, ..)| weight), favourite: None, unticketed: 3 }
    }
}

impl Habits {
    /// The place of the next step.
    pub fn step(&self, chance: &mut Chance) -> usize {
        let mut left = chance.below(self.weights.iter().sum());
        let is_it = |weight: &u32| match left.checked_sub(*weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        };
        self.weights.iter().position(is_it).expect("less than the total")
    }

    /// Which operation is submitted.
    pub fn kind(&self, chance: &mut Chance) -> u32 {
        match self.favourite {
            Some(kind) if chance.one_in(2) => kind,
            _ => chance.below(KINDS),
        }
    }

    /// Of which type outputs are taken, as `take_outputs` counts them.
    pub fn outputs(&self, chance: &mut Chance) -> u32 {
        let of_kind = |kind| match kind {
            1 | 2 => Some(2),
            3 => Some(1),
            4 => Some(3),
            7 => Some(4),
            8 => Some(5),
            6 => Some(6),
            _ => None,
        };
        match self.favourite.and_then(of_kind) {
            Some(outputs) if chance.one_in(2) => outputs,
            _ => chance.below(7),
        }
    }
}

impl Program {
    /// Chooses habits: those of everybody, or others.
    #[allow(dead_code, reason = "for the fuzzer")]
    pub fn choose_habits(&mut self) {
        if self.chance.one_in(4) {
            return;
        }
        let (mask, habits) = (self.chance.half(), &mut self.habits);
        // The first is to submit, without which nothing happens.
        for (at, weight) in habits.weights.iter_mut().enumerate().skip(1) {
            *weight *= mask >> at & 1;
        }
        let favourites = [0, 1, 2, 3, 4, 5, 6, 7, 8, 8];
        habits.favourite = (!self.chance.one_in(3)).then(|| self.chance.among(&favourites));
        habits.unticketed = self.chance.among(&[3, 8, 1, 1]);
        if habits.unticketed == 1 {
            // Their outputs are taken by type, more often than they are shown.
            let outputs = STEPS.iter().position(|(_, name, _)| *name == BY_TYPE);
            habits.weights[outputs.expect("a step")] = 20;
        }
        if matches!(habits.favourite, Some(7 | 8)) {
            for rig in &mut self.rigs {
                rig.buffers.extend(rig.ring.buf_ring(4, 32));
            }
        }
    }
}
