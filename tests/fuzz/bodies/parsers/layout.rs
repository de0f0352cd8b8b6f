//! What a set-up answers: sizes, flags and offsets that are not so. The rings are refused, or the
//! kernel is named in a panic, or they lie within the memory there is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use annulus::{RawRing, Setup};
use annulus_sys::abi::{Params, Sqe};

use crate::bodies::chance::Chance;
use crate::support::backend::{Enter, ScriptedKernel};
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
    script.tamper(move |params, _| {
        for (at, value) in lies {
            *fields(params)[at] = value;
        }
    });
    let setup = Setup::plain(1 << chance.below(4)).kernel(kernel);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let Ok(mut ring) = setup.build_raw() else { return };
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
