//! What each fuzz target does with its input. `docs/FUZZING.md` says what each asserts.
//!
//! | body | between | asserts |
//! |---|---|---|
//! | `hostile` | the rings, and a kernel that stores anything | SQ2, SQ3, CQ2: each call ends, or names what was broken |
//! | `owned` | the safe API, and a kernel that answers anything | OP1, OP2, OP3, BR1, RG1, as `tests/owned` |
//! | `lanes` | a lane, and such a kernel | OP1, OP2, OP3, RG1, as `tests/lanes` |
//! | `sim` | the safe API, and `annulus::sim` with faults | no rule is broken, every byte arrives once, in order |
//! | `ends` | the safe API, and `annulus::sim` | what is told to end does; cancels are not refused; OP1, OP3 |
//! | `leases` | pools of each kind, and all that select from them | BR1, BR2, OP3: what is lent does not change, and comes back |
//! | `parsers` | bytes of the kernel, and what reads them | no panic, no byte from outside |
//! | `linux` | `annulus::sim`, and Linux | what a program can see is equal |
//! | `twin` | our rings, and a ring of somebody else | both do the same, call by call |
//!
//! A body returns, or panics. `tests/fuzzed` runs each over its committed inputs, and over seeds.
#![allow(dead_code, reason = "the bodies use a part of what the tests share")]

use std::any::Any;
use std::sync::{LazyLock, Once};

#[path = "../../owned/chance.rs"]
pub mod chance;
pub mod ends;
pub mod hostile;
pub mod lanes;
pub mod leases;
pub mod linux;
pub mod owned;
pub mod parsers;
pub mod sim;
pub mod twin;

/// Whether the steps of a run are to be shown: when one input is replayed.
fn tells() -> bool {
    static TELLS: LazyLock<bool> = LazyLock::new(|| std::env::var_os("ANNULUS_TELL").is_some());
    *TELLS
}

/// From now on, panics of this kind are not printed, nor are they findings: what is under test
/// catches them. To libFuzzer each other panic that is printed is one.
fn hush(is_expected: fn(&(dyn Any + Send)) -> bool) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !is_expected(info.payload()) {
                loud(info);
            }
        }));
    });
}
