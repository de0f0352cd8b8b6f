//! What a set-up answers: sizes, flags and offsets that are not so. The rings are refused, or the
//! kernel is named in a panic, or they lie within the memory there is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use annulus::{RawRing, Setup};
use annulus_sys::abi::{Params, Sqe};
use annulus_sys::flags::OFF_SQ_RING;

use crate::bodies::chance::Chance;
use crate::support::backend::{Enter, ScriptedKernel};
use crate::support::memory::{Block, RingMemory};
use crate::support::panics::text;

/// Each field of the answer that a kernel could get wrong.
fn fields(params: &mut Params) -> [&mut u32; 17] {
    let Params { sq_entries, cq_entries, sq_off: sq, cq_off: cq, .. } = params;
    [
        sq_entries,
        cq_entries,
        &mut sq.head,
        &mut sq.tail,
        &mut sq.ring_mask,
        &mut sq.ring_entries,
        &mut sq.flags,
        &mut sq.dropped,
        &mut sq.array,
        &mut cq.head,
        &mut cq.tail,
        &mut cq.ring_mask,
        &mut cq.ring_entries,
        &mut cq.overflow,
        &mut cq.cqes,
        &mut cq.flags,
        &mut cq.resv1,
    ]
}

/// One set-up, and a little use of its rings.
pub fn run(chance: &mut Chance) {
    crate::bodies::hush(|panic| is_named(text(panic)));
    let (kernel, script) = ScriptedKernel::new();
    let mut lies = Vec::new();
    for _ in 0..=chance.below(3) {
        let at = chance.below(17) as usize;
        let value = match chance.below(4) {
            0 => chance.half(),
            1 => 1 << chance.below(32),
            _ => chance.below(256) * chance.among(&[1, 4, 64]),
        };
        lies.push((at, value));
    }
    // What lies at the places of the two masks.
    let (tell, masks) = std::sync::mpsc::channel();
    script.tamper(move |params, memory| {
        for (at, value) in lies {
            *fields(params)[at] = value;
        }
        let (sq, cq) = (params.sq_off.ring_mask, params.cq_off.ring_mask);
        for (block, at, entries) in
            [(Block::Sq, sq, params.sq_entries), (Block::Cq, cq, params.cq_entries)]
        {
            let _ = tell.send((word(memory, block, at), entries.wrapping_sub(1)));
        }
    });
    let setup = Setup::plain(1 << chance.below(4)).kernel(kernel);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let Ok(mut ring) = setup.build_raw() else { return };
        for (mask, right) in masks.try_iter() {
            assert_eq!(mask, Some(right), "a ring of another mask is accepted");
        }
        for _ in 0..3 {
            script.enters(Enter::Fail(libc::EINTR));
            look(&mut ring);
        }
        script.enters_no_more();
    }));
    if let Err(panic) = outcome {
        let text = text(&*panic);
        assert!(is_named(text), "a panic that names no invariant: {text}");
    }
}

/// The word at this place, if one can be there.
fn word(memory: &RingMemory, block: Block, at: u32) -> Option<u32> {
    let len = memory.region(OFF_SQ_RING).expect("there is one").len();
    let is_there = at.is_multiple_of(4) && at as usize + 4 <= len;
    is_there.then(|| memory.load(block, at))
}

/// Whether it says what the kernel did.
fn is_named(text: &str) -> bool {
    ["SQ", "CQ", "RG1", "within"].iter().any(|name| text.contains(name))
}

fn look(ring: &mut RawRing) {
    let _ = format!("{ring:?}");
    // SAFETY: a NOP points to nothing (OP1).
    let _ = unsafe { ring.push(Sqe::ZERO) };
    let _ = ring.submit();
    let _ = ring.pop();
}
