//! E0277: the steps of a chain are operations, for each of which somebody vouches.

use std::time::Instant;

use annulus::link::{Boarded, Boarding, Claims, Tie, Waits, Went};
use annulus::op::{Nop, RingId};
use annulus::sys::flags::SqeFlags;
use annulus::{Rejection, Ring, Step};

struct Mine;

impl Step for Mine {
    // misuse, instead: `#[cfg(false)] impl Step for Mine {`
    type Ticket = ();
    type Output = ();
    const ENTRIES: u32 = 0;
    const NEEDS: annulus::sys::flags::Features = annulus::sys::flags::Features::empty();

    const WAITS: Waits = <Nop as Step>::WAITS;

    fn admit(&self, _: RingId, _: &mut Claims) -> Result<(), Rejection> {
        Ok(())
    }

    unsafe fn board<U: Default>(self, _: &mut Boarding<'_, U>, _: Tie, _: SqeFlags) -> Boarded<()> {
        unreachable!()
    }

    fn went<U: Default>(_: &Ring<U>, _: &Boarded<()>) -> Option<Went> {
        None
    }

    fn watch<U: Default>(_: &mut Ring<U>, _: &mut ()) -> Option<Instant> {
        None
    }

    fn take<U: Default>(_: &mut Ring<U>, _: ()) -> Result<(), ()> {
        Ok(())
    }

    fn give_up<U: Default>(_: &mut Ring<U>, (): ()) {}
}

fn main() {}
