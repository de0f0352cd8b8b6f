//! The rings against a kernel that stores anything, as in `tests/hostile`: indices, flags,
//! completions. Each call ends, or panics and names SQ2 or CQ2; what was not committed never was.
//!
//! ```text
//!   shape, then steps:   theirs: an index anywhere, or near ours; flags; a completion
//!                        ours:   each call of the two halves
//! ```

use annulus_sys::abi::Cqe;
use annulus_sys::cq::CqeShape;
use annulus_sys::flags::CqeFlags;
use annulus_sys::sq::{SqeShape, Turn};

use super::chance::Chance;
use crate::support::fake_kernel::{FakeKernel, Shape};
use steps::{Aim, Ours, Theirs, checked, meddled, theirs};

#[path = "../../hostile/steps.rs"]
mod steps;

/// The most steps of a history.
const STEPS: u32 = 400;

/// One history.
pub fn run(data: &[u8]) {
    let mut chance = Chance::of(data);
    let shape = shape(&mut chance);
    let (mut sq, mut cq, mut kernel) = FakeKernel::new(shape);
    for _ in 0..STEPS {
        if chance.is_used_up() {
            break;
        }
        if chance.one_in(12) {
            let many = (chance.below(20), chance.below(4));
            let aim = aim(&mut chance);
            meddled(many, aim, &mut sq, &mut kernel);
        } else if chance.one_in(2) {
            let what = their_step(&mut chance);
            tell(&what);
            theirs(what, shape, &mut kernel);
        } else {
            let what = our_step(&mut chance);
            tell(&what);
            checked(what, &mut sq, &mut cq);
        }
    }
}

fn tell(what: &impl std::fmt::Debug) {
    if super::tells() {
        println!("{what:?}");
    }
}

/// Rings of 1 to 16 slots of any width, which start anywhere.
pub fn shape(chance: &mut Chance) -> Shape {
    let start = match chance.below(3) {
        0 => 0,
        1 => u32::MAX - chance.below(16),
        _ => chance.half(),
    };
    Shape {
        sq_entries: 1 << chance.below(5),
        cq_entries: 1 << chance.below(5),
        start,
        sqe: chance.among(&[SqeShape::Single, SqeShape::Double, SqeShape::Mixed]),
        cqe: chance.among(&[CqeShape::Single, CqeShape::Double, CqeShape::Mixed]),
        turn: chance.among(&[Turn::Round, Turn::Round, Turn::Rewind]),
    }
}

fn their_step(chance: &mut Chance) -> Theirs {
    match chance.below(8) {
        0 => Theirs::SqHead(aim(chance)),
        1 => Theirs::CqTail(aim(chance)),
        2 => Theirs::SqFlags(chance.half()),
        3 => Theirs::Counters(chance.half()),
        4 | 5 => Theirs::Cqe(chance.below(16), cqe(chance)),
        _ => Theirs::Advance(chance.below(4)),
    }
}

fn aim(chance: &mut Chance) -> Aim {
    if chance.one_in(4) {
        return Aim::Anywhere(chance.half());
    }
    // Just inside and just outside a ring of up to 16.
    Aim::Near(chance.below(40).wrapping_sub(20))
}

/// A completion of any bytes.
pub fn cqe(chance: &mut Chance) -> Cqe {
    let known = [CqeFlags::empty(), CqeFlags::CQE32, CqeFlags::SKIP, CqeFlags::MORE];
    let flags = match chance.below(4) {
        0 => CqeFlags::from_bits_retain(chance.half()),
        _ => chance.among(&known) | chance.among(&known),
    };
    let res = match chance.below(4) {
        0 => chance.half().cast_signed(),
        1 => i32::MIN,
        _ => i32::from(u8::MAX) - chance.below(512).cast_signed(),
    };
    Cqe { user_data: chance.below(256).into(), res, flags }
}

fn our_step(chance: &mut Chance) -> Ours {
    match chance.below(20) {
        0..3 => Ours::Push,
        3 => Ours::PushWith,
        4 | 5 => Ours::PushWide,
        6 | 7 => Ours::Reserve {
            count: chance.below(20),
            pushes: chance.below(4),
            wide: chance.below(4),
            commit: chance.one_in(2),
        },
        8 | 9 => Ours::Flush,
        10 => Ours::Consumed(if chance.one_in(4) { chance.half() } else { chance.below(8) }),
        11 => Ours::LookAtSq,
        12 => Ours::Pop,
        13 => Ours::PopWide,
        14 => Ours::Drain,
        15 => Ours::DrainWide,
        16 => chance.among(&[Ours::Runs(4), Ours::Each(4), Ours::Alone]),
        17 => Ours::DrainInto(chance.below(4)),
        18 => chance.among(&[Ours::Ready, Ours::IterReady]),
        _ => chance.among(&[Ours::LookAtCq, Ours::SetFlags(7)]),
    }
}
