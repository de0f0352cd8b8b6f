//! E0277: a chain is an array or a tuple of steps, whose entries are counted before it is begun.

use annulus::ring::link::{Claims, Ends, Linked, Position, UnsubmittedChain, Waits, Watch};
use annulus::op::{Nop, RingId};
use annulus::{Rejection, Ring, Step};

struct Mine;

impl Linked for Mine {
    // misuse, instead: `#[cfg(false)] impl Linked for Mine {`
    type Tickets = ();
    type Outputs = ();
    const NEEDS: annulus::sys::flags::Features = annulus::sys::flags::Features::empty();

    const WAITS: Waits = <Nop as Step>::WAITS;
    type Placed = ();

    fn entries(&self) -> u32 {
        0
    }

    fn admit(&mut self, _: RingId, _: &mut Claims) -> Result<(), Rejection> {
        Ok(())
    }

    fn watch<U: Default>(_: &mut Watch<'_, U>, _: &mut ()) {}

    fn tickets((): ()) {}

    unsafe fn place<U: Default>(self, _: &mut UnsubmittedChain<'_, U>, _: Position) {}

    fn ends<U: Default>(_: &Ring<U>, _: &(), _: &mut Ends) {}

    fn take<U: Default>(_: &mut Ring<U>, _: ()) {}

    fn give_up<U: Default>(_: &mut Ring<U>, (): ()) {}
}

fn main() {}
