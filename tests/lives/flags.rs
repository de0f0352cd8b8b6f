//! Which flags operations are given: here alone, so that a flag that goes goes from here.

use annulus::op::{RecvBundle, RecvFlags, RecvPicked, SendFlags};

use crate::world::World;

/// What a receive into a picked buffer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It takes the bytes.
    Takes,
    /// It leaves them.
    Peeks,
}

/// Says how to receive, by chance.
pub fn picked<F>(world: &mut World, op: RecvPicked<F>) -> (RecvPicked<F>, Look) {
    match choice(world) {
        1 => (op.flags(RecvFlags::DONT_WAIT), Look::Takes),
        2 => (op.flags(RecvFlags::WAIT_ALL), Look::Takes),
        3 => (op.flags(RecvFlags::PEEK), Look::Peeks),
        _ => (op, Look::Takes),
    }
}

/// Says how to receive, by chance.
pub fn bundle<F>(world: &mut World, op: RecvBundle<F>) -> (RecvBundle<F>, Look) {
    match choice(world) {
        1 => (op.flags(RecvFlags::DONT_WAIT), Look::Takes),
        2 => (op.flags(RecvFlags::WAIT_ALL), Look::Takes),
        3 => (op.flags(RecvFlags::PEEK), Look::Peeks),
        _ => (op, Look::Takes),
    }
}

/// 1: fail rather than wait; 2: wait for all; 3: look only; the others: nothing.
fn choice(world: &mut World) -> u32 {
    let choice = world.chance.below(12);
    let name = match choice {
        2 => "wait-all",
        3 => "peek",
        _ => return choice,
    };
    if world.allows(name) { choice } else { 0 }
}

/// How to receive into a buffer of one's own.
pub fn own(world: &mut World) -> RecvFlags {
    match world.chance.below(8) {
        1 => RecvFlags::DONT_WAIT,
        2 => RecvFlags::WAIT_ALL,
        _ => RecvFlags::default(),
    }
}

/// How to send.
pub fn send(world: &mut World) -> SendFlags {
    match world.chance.below(6) {
        1 => SendFlags::DONT_WAIT,
        2 => SendFlags::WAIT_ALL,
        _ => SendFlags::default(),
    }
}
