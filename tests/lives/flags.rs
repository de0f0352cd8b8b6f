//! Which flags operations get: only here, so that removing a flag is a change in one place.

use annulus::op::{ProvidedFlags, RecvFlags, SendFlags};

use crate::world::World;

/// Random flags for a receive.
pub fn selected(world: &mut World) -> ProvidedFlags {
    if world.chance.one_in(6) && world.allows("dont wait") {
        ProvidedFlags::DONT_WAIT
    } else {
        ProvidedFlags::default()
    }
}

/// How to receive into a buffer of the caller's own.
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
