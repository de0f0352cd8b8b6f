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

    fn belongs_to(&self, _: RingId) -> bool {
        true
    }

    unsafe fn board<U: Default>(self, _: &mut Boarding<'_, U>) {}

    fn state<U: Default>(_: &Ring<U>, _: &()) -> Result<ChainEnd, u32> {
        Ok(ChainEnd::Complete)
    }

    fn take<U: Default>(_: &mut Ring<U>, _: ()) {}
}

fn main() {}
