//! What the raw ring, in safe code, must not tell the kernel: a place in registered memory that is
//! no slot of a wait, or the halves of another ring.

use annulus::sys::flags::{EnterFlags, SetupFlags};
use annulus::sys::syscall::EnterArg;
use annulus::{RawRing, Setup};
use annulus_sys::rings::{Request, Rings};

use crate::bodies::chance::Chance;
use crate::support::backend::{Bound, Call, Enter, ScriptedKernel};

/// One program.
pub fn run(chance: &mut Chance) {
    match chance.below(8) {
        0 | 4 => stored(chance),
        1 | 5 => swapped(chance),
        7 => super::turns::run(chance),
        _ => super::counted::run(chance),
    }
}

/// At any other place the kernel would take a number for the address of a signal mask.
fn stored(chance: &mut Chance) {
    let (kernel, script) = ScriptedKernel::new();
    let mut ring: RawRing = Setup::plain(4).kernel(kernel).build_raw().expect("a ring");
    for _ in 0..8 {
        let offset = chance.among(&[1, 8, 32, 64, 128]) * chance.below(8) as usize;
        script.enters(Enter::Answer(0));
        let entered = ring.enter(0, 0, EnterFlags::GETEVENTS, EnterArg::Registered(offset));
        let reads = |call: &Call| match call {
            Call::Enter { bound: Bound::Registered(at), .. } => at % 64 != 0,
            _ => false,
        };
        let calls = script.take_calls();
        assert!(!calls.iter().any(reads), "the kernel reads a mask at {offset}: {entered:?}");
        script.enters_no_more();
    }
}

/// A resize asks the half that it has about what would be torn.
fn swapped(chance: &mut Chance) {
    let (kernel, _script) = ScriptedKernel::new();
    let (other_kernel, _other_script) = ScriptedKernel::new();
    let flags = SetupFlags::DEFER_TASKRUN | SetupFlags::SINGLE_ISSUER | SetupFlags::NO_SQARRAY;
    let request = Request { flags, ..Request::new(8) };
    let mut rings = Rings::setup(&kernel, &request).expect("rings");
    let mut other = Rings::setup(&other_kernel, &request).expect("rings");
    let swaps_sq = chance.one_in(2);
    let swaps_cq = chance.one_in(2);
    if swaps_sq {
        std::mem::swap(rings.sq(), other.sq());
    }
    if swaps_cq {
        std::mem::swap(rings.cq(), other.cq());
    }
    let resized = rings.resize(16, None);
    assert!(resized.is_err() || !(swaps_sq || swaps_cq), "a ring of another's halves is resized");
}
