//! Short operations in numbers: no-ops, timeouts, polls, and chains with a limit.
//!
//! | operation | ends |
//! |---|---|
//! | `Nop`, one or as many as the ring takes | with 0, or cancelled |
//! | `Timeout`, `TimeoutMulti` | whenever: a ticket may be detached |
//! | `Poll` of a silent pipe | when it is cancelled |
//! | `Read` of a silent pipe, within a moment | late: by its own clock |

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use annulus::StepExt as _;
use annulus::op::{Nop, Poll, PollEvents, Read, Timeout, TimeoutMulti};

use super::act::{Act, Hall};
use super::trouble::{Check, Trouble, equal, finding, may_end};

/// How many are to come, and a pipe to which nobody writes.
pub struct Clocks {
    left: u32,
    silent: Rc<OwnedFd>,
    writer: Rc<OwnedFd>,
}

impl Clocks {
    pub fn new(hall: &mut Hall) -> Result<Self, Trouble> {
        let (silent, writer) = io::pipe()?;
        Ok(Self {
            left: hall.chance.below(40),
            silent: Rc::new(silent.into()),
            writer: Rc::new(writer.into()),
        })
    }
}

/// The output of a no-op.
fn nop_ended(result: io::Result<u32>) -> Check {
    match result {
        Ok(number) => equal("the result of a no-op", number, 0),
        Err(error) => may_end("a no-op", &error),
    }
}

impl Act for Clocks {
    fn step(&mut self, hall: &mut Hall) -> Check {
        if self.is_over() {
            return Ok(());
        }
        self.left -= 1;
        let desk = hall.chance.below(u32::try_from(hall.desks.len()).unwrap_or(1)) as usize;
        let desk = &mut hall.desks[desk];
        let moment = Duration::from_micros(desk.chance.below(3000).into());
        match desk.chance.below(8) {
            0 => {
                for _ in 0..desk.chance.below(300) {
                    if !desk.submit(Nop, nop_ended)? {
                        break;
                    }
                }
                Ok(())
            }
            1 => desk.submit(Nop, nop_ended).map(drop),
            2..=3 => desk.submit_spare(Timeout::new(moment)).map(drop),
            4 => {
                let times = 1 + desk.chance.below(5);
                let repeated = TimeoutMulti::new(moment.max(Duration::from_micros(50)));
                desk.submit_many(repeated.times(times), |_| Ok(()), |_| Ok(())).map(drop)
            }
            5 => {
                let poll = Poll::new(Rc::clone(&self.silent), PollEvents::IN);
                // Not spare: detached, it would be in flight without end.
                desk.submit(poll, |_| Ok(())).map(drop)
            }
            6 => desk
                .submit_chain([Nop, Nop, Nop], 3, |chain| {
                    chain.outputs.into_iter().try_for_each(nop_ended)
                })
                .map(drop),
            _ => {
                let read = Read::new(Rc::clone(&self.silent), Vec::with_capacity(16));
                let chain = (read.within(moment),);
                desk.submit_chain(chain, 1, |chain| match chain.outputs.0.output.result {
                    Ok(count) => finding(format!("a silent pipe had {count} bytes")),
                    Err(error) => may_end("a read with a limit", &error),
                })
                .map(drop)
            }
        }
    }

    fn is_over(&self) -> bool {
        self.left == 0
    }

    fn end(self: Box<Self>, hall: &mut Hall, _: bool) -> Check {
        // The pipe stays silent, and open, until the rings are gone.
        hall.outlive(self.silent);
        hall.outlive(self.writer);
        Ok(())
    }

    fn name(&self) -> &'static str {
        "clocks"
    }
}
