//! E0277: a chain is an array or a tuple of steps, whose entries are counted before it is begun.

use annulus::Ring;
use annulus::link::{Boarding, ChainEnd, Linked};
use annulus::op::RingId;

struct Mine;

impl Linked for Mine {
    // misuse, instead: `#[cfg(false)] impl Linked for Mine {`
    type Tickets = ();
    type Outputs = ();
    const ENTRIES: u32 = 0;
    const NEEDS: annulus::sys::flags::Features = annulus::sys::flags::Features::empty();

    fn belongs_to(&self, _: RingId) -> bool {
        true
    }

    unsafe fn board<U: Default>(self, _: &mut Boarding<'_, U>) {}

    fn end<U: Default>(_: &Ring<U>, _: &()) -> Option<ChainEnd> {
        Some(ChainEnd::Complete)
    }

    fn take<U: Default>(_: &mut Ring<U>, _: ()) {}
}

fn main() {}
