//! Scopes: operations that borrow a buffer, and that end before the borrow does, however the scope
//! ends.
//!
//! ```text
//!   ring.scope(|s| submit ─► redeem, leave, unwind) ─► the buffer is ours, and never changes again
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{Nop, Op, Outcome, Read, Recv, Target};
use annulus::ring::scope::Scope;
use annulus::{Rejection, Unfinished};

use crate::claims::{About, Whose, bearable};
use crate::streams::{Aim, Medium};
use crate::watch::Held;
use crate::world::World;

/// What a scope does with its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Waits, but not for long.
    Wait,
    /// Leaves it to the end of the scope.
    Leave,
    /// Panics while it is in flight.
    Unwind,
    /// Submits it behind another step, and leaves both.
    Chain,
}

/// What came of it.
enum Came {
    /// The result of the operation.
    Result(std::io::Result<usize>),
    /// Nobody knows.
    Unknown,
    Refused(Rejection),
}

/// Receives into a borrowed buffer.
pub fn any(world: &mut World) {
    let idle: Vec<usize> = (0..world.inward.len())
        .filter(|&at| world.inward[at].busy.is_none() && !world.inward[at].adrift)
        .filter(|&at| !world.inward[at].is_datagrams())
        .collect();
    let Some(at) = world.chance.place(idle.len()) else { return };
    let (key, medium) = (world.inward[idle[at]].key, world.inward[idle[at]].medium);
    if !world.allows("in a scope") {
        return;
    }
    let about = world.about("in a scope", Whose::Inward(key));
    world.inward[idle[at]].open_entry(about.number);
    let way = world.chance.among(&[Way::Wait, Way::Wait, Way::Leave, Way::Unwind, Way::Chain]);
    let forced = world.chance.one_in(3) && world.allows("forced");
    let number = about.number;
    world.say(|| format!("{number}: in a scope, {way:?}, forced: {forced}, of {key}"));
    let mut buf = vec![0; 1 + world.chance.below(2 * world.size) as usize];
    let came = match (medium, world.inward[idle[at]].aim.clone()) {
        (Medium::Pipe, Aim::Fd(fd)) => {
            borrow(world, &mut buf, forced, way, |buf| Read::new(Rc::clone(&fd), buf))
        }
        (Medium::Pipe, Aim::Fixed(file)) => {
            borrow(world, &mut buf, forced, way, |buf| Read::new(file.clone(), buf))
        }
        (_, Aim::Fd(fd)) => {
            borrow(world, &mut buf, forced, way, |buf| Recv::new(Rc::clone(&fd), buf))
        }
        (_, Aim::Fixed(file)) => {
            borrow(world, &mut buf, forced, way, |buf| Recv::new(file.clone(), buf))
        }
    };
    took(world, &about, came, buf);
}

/// An operation that borrows its buffer, and whose result is a number of bytes.
trait Borrows<'b>: Op<Output = Outcome<usize, Self::File, &'b mut [u8]>> + 'b {
    type File;
}

impl<'b, F: Target + 'b> Borrows<'b> for Read<F, &'b mut [u8]> {
    type File = F;
}

impl<'b, F: Target + 'b> Borrows<'b> for Recv<F, &'b mut [u8]> {
    type File = F;
}

fn borrow<'b, O: Borrows<'b>>(
    world: &mut World,
    buf: &'b mut [u8],
    forced: bool,
    way: Way,
    op: impl FnOnce(&'b mut [u8]) -> O,
) -> Came {
    let op = op(buf);
    if forced { one(world, op.forced(), way) } else { one(world, op, way) }
}

fn one<'b, F, O>(world: &mut World, op: O, way: Way) -> Came
where
    O: Op<Output = Outcome<usize, F, &'b mut [u8]>> + 'b,
{
    let (bounded, kind) = (world.bounded, "in a scope");
    world.tally.borrow_mut().shipped(kind, crate::claims::Manner::Plain);
    let ring = &mut world.ring;
    let run = AssertUnwindSafe(|| ring.scope(|scope| run(scope, op, way, bounded)));
    catch_unwind(run).unwrap_or_else(|payload| {
        let ours = payload.is::<Unwinds>();
        if ours { Came::Unknown } else { std::panic::resume_unwind(payload) }
    })
}

/// The payload of our own panic.
struct Unwinds;

fn run<'scope, 'b: 'scope, F, O>(
    scope: &mut Scope<'scope, 'b, ()>,
    op: O,
    way: Way,
    bounded: bool,
) -> Came
where
    O: Op<Output = Outcome<usize, F, &'b mut [u8]>> + 'b,
{
    if way == Way::Chain {
        return match scope.submit_chain((Nop, op)) {
            Ok(_left) => Came::Unknown,
            Err(rejected) => Came::Refused(rejected.why),
        };
    }
    let ticket = match scope.submit(op) {
        Ok(ticket) => ticket,
        Err(rejected) => return Came::Refused(rejected.why),
    };
    if way == Way::Wait && bounded {
        match scope.wait_timeout(ticket, Duration::from_micros(100)) {
            Ok(out) => return Came::Result(out.result),
            Err(Unfinished { why, .. }) => bearable(why.cause),
        }
    } else if let Err(error) = scope.submit_all() {
        bearable(error.cause);
    }
    if way == Way::Unwind {
        // No message: it is no failure.
        std::panic::resume_unwind(Box::new(Unwinds));
    }
    Came::Unknown
}

/// The scope has ended: the kernel is done with the buffer.
fn took(world: &mut World, about: &About, came: Came, mut buf: Vec<u8>) {
    let Whose::Inward(key) = about.whose else { unreachable!("it receives") };
    match came {
        Came::Refused(why) => return world.refused(about, why),
        Came::Unknown => {
            world.ended(about);
            world.redeemed(about);
            world.abandoned(about);
        }
        Came::Result(result) => {
            world.ended(about);
            match result {
                Ok(count) => {
                    buf.truncate(count);
                    let inward = world.inward_of(key).expect("it stays as long as the life");
                    if count == 0 {
                        inward.at_end(about.number);
                    } else {
                        inward.arrived(about.number, &buf);
                    }
                }
                Err(error) => world.failed(about, &error),
            }
            world.redeemed(about);
        }
    }
    world.hold(Held::Own(buf), about);
}
