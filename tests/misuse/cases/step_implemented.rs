//! E0277: the steps of a chain are operations, and each is implemented in unsafe code.

use std::time::Instant;

use annulus::ring::link::{PlacedStep, UnsubmittedChain, Claims, Position, Waits, StepEnd};
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

    fn admit(&mut self, _: RingId, _: &mut Claims) -> Result<(), Rejection> {
        Ok(())
    }

    unsafe fn place<U: Default>(
        self,
        _: &mut UnsubmittedChain<'_, U>,
        _: Position,
        _: SqeFlags,
    ) -> PlacedStep<()> {
        unreachable!()
    }

    fn end_of_step<U: Default>(_: &Ring<U>, _: &PlacedStep<()>) -> Option<StepEnd> {
        None
    }

    fn watch<U: Default>(_: &mut Ring<U>, _: &mut ()) -> Option<Instant> {
        None
    }

    fn missing<U: Default>(_: &Ring<U>, (): &()) -> Option<u32> {
        None
    }

    fn take<U: Default>(_: &mut Ring<U>, _: ()) -> Result<(), ()> {
        Ok(())
    }

    fn give_up<U: Default>(_: &mut Ring<U>, (): ()) {}
}

fn main() {}
