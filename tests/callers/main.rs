//! A panic for a mistake of the caller's names the line of the caller.
//!
//! ```text
//!   ring.cancel(&alien)      panicked at tests/callers/main.rs, not in src/ring/mod.rs
//! ```
//!
//! The waits are not among them: to pass the location would cost each of them an instruction. Nor
//! are calls for a whole chain, which first give up every step.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, set_hook};
use std::time::Duration;

use annulus::buf::{AlignedBuf, SliceExt as _};
use annulus::op::{Nop, TimeoutMulti};
use annulus::{Ring, Setup, Ticket, WaitOptions};

thread_local! {
    static FOUND: Cell<Option<(String, u32)>> = const { Cell::new(None) };
}

/// Wants `call` to panic on the line where it stands, in one line with the call of this.
#[track_caller]
fn panics_here<R>(call: impl FnOnce() -> R) {
    let here = Location::caller();
    set_hook(Box::new(|info| {
        let at = info.location().expect("a place");
        FOUND.set(Some((at.file().to_owned(), at.line())));
    }));
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err(), "no panic at {here}");
    let (file, line) = FOUND.take().expect("the hook ran");
    assert_eq!((&*file, line), (here.file(), here.line()));
}

/// Two rings, and a ticket of the first; `None`, with the reason on stderr, where there are none.
fn rings() -> Option<(Ring, Ring, Ticket<Nop>)> {
    let made = Setup::new(8).build().and_then(|one| Ok((one, Setup::new(8).build()?)));
    match made {
        Ok((mut one, other)) => {
            let ticket = one.submit(Nop).expect("room");
            Some((one, other, ticket))
        }
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

#[test]
fn a_panic_for_the_callers_mistake_names_the_callers_line() {
    panics_here(|| AlignedBuf::new(8, 3));
    panics_here(|| AlignedBuf::new(8, 8).set_len(usize::MAX));
    panics_here(|| vec![0; 4].slice(3..5));
    let Some((_one, mut other, ticket)) = rings() else { return };
    panics_here(|| other.cancel(&ticket));
    panics_here(|| other.cancel_now(&ticket, Duration::ZERO));
    panics_here(|| *other.user(&ticket));
    panics_here(|| other.try_take(ticket));
    let Some((_one, mut other, ticket)) = rings() else { return };
    panics_here(|| other.detach(ticket));
    let Some((_one, mut other, ticket)) = rings() else { return };
    panics_here(|| other.wait(ticket));
    let Some((_one, mut other, ticket)) = rings() else { return };
    panics_here(|| other.wait_timeout(ticket, Duration::ZERO));
    let Some((_one, mut other, ticket)) = rings() else { return };
    panics_here(|| other.wait_with(ticket, &WaitOptions::at_most(Duration::ZERO)));
    let Some((mut one, mut other, _ticket)) = rings() else { return };
    let ticks = one.submit(TimeoutMulti::new(Duration::MAX)).expect("room");
    panics_here(|| other.try_next(&ticks));
    panics_here(|| other.next(&ticks));
    panics_here(|| other.next_timeout(&ticks, Duration::ZERO));
    let Some((mut one, mut other, _ticket)) = rings() else { return };
    // Since Linux 5.19.
    if let Ok(table) = one.file_table(1) {
        let file = std::fs::File::open("/dev/null").expect("it exists");
        panics_here(|| table.insert(&mut other, &file));
    }
}
