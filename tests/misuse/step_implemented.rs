//! E0277: the steps of a chain are operations, for each of which somebody vouches.

use annulus::link::{Boarding, Tie};
use annulus::op::RingId;
use annulus::sys::flags::SqeFlags;
use annulus::{Ring, Step};

struct Mine;

impl Step for Mine {
    // misuse, instead: `#[cfg(false)] impl Step for Mine {`
    type Ticket = ();
    type Output = ();
    const ENTRIES: u32 = 0;
    const NEEDS: annulus::sys::flags::Features = annulus::sys::flags::Features::empty();

    fn belongs_to(&self, _: RingId) -> bool {
        true
    }

    unsafe fn board<U: Default>(self, _: &mut Boarding<'_, U>, _: Tie, _: SqeFlags) {}

    fn raw<U: Default>(_: &Ring<U>, _: &()) -> Option<i32> {
        None
    }

    fn take<U: Default>(_: &mut Ring<U>, _: ()) -> Result<(), ()> {
        Ok(())
    }
}

fn main() {}
