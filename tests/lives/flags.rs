//! Which flags operations are given: here alone, so that a flag that goes goes from here.

use annulus::op::{PickedFlags, RecvFlags, SendFlags};

use crate::world::World;

/// Says how to receive, by chance.
pub fn picked(world: &mut World) -> PickedFlags {
    if world.chance.one_in(6) && world.allows("dont wait") {
        PickedFlags::DONT_WAIT
    } else {
        PickedFlags::default()
    }
}

/// How to receive into a buffer of one's own.
pub fn own(world: &mut World) -> RecvFlags {
    match world.chance.below(8) {
        1 => RecvFlags::DONT_WAIT,
        2 if world.keeps_parts => RecvFlags::WAIT_ALL,
        _ => RecvFlags::default(),
    }
}

/// How to send.
pub fn send(world: &mut World) -> SendFlags {
    match world.chance.below(6) {
        1 => SendFlags::DONT_WAIT,
        2 if world.keeps_parts => SendFlags::WAIT_ALL,
        _ => SendFlags::default(),
    }
}
